"""Login sessions read from the database for joins: many of them with the same few queries."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

import asyncpg
import msgspec
import pytest

from models.user import User
from services.errors import Busy, DatabaseUnavailable
from services.sessions import login_states
from services.sessions.session_views import SignedIn
from tests.sessions.joins import Queries, logout, queries
from tests.support.parts import Parts, database_away, node
from tests.support.redis import PATIENCE

__all__ = ["queries"]


async def person(parts: Parts, name: str) -> SignedIn:
    return await parts.signed_in(await parts.user(name))


async def states(parts: Parts, people: list[SignedIn]) -> list[str | None]:
    """The names that the database knows for those who ask in one turn of the loop."""
    asked = (parts.admission.login_states.of(each.claims) for each in people)
    return [None if found is None else found.name for found in await asyncio.gather(*asked)]


@pytest.mark.gen_test
async def test_a_crowd_costs_as_many_queries_as_two_users(
    database_url: str, queries: Queries
) -> None:
    async with node(database_url) as parts:
        people = [await person(parts, f"P{number}") for number in range(12)]
        costs = []
        for count in (2, 11):
            await states(parts, people[:1])  # nothing is being read any more
            queries.begin()
            found = await states(parts, people[-count:])
            costs.append(queries.count)
            assert found == [f"P{number}" for number in range(12 - count, 12)]
        # The first of a turn is read alone, and all who came behind it together.
        assert 0 < costs[0] == costs[1]


@pytest.mark.gen_test
async def test_each_of_a_crowd_gets_their_own_answer(database_url: str) -> None:
    async with node(database_url) as parts:
        people = [await person(parts, f"P{number}") for number in range(6)]
        await logout(parts, people[2])
        disabled = User.update({User.disabled_at: 1.0}).where(User.id == people[4].user.id)
        await parts.database.run(disabled.execute)
        assert await states(parts, [*people, people[0]]) == [
            *("P0", "P1", None, "P3", None, "P5", "P0"),
        ]


@pytest.mark.gen_test
async def test_a_session_of_one_user_is_not_anothers(database_url: str) -> None:
    async with node(database_url) as parts:
        one, other = await parts.signed_in(), await parts.signed_in()
        mixed = msgspec.structs.replace(one.claims, sid=other.claims.sid)
        assert await parts.admission.login_states.of(mixed) is None


@pytest.mark.gen_test
async def test_a_cancelled_waiter_takes_no_reply_of_another(database_url: str) -> None:
    async with node(database_url) as parts:
        people = [await person(parts, f"P{number}") for number in range(4)]
        tasks = [asyncio.ensure_future(states(parts, [each])) for each in people]
        await asyncio.sleep(0)
        for gone in tasks[:3]:
            gone.cancel()
        assert await tasks[3] == ["P3"]
        assert await states(parts, people) == ["P0", "P1", "P2", "P3"]


@pytest.mark.gen_test
async def test_without_the_database_all_waiters_are_refused_and_later_ones_are_read(
    database_url: str,
) -> None:
    async with node(database_url) as parts:
        people = [await parts.signed_in() for _ in range(5)]
        await database_away(parts)
        asked = [parts.admission.login_states.of(each.claims) for each in people]
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [DatabaseUnavailable] * 5


@pytest.mark.gen_test
async def test_more_than_may_wait_are_refused_and_the_others_answered(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(login_states, "MAX_WAITING", 2)
    async with node(database_url) as parts:
        people = [await parts.signed_in() for _ in range(3)]
        asked = [parts.admission.login_states.of(each.claims) for each in people]
        *found, last = await asyncio.gather(*asked, return_exceptions=True)
        assert isinstance(last, Busy)
        assert not [each for each in found if isinstance(each, BaseException) or each is None]


@pytest.mark.gen_test
async def test_waiters_are_refused_when_the_node_stops(database_url: str) -> None:
    async with node(database_url) as parts:
        login = await parts.signed_in()
        asked = asyncio.ensure_future(parts.admission.login_states.of(login.claims))
        await asyncio.sleep(0)
        await parts.admission.login_states.close()
        with pytest.raises(DatabaseUnavailable):
            await asked
        # Whoever asks later does not wait for a reader that is gone.
        found = await asyncio.wait_for(parts.admission.login_states.of(login.claims), PATIENCE)
        assert found is not None


@asynccontextmanager
async def being_written(url: str, user_id: str) -> AsyncIterator[None]:
    """Another process has changed a user's row and does not commit: on SQLite nobody else can write
    meanwhile, on PostgreSQL nobody that row."""
    change = "UPDATE users SET name = name WHERE id = "
    if url.startswith("sqlite:"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as file:
            file.execute("BEGIN IMMEDIATE")
            file.execute(f"{change}?", [user_id])
            yield
            file.execute("COMMIT")
        return
    link = await asyncpg.connect(url)
    try:
        async with link.transaction():
            await link.execute(f"{change}$1", user_id)
            yield
    finally:
        await link.close()


@pytest.mark.gen_test
async def test_a_look_up_waits_neither_for_a_long_write_nor_for_its_queue(
    database_url: str,
) -> None:
    async with node(database_url) as parts:
        login = await parts.signed_in()
        rename = User.update({User.name: "New"}).where(User.id == login.user.id)
        async with being_written(database_url, login.user.id):
            writing = asyncio.ensure_future(parts.database.run(rename.execute))
            found = await asyncio.wait_for(states(parts, [login]), PATIENCE)
            assert found == [login.user.name]
            assert not writing.done()
        await writing
        assert await states(parts, [login]) == ["New"]


@pytest.mark.gen_test
async def test_a_sign_in_does_not_wait_behind_five_thousand_first_joins(database_url: str) -> None:
    async with node(database_url) as parts:
        user = await parts.user("Somebody")
        login = await parts.signed_in(await parts.user("Else"))
        tokens = [msgspec.structs.replace(login.claims, jti=f"t{n}") for n in range(5_000)]
        crowd = [asyncio.ensure_future(parts.admission.login_states.of(each)) for each in tokens]
        await asyncio.sleep(0)
        signed_in = await parts.signed_in(user)
        still_waiting = [one for one in crowd if not one.done()]
        assert signed_in.user.id == user
        assert len(still_waiting) > len(crowd) // 2
        assert None not in await asyncio.wait_for(asyncio.gather(*crowd), PATIENCE)
