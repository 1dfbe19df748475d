"""Recovery codes, within the caller's transaction.

A code has 120 random bits, so a fast hash is sufficient (ASVS 6.5.2: from 112 bits on). The hash
includes the user's id, so equal codes of two users would not collide.
"""

from __future__ import annotations

import base64
import re
import secrets

import peewee

from models.totp_secret import RecoveryCode
from services.opaque import token_hash

CODES = 10
CODE_BYTES = 15
_CODE = re.compile(r"[a-z2-7]{24}")


def replace(db: peewee.Database, user_id: str) -> tuple[str, ...]:
    """Create new codes, which invalidate the previous ones."""
    codes = tuple(_made() for _ in range(CODES))
    RecoveryCode.delete().where(RecoveryCode.user == user_id).execute(db)
    rows = [{"hash": _hash(user_id, code), "user": user_id} for code in codes]
    RecoveryCode.insert_many(rows).execute(db)
    return codes


def use(db: peewee.Database, user_id: str, code: str) -> bool:
    """Use a code. Returns False if it is not one of the user's codes, or was already used."""
    hash_ = _hash(user_id, code)
    mine = (RecoveryCode.hash == hash_) & (RecoveryCode.user == user_id)
    return bool(RecoveryCode.delete().where(mine).execute(db))


def left(db: peewee.Database, user_id: str) -> int:
    """Number of unused codes of a user."""
    return int(RecoveryCode.select().where(RecoveryCode.user == user_id).count(db))


def is_recovery_code(code: str) -> bool:
    """Whether a text has the form of a recovery code."""
    return _CODE.fullmatch(_plain(code)) is not None


def _made() -> str:
    text = base64.b32encode(secrets.token_bytes(CODE_BYTES)).decode().lower()
    return "-".join(text[i : i + 4] for i in range(0, len(text), 4))


def _plain(code: str) -> str:
    return re.sub(r"[\s-]", "", code).lower()


def _hash(user_id: str, code: str) -> str:
    return token_hash(f"recovery\0{user_id}\0{_plain(code)}")
