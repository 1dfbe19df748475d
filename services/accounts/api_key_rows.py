"""Rows of API keys, within the caller's transaction."""

from __future__ import annotations

from typing import Any, Literal, cast

import msgspec
import peewee

from models.backend import ApiKey
from models.user import User
from services.errors import NotFound

USED_EVERY_SECONDS = 60.0
"""How often `last_used_at` is written, and how long a row is cached."""
NOBODY = "keys"
"""In place of a maker's id, where there is none."""

Scope = Literal["publish", "disconnect", "read", "introspect", "channels", "users"]


class KeyRow(msgspec.Struct, frozen=True):
    """A key, as shown to administrators. Times are epoch seconds.

    `created_by`: the id of its creator; None if it was created on the command line, or if the
    creator's account is deleted. `expires_at`: None for a key that does not expire.
    """

    id: str
    name: str
    scopes: list[Scope]
    created_at: float
    last_used_at: float | None
    expires_at: float | None = None
    created_by: str | None = None


def insert(db: peewee.Database, values: dict[str, object]) -> None:
    """Insert a key.

    Raises:
        peewee.IntegrityError: its creator's account is deleted.
    """
    ApiKey.insert(values).execute(db)


def row_of(key: ApiKey) -> KeyRow:
    """A key, as shown to administrators."""
    scopes = cast("list[Scope]", key.scopes.split())
    return KeyRow(
        key.id,
        key.name,
        scopes,
        key.created_at,
        key.last_used_at,
        key.expires_at,
        key.created_by,
    )


def use(db: peewee.Database, hash_: str, now: float) -> tuple[ApiKey, int] | None:
    """A key whose creator is still an enabled administrator, and the creator's generation."""
    good = (ApiKey.hash == hash_) & ApiKey.revoked_at.is_null()
    key = ApiKey.select().where(good).get_or_none(db)
    if key is None:
        return None
    generation = 0
    if not key.made_by_command:
        may = (User.id == key.created_by) & (User.role == "admin") & User.disabled_at.is_null()
        maker: Any = User.select(User.generation).where(may).get_or_none(db)
        if maker is None:
            return None
        generation = maker.generation
    if key.last_used_at is None or key.last_used_at < now - USED_EVERY_SECONDS:
        ApiKey.update({ApiKey.last_used_at: now}).where(ApiKey.id == key.id).execute(db)
    return key, generation


def hashes(db: peewee.Database) -> frozenset[str]:
    """The hashes of the keys that are not revoked."""
    rows = ApiKey.select(ApiKey.hash).where(ApiKey.revoked_at.is_null())
    return frozenset(row.hash for row in rows.execute(db))


def active(db: peewee.Database) -> list[KeyRow]:
    """The keys that are not revoked, newest first."""
    good = ApiKey.select().where(ApiKey.revoked_at.is_null())
    return [row_of(key) for key in good.order_by(ApiKey.created_at.desc()).execute(db)]


def revoke(db: peewee.Database, key_id: str, now: float) -> str:
    """Revoke a key. Returns the id of its creator.

    Raises:
        NotFound: there is no such key, or it is already revoked.
    """
    good = (ApiKey.id == key_id) & ApiKey.revoked_at.is_null()
    changed = ApiKey.update({ApiKey.revoked_at: now}).where(good).execute(db)
    if not changed:
        raise NotFound("no such key")
    key = ApiKey.select(ApiKey.created_by).where(ApiKey.id == key_id).get(db)
    return key.created_by or NOBODY
