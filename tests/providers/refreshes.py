"""Users whose tokens a provider refreshes, on one node or two."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import peewee
import pytest

from models.oauth_token import OAuthToken
from services.providers.refresh import ProviderToken
from services.sessions.session_views import SignedIn
from tests.support.oauth import NAME, came_to, finished, real_clock, settings_of
from tests.support.parts import Parts, node, session_row, settings_of_tests
from tests.support.provider import Provider, provider

WHILE = 3600.0
"""As long as an access token lives in these tests."""


@pytest.fixture
def op() -> Iterator[Provider]:
    with provider(expires_in=int(WHILE)) as running:
        yield running


@asynccontextmanager
async def a_node(database_url: str, *ops: Provider, **more: Any) -> AsyncIterator[Parts]:
    names = (NAME, *(f"other-{number}" for number in range(1, len(ops))))
    chosen = settings_of_tests(
        *(settings_of(op, name, **more) for op, name in zip(ops, names, strict=True))
    )
    async with node(database_url, clock=real_clock(), settings=chosen) as parts:
        yield parts


@asynccontextmanager
async def two_nodes(database_url: str, op: Provider) -> AsyncIterator[tuple[Parts, Parts]]:
    shared = settings_of_tests(settings_of(op))
    async with (
        node(database_url, clock=real_clock(), settings=shared) as here,
        node(database_url, clock=here.clock, settings=shared, name="other") as there,
    ):
        yield here, there


async def sign_in(parts: Parts, name: str = NAME) -> SignedIn:
    done = await finished(parts, await came_to(parts, name))
    assert done.signed_in is not None
    return done.signed_in


async def valid(parts: Parts, who: SignedIn, name: str = NAME) -> ProviderToken:
    return await parts.oauth.refresh.valid(who.user.id, name)


async def text(parts: Parts, who: SignedIn) -> str:
    return (await valid(parts, who)).access_token.reveal()


def sets(db: peewee.Database) -> list[dict[str, Any]]:
    query: Any = OAuthToken.select().order_by(OAuthToken.created_at, OAuthToken.id).dicts()
    return list(query.execute(db))


async def only_set(parts: Parts) -> dict[str, Any]:
    (row,) = await parts.database.run(sets)
    return row


def change(db: peewee.Database, values: dict[Any, Any]) -> None:
    OAuthToken.update(values).execute(db)


async def over(parts: Parts, who: SignedIn) -> str | None:
    """Why a login session has ended; None while it has not."""
    row = await parts.database.run(session_row, who.claims.sid)
    reason: str | None = row["end_reason"]
    return reason


def calls(op: Provider) -> int:
    """How often the provider was asked for new tokens."""
    return sum(seen.form.get("grant_type") == "refresh_token" for seen in op.at("token"))
