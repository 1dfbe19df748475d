"""Sessions of a provider's users on one node or two, and logout tokens for them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import peewee
import pytest

from services.sessions.session_views import SignedIn
from tests.support.oauth import NAME, came_to, finished, real_clock, settings_of
from tests.support.parts import Parts, node, session_row, settings_of_tests
from tests.support.provider import Provider, provider
from tests.support.redis import RealRedis


@pytest.fixture
def op() -> Iterator[Provider]:
    with provider() as running:
        yield running


@asynccontextmanager
async def a_node(database_url: str, *ops: Provider) -> AsyncIterator[Parts]:
    names = (NAME, "second")[: len(ops)]
    rows = (settings_of(op, name) for op, name in zip(ops, names, strict=True))
    shared = settings_of_tests(*rows)
    async with node(database_url, clock=real_clock(), settings=shared) as parts:
        yield parts


@asynccontextmanager
async def two_nodes(
    database_url: str, op: Provider, redis: RealRedis | None = None
) -> AsyncIterator[tuple[Parts, Parts]]:
    shared = settings_of_tests(settings_of(op))
    async with (
        node(database_url, redis, real_clock(), settings=shared) as here,
        node(database_url, redis, here.clock, settings=shared, name="other") as there,
    ):
        yield here, there


async def sign_in(parts: Parts, name: str = NAME) -> SignedIn:
    done = await finished(parts, await came_to(parts, name))
    assert done.signed_in is not None
    return done.signed_in


async def hear(parts: Parts, token: str, name: str = NAME) -> int:
    return await parts.oauth.logout.receive(name, token)


async def over(parts: Parts, who: SignedIn) -> str | None:
    row = await parts.database.run(session_row, who.claims.sid)
    reason: str | None = row["end_reason"]
    return reason


async def active(parts: Parts, *all_: SignedIn) -> list[bool]:
    return [await over(parts, one) is None for one in all_]


def rename(db: peewee.Database, who: SignedIn, sid: str | None) -> None:
    table: Any = peewee.Table("login_sessions", ("id", "provider_sid")).bind(db)
    table.update(provider_sid=sid).where(table.id == who.claims.sid).execute()
