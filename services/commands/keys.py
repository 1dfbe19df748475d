"""`rotate-jwt` and `rotate-keys`: rotate secrets while the server runs, without closing sockets."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import msgspec
import peewee

from services.backends.app_keys import add_pair, has_pair
from services.errors import DatabaseUnavailable, SettingError, UsherError
from services.providers.key_rotation import rotate_keys
from services.settings.data_dir import running_server
from services.settings.generated_keys import (
    ENCRYPTION_KEYS_FILE,
    JWT_SECRETS_FILE,
    add_encryption_key,
    add_jwt_secret,
)
from services.settings.settings import Settings
from services.storage.database import Database
from services.storage.database_url import is_there
from services.storage.encryption import DecryptionFailed, Encryption

RELOAD_SECONDS = 10.0
NOT_TOLD = "send SIGHUP to every server that reads this folder"


class NotReloaded(UsherError):
    """A running server did not confirm that it has reloaded its settings."""


class JwtRotated(msgspec.Struct, frozen=True):
    """`secrets`: how many verify now. `reloaded`: the process that has read them."""

    secrets: int
    reloaded: int | None


class KeysRotated(msgspec.Struct, frozen=True):
    """`rotated`: sets of provider tokens under the newest key. `new_key`: whether one was made.
    `app_key`: whether app tokens get a new key pair."""

    rotated: int
    new_key: bool
    app_key: bool
    reloaded: int | None


async def rotate_jwt(chosen: Settings) -> JwtRotated:
    """Add a new secret in front of those in DATA_DIR, and make a running server reload it.

    Raises:
        SettingError: the secrets are not in DATA_DIR.
        DatabaseUnavailable: there is no installation in DATA_DIR.
        NotReloaded: the secret is written, but the server did not reload it.
    """
    _check_there(chosen)
    path = chosen.data_dir / JWT_SECRETS_FILE
    if path not in chosen.key_files:
        takes = "a new secret in front of it, where it is set; then a restart, or SIGHUP for a file"
        raise SettingError("USHER_JWT_SECRETS", "a setting", takes)
    count = await asyncio.to_thread(add_jwt_secret, chosen.data_dir)
    return JwtRotated(count, await _reload(chosen))


async def rotate_encryption_keys(chosen: Settings) -> KeysRotated:
    """Re-encrypt stored data with the newest key. If the keys are in DATA_DIR, a new key is
    generated first. Afterwards a new key pair for app tokens is generated.

    Raises:
        DecryptionFailed: the keys are not this installation's, or no key fits some tokens.
        DatabaseUnavailable: the database cannot be opened.
        NotReloaded: a new key is written, but the server did not reload it.
    """
    _check_there(chosen)
    keys, reloaded = chosen.encryption_keys, None
    makes = chosen.embedded and chosen.data_dir / ENCRYPTION_KEYS_FILE in chosen.key_files
    database = await Database.open(chosen.database_url.reveal())
    try:
        if makes:
            # The server must have the new key before any data is encrypted with it.
            keys = await asyncio.to_thread(add_encryption_key, chosen.data_dir)
            reloaded = await _reload(chosen)
        encryption = Encryption(keys)
        done = await rotate_keys(database, encryption)
        app_key = not done.unreadable and await database.run(_add_pair, encryption, time.time())
    finally:
        await database.close()
    if done.unreadable:
        raise DecryptionFailed(
            f"sets of provider tokens that no key fits, left as they are: {done.unreadable}; "
            "keep the older keys until you know why"
        )
    return KeysRotated(done.rotated, makes, app_key, reloaded)


def _add_pair(db: peewee.Database, encryption: Encryption, now: float) -> bool:
    if not has_pair(db):
        return False
    add_pair(db, encryption, now)
    return True


def _check_there(chosen: Settings) -> None:
    if not is_there(chosen.database_url.reveal()):
        raise DatabaseUnavailable("there is no database at that place yet; is it the right one?")


async def _reload(chosen: Settings) -> int | None:
    """Make the server that uses DATA_DIR reload its settings. None if no server is running."""
    before = running_server(chosen.data_dir) if chosen.embedded else None
    if before is None:
        return None
    os.kill(before.process, signal.SIGHUP)
    loop = asyncio.get_running_loop()
    end = loop.time() + RELOAD_SECONDS
    while loop.time() < end:
        now = running_server(chosen.data_dir)
        if now is None or now.process != before.process or now.reloads > before.reloads:
            return before.process
        await asyncio.sleep(0.05)
    raise NotReloaded(f"process {before.process} has not read its settings anew; see its log")
