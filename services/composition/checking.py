"""`check`: checks what an installation depends on, and says what is wrong and what to do.

A database that does not exist yet is not created. One of an older version is migrated, as by every
command and every start.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Literal

import msgspec
import peewee

from models.user import User
from services.composition.infrastructure import (
    COMMAND_SECONDS,
    embedded_store,
    remote_store,
)
from services.embedded.binary import find_redis_server
from services.errors import SettingError, UsherError
from services.mail.parts import smtp_of
from services.mail.transports import FOLDER
from services.providers.registry import Connection, Providers
from services.redis.store_cluster import ClusterStore
from services.redis.store_redis import RedisStore
from services.settings.data_dir import running_server
from services.settings.settings import Settings
from services.storage.database import Database
from services.storage.database_url import is_there
from services.storage.encryption import Encryption, check_canary

State = Literal["ok", "warning", "failed"]


class Finding(msgspec.Struct, frozen=True):
    """The result of one check.

    Attributes:
        name: what was checked.
        said: the result, without secrets.
        help: what to do; empty if nothing.
    """

    name: str
    state: State
    said: str
    help: str = ""


class CheckFailed(UsherError):
    """Something is wrong with the installation."""


async def check(chosen: Settings, public_url: str) -> list[Finding]:
    """Check the settings, the database, Redis, mail and the providers."""
    found = [_settings(chosen)]
    for part in (_database, _redis):
        found += await part(chosen)
    found.append(await _mail(chosen, public_url))
    providers = Providers(chosen.oauth_providers, public_url)
    try:
        found += await asyncio.gather(*map(_provider, providers))
    finally:
        providers.close()
    return found


def check_text(finding: Finding) -> str:
    """One finding as text."""
    text = f"{finding.state:<8}{finding.name}: {finding.said}"
    return f"{text}\n        {finding.help}" if finding.help else text


def _settings(chosen: Settings) -> Finding:
    if not chosen.warnings:
        return Finding("settings", "ok", "can be used")
    return Finding("settings", "warning", "; ".join(chosen.warnings))


async def _database(chosen: Settings) -> list[Finding]:
    url = chosen.database_url.reveal()
    try:
        if not is_there(url):
            said = "there is none yet at that place"
            return [
                Finding("database", "warning", said, "The first start of the server creates it.")
            ]
        database = await Database.open(url)
    except SettingError as error:
        return [Finding("database", "failed", f"got {error.got}", f"It takes {error.takes}.")]
    except UsherError as error:
        advice = "Check DATABASE_URL, and that the database is running and can be written."
        return [Finding("database", "failed", error.evidence or error.title, advice)]
    try:
        await database.ping()
        return [
            Finding("database", "ok", f"{database.kind}, can be written"),
            await _encryption(chosen, database),
            await _administrators(database),
        ]
    except UsherError as error:
        advice = "Check free space, and that no other process locks it."
        return [Finding("database", "failed", error.evidence or error.title, advice)]
    finally:
        await database.close()


async def _encryption(chosen: Settings, database: Database) -> Finding:
    if await check_canary(database, Encryption(chosen.encryption_keys)):
        return Finding("encryption keys", "ok", "fit the data")
    return Finding(
        "encryption keys",
        "failed",
        "do not fit the data in the database",
        "Set ENCRYPTION_KEYS to those of this installation, or DATA_DIR to the folder with them.",
    )


async def _administrators(database: Database) -> Finding:
    def count(db: peewee.Database) -> tuple[int, int]:
        enabled = (User.role == "admin") & User.disabled_at.is_null()
        return User.select().where(enabled).count(db), User.select().count(db)

    admins, people = await database.read(count)
    if not people:
        return Finding("accounts", "ok", "none yet; the first becomes administrator")
    said = f"{people}, administrators among them: {admins}"
    if admins:
        return Finding("accounts", "ok", said)
    return Finding("accounts", "failed", said, "Run the command `make-admin EMAIL`.")


async def _redis(chosen: Settings) -> list[Finding]:
    if chosen.redis_url is None:
        return [await _embedded_redis(chosen)]
    try:
        store = remote_store(chosen)
    except SettingError as error:
        return [Finding("redis", "failed", f"got {error.got}", f"It takes {error.takes}.")]
    assert store is not None
    return [await _store(store, "Check REDIS_URL, and that Redis is running and can be written.")]


async def _embedded_redis(chosen: Settings) -> Finding:
    if find_redis_server() is None:
        said = "no redis-server was found: tickets and presence live in the server process only"
        return Finding("redis", "warning", said, "Install redis-server or valkey-server.")
    if running_server(chosen.data_dir) is None:
        return Finding("redis", "ok", "embedded; starts with the server")
    return await _store(embedded_store(chosen), "See redis/redis.log in DATA_DIR.")


async def _store(store: RedisStore | ClusterStore, advice: str) -> Finding:
    try:
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(store.connect(), COMMAND_SECONDS)
        if store.available:
            return Finding("redis", "ok", "answers, and can be written")
        reason = store.reason if isinstance(store, RedisStore) else "no node answers for all slots"
        said = f"{reason}; meanwhile servers use the database instead"
        return Finding("redis", "failed", said, advice)
    finally:
        await store.close()


async def _mail(chosen: Settings, public_url: str) -> Finding:
    smtp = smtp_of(chosen, public_url)
    if smtp is None:
        folder = chosen.data_dir / FOLDER
        place = next((path for path in (folder, *folder.parents) if path.exists()), folder)
        if not await asyncio.to_thread(os.access, place, os.W_OK):
            return Finding("mail", "failed", f"{folder} cannot be written", "Check DATA_DIR.")
        advice = "To send mails, set SMTP_URL and MAIL_FROM."
        return Finding("mail", "warning", f"mails are written to {folder}, not sent", advice)
    return await _tried("mail", smtp.check, "the server lets us sign in", "Check SMTP_URL.")


async def _provider(connection: Connection) -> Finding:
    async def ask() -> None:
        await connection.ask(lambda provider: provider.check())

    stem = f"OAUTH_{connection.name.upper().replace('-', '_')}_"
    advice = f"Check {stem}ISSUER, and that this machine reaches the provider."
    return await _tried(f"provider {connection.name}", ask, "can be reached", advice)


async def _tried(name: str, act: Callable[[], Awaitable[None]], good: str, advice: str) -> Finding:
    try:
        await act()
    except UsherError as error:
        return Finding(name, "failed", error.evidence or error.title, advice)
    return Finding(name, "ok", good)
