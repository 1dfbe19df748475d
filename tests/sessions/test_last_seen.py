"""When login sessions were last seen: collected, written in batches, kept while the database
fails."""

from __future__ import annotations

import pytest

from services.errors import DatabaseUnavailable
from services.sessions import last_seen as seen
from services.sessions.last_seen import BATCH, LastSeen
from tests.support.databases import on_postgresql
from tests.support.parts import Parts, node
from tests.support.postgres import postgres_server


async def last_seen(parts: Parts, user_id: str) -> float:
    (row,) = await parts.login_sessions.active(user_id)
    return row.last_seen_at


@pytest.mark.gen_test
async def test_what_is_noted_is_written_when_it_is_time(database_url: str) -> None:
    async with node(database_url) as parts:
        login, noted = await parts.signed_in(), LastSeen(parts.login_sessions, parts.clock)
        opened_at = parts.clock()
        for _ in range(3):
            parts.clock.forward(5)
            noted.record(login.claims.sid)
        assert await last_seen(parts, login.user.id) == opened_at
        await noted.write()
        assert await last_seen(parts, login.user.id) == opened_at + 15
        await noted.write()
        assert noted._waiting == {}


@pytest.mark.gen_test
async def test_more_than_a_batch_is_written_in_several_transactions(database_url: str) -> None:
    async with node(database_url) as parts:
        login, noted = await parts.signed_in(), LastSeen(parts.login_sessions, parts.clock)
        parts.clock.forward(5)
        for number in range(2 * BATCH):
            noted.record(f"unknown-{number}")
        noted.record(login.claims.sid)
        await noted.write()
        assert noted._waiting == {}
        assert await last_seen(parts, login.user.id) == parts.clock()


@on_postgresql
@pytest.mark.gen_test
async def test_what_cannot_be_written_stays_noted(database_url: str) -> None:
    async with node(database_url, timeout=1.0) as parts:
        login, noted = await parts.signed_in(), LastSeen(parts.login_sessions, parts.clock)
        parts.clock.forward(5)
        noted.record(login.claims.sid)
        with postgres_server().frozen(), pytest.raises(DatabaseUnavailable):
            await noted.write()
        await noted.write()
        assert await last_seen(parts, login.user.id) == parts.clock()


@pytest.mark.gen_test
async def test_what_is_noted_again_during_the_writing_is_written_too(database_url: str) -> None:
    async with node(database_url) as parts:
        login, noted = await parts.signed_in(), LastSeen(parts.login_sessions, parts.clock)
        parts.clock.forward(5)
        noted.record(login.claims.sid)
        writing = parts.context.loop.create_task(noted.write())
        parts.context.loop.call_soon(parts.clock.forward, 5)
        parts.context.loop.call_soon(noted.record, login.claims.sid)
        await writing
        assert await last_seen(parts, login.user.id) == parts.clock()
        assert noted._waiting == {}


@pytest.mark.gen_test
async def test_notes_are_bounded_while_the_database_is_unavailable(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seen, "MAX_WAITING", 10)
    async with node(database_url) as parts:
        noted = LastSeen(parts.login_sessions, parts.clock)
        for number in range(100):
            noted.record(f"s{number}")
        assert len(noted._waiting) == 10
        await noted.write()
        noted.record("s100")
        assert len(noted._waiting) == 1
