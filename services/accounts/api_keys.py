"""API keys for backends: created by an administrator, shown once, stored as a hash, with scopes."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from typing import Literal, cast

import msgspec
import peewee

from models.backend import ApiKey
from services.accounts.display_names import checked_text
from services.errors import BadRequest, Forbidden, NotFound, Unauthenticated
from services.opaque import opaque_token, token_hash
from services.secret import Secret
from services.storage.database import Database

PREFIX = "usher_key_"
"""So that secret scanners find a key that leaked into a repository."""
MAX_KEY_LENGTH = 128
MAX_NAME_LENGTH = 100
USED_EVERY_SECONDS = 60.0
"""`last_used_at` is written this often, not on every call."""

Scope = Literal["publish", "disconnect", "read"]


class KeyRow(msgspec.Struct, frozen=True):
    """A key as an administrator may see it. Times are epoch seconds."""

    id: str
    name: str
    scopes: list[Scope]
    created_at: float
    last_used_at: float | None


class ApiKeys:
    """Makes, checks, lists and revokes keys."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database, self._clock = database, clock

    async def create(
        self, name: str, scopes: Sequence[Scope], created_by: str
    ) -> tuple[KeyRow, Secret]:
        """A new key. The secret is given this one time.

        Raises:
            BadRequest: no scope, or a name that can't be one.
            Unauthenticated: the account of who makes it is gone.
        """
        if not scopes:
            raise BadRequest("key without a scope", detail="scopes: at least one")
        shown = checked_text(name, "name", MAX_NAME_LENGTH)
        key, key_id, now = opaque_token(PREFIX), secrets.token_urlsafe(16), self._clock()
        wanted = sorted(set(scopes))
        values = {
            "id": key_id,
            "hash": token_hash(key.reveal()),
            "name": shown,
            "scopes": " ".join(wanted),
            "created_by": created_by,
            "created_at": now,
        }
        try:
            await self._database.run(_insert, values)
        except peewee.IntegrityError as error:
            raise Unauthenticated("API key: its maker's account is gone") from error
        return KeyRow(key_id, shown, list(wanted), now, None), key

    async def check(self, key: str, scope: Scope) -> str:
        """The id of a good key that may do this.

        Raises:
            Unauthenticated: unknown or revoked.
            Forbidden: good, but not for this.
        """
        if len(key) > MAX_KEY_LENGTH:
            raise Unauthenticated("API key: too long")
        found = await self._database.run(_use, token_hash(key), self._clock())
        if found is None:
            raise Unauthenticated("API key: unknown or revoked")
        if scope not in found.scopes:
            raise Forbidden(f"API key {found.id}: without the scope {scope}")
        return found.id

    async def living(self) -> list[KeyRow]:
        """The keys that are good, newest first."""
        return await self._database.run(_living)

    async def revoke(self, key_id: str) -> None:
        """Make a key good for nothing, from now on and on every node.

        Raises:
            NotFound: there is no such good key.
        """
        if not await self._database.run(_revoke, key_id, self._clock()):
            raise NotFound("no such key")


def _insert(db: peewee.Database, values: dict[str, object]) -> None:
    ApiKey.insert(values).execute(db)


def _row(key: ApiKey) -> KeyRow:
    scopes = cast("list[Scope]", key.scopes.split())
    return KeyRow(key.id, key.name, scopes, key.created_at, key.last_used_at)


def _use(db: peewee.Database, hash_: str, now: float) -> KeyRow | None:
    good = (ApiKey.hash == hash_) & ApiKey.revoked_at.is_null()
    key = ApiKey.select().where(good).get_or_none(db)
    if key is None:
        return None
    if key.last_used_at is None or key.last_used_at < now - USED_EVERY_SECONDS:
        ApiKey.update({ApiKey.last_used_at: now}).where(ApiKey.id == key.id).execute(db)
    return _row(key)


def _living(db: peewee.Database) -> list[KeyRow]:
    good = ApiKey.select().where(ApiKey.revoked_at.is_null())
    return [_row(key) for key in good.order_by(ApiKey.created_at.desc()).execute(db)]


def _revoke(db: peewee.Database, key_id: str, now: float) -> bool:
    good = (ApiKey.id == key_id) & ApiKey.revoked_at.is_null()
    return bool(ApiKey.update({ApiKey.revoked_at: now}).where(good).execute(db))
