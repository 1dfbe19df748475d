"""Channels, their members, and what they tell of changed rights."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import peewee

from models.revocation import Revocation as Row
from services.errors import UsherError
from services.grants.rules import Grant, Right
from services.rooms.channels import Channels
from services.sessions.control import Revocation
from services.sessions.revocations import Revocations
from tests.support.parts import Parts, node

READ, WRITE, MANAGE = Right.READ, Right.WRITE, Right.MANAGE
HOUR = 3600.0


class Telling:
    """Real revocations; also records the "access" rows that are committed when announced."""

    def __init__(self, parts: Parts) -> None:
        self._parts, self.record = parts, parts.revocations.record
        self.reported: list[tuple[str, str, str]] = []

    async def publish(self, revocations: Sequence[Revocation]) -> None:
        committed = await self._parts.database.run(_access_rows)
        for entry in revocations:
            assert (entry.subject, entry.user_id, entry.reason) in committed
            self.reported.append((entry.subject, entry.user_id, entry.reason))
        await self._parts.revocations.publish(revocations)


@dataclass
class Bench:
    """A node with channels, and an owner with a private one of an hour ago."""

    parts: Parts
    channels: Channels
    telling: Telling
    owner: str
    id: str

    @property
    def now(self) -> float:
        return self.parts.clock()

    def later(self, seconds: float = HOUR) -> float:
        self.parts.clock.forward(seconds)
        return self.now

    async def user(self, role: str = "user") -> str:
        return await self.parts.user(role=role)

    async def member(self, right: Right = WRITE) -> str:
        user_id = await self.user()
        await self.channels.put_member(self.owner, self.id, user_id, right)
        return user_id

    async def grant(self, user_id: str) -> Grant | None:
        """By both ways of asking, which must agree."""
        one = (await self.channels.grants_in(self.id, [user_id])).get(user_id)
        assert (await self.channels.grants_of(user_id, [self.id])).get(self.id) == one
        return one

    async def rows(self, model: type[peewee.Model]) -> list[dict[str, Any]]:
        def read(db: peewee.Database) -> list[dict[str, Any]]:
            return list(cast("Any", model.select().dicts()).execute(db))

        return await self.parts.database.run(read)

    def new_changes(self) -> list[tuple[str, str]]:
        """Whose rights changed since the last time that this was asked, and why."""
        reported, self.telling.reported = self.telling.reported, []
        assert {subject for subject, _, _ in reported} <= {self.id}
        return [(user_id, reason) for _, user_id, reason in reported]


@asynccontextmanager
async def bench(database_url: str) -> AsyncIterator[Bench]:
    async with node(database_url) as parts:
        telling = Telling(parts)
        channels = Channels(parts.database, cast("Revocations", telling), parts.clock)
        owner = await parts.user("Owner")
        channel = await channels.create(owner, "Herons")
        result = Bench(parts, channels, telling, owner, channel.id)
        assert result.new_changes() == [(owner, "channel_opened")]
        result.later()
        yield result


def _access_rows(db: peewee.Database) -> list[tuple[str, str, str]]:
    query: Any = Row.select(Row.subject, Row.user_id, Row.reason).where(Row.kind == "access")
    return [tuple(row) for row in query.tuples().execute(db)]


async def outcomes(*calls: Awaitable[Any]) -> list[Any]:
    """What calls at once gave: values and refusals; anything else fails the test."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, UsherError):
            raise result
    return results
