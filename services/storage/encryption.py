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
    """The ciphertext was encrypted with another key, or was modified."""


class Encryption:
    """Encrypts with the newest key, and decrypts with any of the keys.

    Args:
        keys: Fernet keys, newest first.

    Raises:
        SettingError: there is no key, or one is not a Fernet key.
    """

    def __init__(self, keys: Sequence[Secret]) -> None:
        self._fernet = _keyring(keys)

    def replace_keys(self, keys: Sequence[Secret]) -> None:
        """Replace the keys. Newest first.

        Raises:
            SettingError: as the constructor; nothing is changed.
        """
        self._fernet = _keyring(keys)

    def encrypt(self, plain: bytes | str) -> str:
        """Encrypt bytes, or text as UTF-8. The ciphertext is URL-safe."""
        data = plain.encode() if isinstance(plain, str) else plain
        return self._fernet.encrypt(data).decode("ascii")

    def decrypt(self, ciphertext: str) -> bytes:
        """Decrypt a ciphertext.

        Raises:
            DecryptionFailed: none of the keys fits, or the ciphertext was modified.
        """
        try:
            return self._fernet.decrypt(ciphertext.encode("ascii"))
        except (InvalidToken, UnicodeEncodeError) as error:
            raise DecryptionFailed("no encryption key fits") from error

    def rotate(self, ciphertext: str) -> str:
        """Re-encrypt a ciphertext with the newest key. Its time stamp is kept.

        Raises:
            DecryptionFailed: none of the keys fits, or the ciphertext was modified.
        """
        try:
            return self._fernet.rotate(ciphertext.encode("ascii")).decode("ascii")
        except (InvalidToken, UnicodeEncodeError) as error:
            raise DecryptionFailed("no encryption key fits") from error


def generate_key() -> Secret:
    """Generate a Fernet key from the system's random source."""
    return Secret(Fernet.generate_key().decode("ascii"))


async def check_canary(database: Database, encryption: Encryption) -> bool:
    """Whether these are the keys that the installation's data is encrypted with.

    The first start stores an encrypted known text, the canary. Later starts decrypt it. With a
    wrong key nothing is changed, and restoring the right key is enough.

    Raises:
        DatabaseUnavailable, Busy: as `Database.run`.
    """
    stored = await database.run(_stored_canary, encryption.encrypt(CANARY_TEXT))
    try:
        return encryption.decrypt(stored) == CANARY_TEXT
    except DecryptionFailed:
        return False


async def rotate_canary(database: Database, encryption: Encryption) -> None:
    """Re-encrypt the canary with the newest key. This is the last step of a key rotation, so that
    removing the old key too early is still detected.

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
        # The library's message describes the key, so it is not chained.
        raise SettingError(SETTING, f"{MASK} as key {place}", TAKES) from None


def _stored_canary(db: peewee.Database, fresh: str) -> str:
    # If several nodes start for the first time at once, the first one's canary is kept.
    row = {"key": CANARY, "value": fresh}
    Installation.insert(row).on_conflict_ignore().execute(db)
    found = Installation.select().where(Installation.key == CANARY).get(db)
    return str(found.value)


def _replace_canary(db: peewee.Database, old: str, new: str) -> None:
    same = (Installation.key == CANARY) & (Installation.value == old)
    Installation.update({"value": new}).where(same).execute(db)
