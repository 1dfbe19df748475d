"""API keys of an administrator."""

from __future__ import annotations

from typing import Any, cast

import peewee

from models.backend import ApiKey
from services.accounts.api_key_rows import Scope
from tests.support.parts import Parts

SCOPES: tuple[Scope, ...] = ("publish", "disconnect", "read", "introspect", "channels", "users")


def rows(db: peewee.Database) -> list[dict[str, Any]]:
    return list(cast("Any", ApiKey.select().dicts()).execute(db))


async def make(parts: Parts, *scopes: Scope, name: str = "billing") -> tuple[str, str]:
    """A key: its id and what was shown."""
    row, key = await parts.api_keys.create(
        name, scopes or SCOPES, await parts.user("Root", "admin")
    )
    return row.id, key.reveal()
