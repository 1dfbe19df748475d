"""Who wrote the messages of a history: authors whose accounts are gone are shown without a name.

A room's log keeps the name that an author had. When the account is deleted, its messages stay for
the others, for as long as histories are kept, and no longer say whose they are.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec
import peewee

from models.user import User
from services.bus.bus import Window
from services.grants.queries import USERS_AT_ONCE
from services.storage.batched_reads import BatchedReads
from services.storage.database import Database

# As `message_body` in room_protocol.py begins; the room and the id need no escape.
_AUTHOR = re.compile(
    rb'\A("room":"[^"\\]*","from":\{"id":"([A-Za-z0-9_-]{1,64})","name":)"(?:[^"\\]|\\.)*"\}'
)
_GONE = rb'\1"","gone":true}'


class Authors:
    """Looks authors up in the database."""

    def __init__(self, database: Database) -> None:
        self._names = BatchedReads(database, _names, "authors")

    async def close(self) -> None:
        """Stop looking names up. Those who wait are refused."""
        await self._names.close()

    async def names(self, user_ids: Sequence[str]) -> dict[str, str]:
        """The current names of those accounts that exist, by id.

        Raises:
            DatabaseUnavailable: they can't be looked up.
        """
        return await self._names.of(user_ids)

    async def shown(self, window: Window, existing: set[str]) -> Window:
        """The same part of a history, without the names of authors whose accounts are gone.

        Args:
            existing: authors who exist. It grows, so that a later call asks for the others only.

        Raises:
            DatabaseUnavailable: the authors can't be looked up.
        """
        authors = {author_of(message.body) for message in window.messages} - {None}
        unknown = sorted(author for author in authors if author and author not in existing)
        if unknown:
            existing.update(await self.names(unknown))
        gone = {author for author in unknown if author not in existing}
        if not gone:
            return window
        messages = [
            msgspec.structs.replace(message, body=without_name(message.body))
            if author_of(message.body) in gone
            else message
            for message in window.messages
        ]
        return msgspec.structs.replace(window, messages=messages)


def author_of(body: bytes) -> str | None:
    """The id of the author of a logged message; None for an event that a backend published."""
    found = _AUTHOR.match(body)
    return None if found is None else found[2].decode()


def without_name(body: bytes) -> bytes:
    """A logged message whose author is gone."""
    return _AUTHOR.sub(_GONE, body, count=1)


def _names(db: peewee.Database, asked: list[Sequence[str]]) -> list[dict[str, str]]:
    ids, names = list(dict.fromkeys(each for some in asked for each in some)), dict[str, str]()
    for start in range(0, len(ids), USERS_AT_ONCE):
        some = User.id.in_(ids[start : start + USERS_AT_ONCE])
        query: Any = User.select(User.id, User.name).where(some)
        names.update(query.tuples().execute(db))
    return [{each: names[each] for each in some if each in names} for some in asked]
