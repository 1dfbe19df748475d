"""Encryption at rest, for provider tokens in the database.

Fernet: AES-128-CBC with HMAC-SHA-256, authenticated, from `cryptography` (ASVS 6.2.1).
"""

from __future__ import annotations

from collections.abc import Sequence

import peewee
from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from models.installation import Installation
from services.errors import SettingError, UsherError
from services.secret import MASK, Secret
from services.storage.database import Database

SETTING = "USHER_ENCRYPTION_KEYS"
TAKES = "Fernet keys (32 bytes, URL-safe Base64), newest first, comma-separated"
CANARY = "encryption_canary"
CANARY_TEXT = b"usher: these keys are the right ones"


class DecryptionFailed(UsherError):
    """The ciphertext was made with another key, or was changed."""


class Encryption:
    """Encrypts with the newest key, decrypts with any.

    Args:
        keys: Fernet keys, newest first.

    Raises:
        SettingError: there is none, or one is not a Fernet key.
    """

    def __init__(self, keys: Sequence[Secret]) -> None:
        self._fernet = _keyring(keys)

    def replace_keys(self, keys: Sequence[Secret]) -> None:
        """Go on with other keys, newest first.

        Raises:
            SettingError: as the constructor; nothing is changed.
        """
        self._fernet = _keyring(keys)

    def encrypt(self, plain: bytes | str) -> str:
        """Ciphertext, URL-safe. Text is taken as UTF-8."""
        data = plain.encode() if isinstance(plain, str) else plain
        return self._fernet.encrypt(data).decode("ascii")

    def decrypt(self, ciphertext: str) -> bytes:
        """The plain bytes.

        Raises:
            DecryptionFailed: no key fits, or it was changed.
        """
        try:
            return self._fernet.decrypt(ciphertext.encode("ascii"))
        except (InvalidToken, UnicodeEncodeError) as error:
            raise DecryptionFailed("no encryption key fits") from error

    def rotate(self, ciphertext: str) -> str:
        """The same content under the newest key, with its original time stamp.

        Raises:
            DecryptionFailed: no key fits, or it was changed.
        """
        try:
            return self._fernet.rotate(ciphertext.encode("ascii")).decode("ascii")
        except (InvalidToken, UnicodeEncodeError) as error:
            raise DecryptionFailed("no encryption key fits") from error


def generate_key() -> Secret:
    """A new Fernet key from the system's random source."""
    return Secret(Fernet.generate_key().decode("ascii"))


async def check_canary(database: Database, encryption: Encryption) -> bool:
    """Whether these are the keys that this installation's data were encrypted with.

    The first start leaves a known text encrypted. Later starts decrypt it. With a wrong key
    nothing is changed: bringing the right key back is all it takes.

    Raises:
        DatabaseUnavailable, Busy: as `Database.run`.
    """
    stored = await database.run(_stored_canary, encryption.encrypt(CANARY_TEXT))
    try:
        return encryption.decrypt(stored) == CANARY_TEXT
    except DecryptionFailed:
        return False


async def rotate_canary(database: Database, encryption: Encryption) -> None:
    """Puts the canary under the newest key. The last step of a key rotation, after all data:
    until then dropping the old key is still noticed.

    Raises:
        DecryptionFailed: the keys are not this installation's.
        DatabaseUnavailable, Busy: as `Database.run`.
    """
    stored = await database.run(_stored_canary, encryption.encrypt(CANARY_TEXT))
    await database.run(_replace_canary, stored, encryption.rotate(stored))


def _keyring(keys: Sequence[Secret]) -> MultiFernet:
    if not keys:
        raise SettingError(SETTING, "nothing", TAKES)
    return MultiFernet([_fernet(key, place) for place, key in enumerate(keys, 1)])


def _fernet(key: Secret, place: int) -> Fernet:
    try:
        return Fernet(key.reveal())
    except ValueError:
        # The library's message is about the key's content; it stays out of the chain.
        raise SettingError(SETTING, f"{MASK} as key {place}", TAKES) from None


def _stored_canary(db: peewee.Database, fresh: str) -> str:
    # Of several nodes that start for the first time at once the first one's stays.
    row = {"key": CANARY, "value": fresh}
    Installation.insert(row).on_conflict_ignore().execute(db)
    found = Installation.select().where(Installation.key == CANARY).get(db)
    return str(found.value)


def _replace_canary(db: peewee.Database, old: str, new: str) -> None:
    same = (Installation.key == CANARY) & (Installation.value == old)
    Installation.update({"value": new}).where(same).execute(db)
