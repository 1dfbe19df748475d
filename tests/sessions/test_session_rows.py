"""The end of login sessions: all of a user's at one cost, and those over the limit."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import peewee
import pytest

from models.login_session import LoginSession
from models.revocation import Revocation as Row
from services.composition.upkeep import Upkeep
from services.errors import Unauthenticated
from services.sessions.admission import Identity
from services.sessions.login_sessions import SESSION_LIMIT
from services.sessions.session_rows import BATCH, touch
from services.sessions.session_views import SignedIn
from tests.support.parts import (
    Parts,
    node,
    open_socket,
    redis_away,
    session_row,
    settings_of_tests,
)
from tests.support.redis import RealRedis, redis_server

__all__ = ["redis_server"]

MANY = 5000


def fill(db: peewee.Database, user_id: str, count: int, now: float) -> None:
    """So many active sessions of a user, as sign-ins leave them."""
    rows = [
        {
            "id": secrets.token_urlsafe(16),
            "user": user_id,
            "method": "password",
            "created_at": now,
            "last_seen_at": now,
            "expires_at": now + 80_000,
        }
        for _ in range(count)
    ]
    for start in range(0, count, 1000):
        LoginSession.insert_many(rows[start : start + 1000]).execute(db)


def not_marked(db: peewee.Database) -> list[str]:
    open_ = LoginSession.select().where(LoginSession.ended_at.is_null())
    return [row.id for row in open_.execute(db)]


@contextmanager
def counted(db: Any) -> Iterator[list[str]]:
    """The statements that a database is sent meanwhile."""
    statements: list[str] = []
    execute = db.execute_sql

    def counting(sql: str, params: Any = None, *args: Any) -> Any:
        statements.append(sql)
        return execute(sql, params, *args)

    db.execute_sql = counting
    try:
        yield statements
    finally:
        del db.execute_sql


async def identify(parts: Parts, login: SignedIn) -> Identity:
    return await parts.admission.identify(login.claims)


async def refused(parts: Parts, login: SignedIn) -> None:
    with pytest.raises(Unauthenticated):
        await parts.admission.identify(login.claims)
    with pytest.raises(Unauthenticated):
        await parts.refresh.rotation.refresh(login.refresh_token.reveal())


@pytest.mark.parametrize("spare", [False, True])
@pytest.mark.gen_test(timeout=60)
async def test_ending_all_takes_as_many_statements_and_rows_for_one_as_for_thousands(
    database_url: str, spare: bool
) -> None:
    async with node(database_url) as parts:
        taken = []
        for count in (0, MANY):
            user = await parts.user()
            kept = (await parts.signed_in(user)).claims.sid
            await parts.database.run(fill, user, count, parts.clock())

            def end(db: peewee.Database, user: str = user, kept: str = kept) -> int:
                with counted(db) as statements:
                    but = kept if spare else None
                    (one,) = parts.session_ends.end_all_within(db, user, "signed_out", but)
                assert (one.kind, one.subject, one.exempt) == ("user", user, but or "")
                return len(statements)

            taken.append(await parts.database.run(end))
            active = await parts.login_sessions.active(user)
            assert [row.id for row in active] == ([kept] if spare else [])
        assert taken[0] == taken[1] <= 4  # one of them reads the webhooks
        assert await parts.database.run(lambda db: Row.select().count(db)) == 2


@pytest.mark.gen_test
async def test_a_sign_in_right_after_the_cut_is_none_of_those_before_it(database_url: str) -> None:
    async with node(database_url) as parts:
        user = await parts.user()
        before = await parts.signed_in(user)
        await parts.session_ends.end_all(user, "signed_out_by_admin")
        # The clock has not moved: `iat` and `created_at` are the same on both sides of the cut.
        after = await parts.signed_in(user)
        assert before.claims.iat == after.claims.iat
        await refused(parts, before)
        assert (await identify(parts, after)).user_id == user
        peer = await open_socket(parts, after)
        await parts.revocations.sweep()
        assert peer.client.connection.is_open


@pytest.mark.gen_test
async def test_clocks_that_differ_between_nodes_change_nothing_about_a_cut(
    database_url: str, redis_server: RealRedis
) -> None:
    async with (
        node(database_url, redis_server) as here,
        node(database_url, redis_server, name="there") as there,
    ):
        there.clock.now = here.clock.now - 4
        user = await here.user()
        before = await here.signed_in(user)
        await here.session_ends.end_all(user, "signed_out_by_admin")
        after = await there.signed_in(user)
        assert after.claims.iat < before.claims.iat
        for parts in (here, there):
            await parts.revocations.sweep()
            await refused(parts, before)
            assert (await identify(parts, after)).user_id == user


@pytest.mark.gen_test
async def test_another_node_refuses_by_redis_before_it_receives_the_revocation(
    database_url: str, redis_server: RealRedis
) -> None:
    async with node(database_url, redis_server) as here, node(database_url, name="deaf") as deaf:
        user = await here.user()
        before, kept = await here.signed_in(user), await here.signed_in(user)
        deaf.store.inner = here.store.inner  # the same Redis, and none of the news
        assert (await identify(deaf, before)).user_id == user
        await here.session_ends.end_all(user, "signed_out", kept.claims.sid)
        await refused(deaf, before)
        assert (await identify(deaf, kept)).generation == kept.generation + 1
        asked = deaf.count("usher_joins_by_database_total", cause="unknown_to_redis")
        await identify(deaf, kept)
        newest = await here.signed_in(user)
        await identify(deaf, newest)
        assert deaf.count("usher_joins_by_database_total", cause="unknown_to_redis") == asked, (
            "one look into the database for the exempt, none for the new"
        )


@pytest.mark.gen_test
async def test_without_redis_the_row_ends_them_on_every_node(
    database_url: str, redis_server: RealRedis
) -> None:
    async with (
        node(database_url, redis_server) as here,
        node(database_url, redis_server, name="there") as there,
    ):
        user = await here.user()
        before, kept = await here.signed_in(user), await here.signed_in(user)
        cut, stays = await open_socket(there, before), await open_socket(there, kept)
        await redis_away(here, redis_server, there)
        await here.session_ends.end_all(user, "password_changed", kept.claims.sid)
        await there.revocations.sweep()
        assert await cut.close_code() == 4410
        assert stays.client.connection.is_open
        for parts in (here, there):
            await refused(parts, before)
            assert (await identify(parts, kept)).user_id == user


@pytest.mark.gen_test
async def test_a_session_exempt_once_is_ended_by_the_next_revocation_in_any_order(
    database_url: str,
) -> None:
    async with node(database_url) as parts, node(database_url, name="there") as there:
        user = await parts.user()
        one, two = await parts.signed_in(user), await parts.signed_in(user)
        sockets = [await open_socket(there, login) for login in (one, two)]
        end = parts.session_ends.end_all_within
        first = await parts.database.run(end, user, "signed_out", one.claims.sid)
        third = await parts.signed_in(user)
        second = await parts.database.run(end, user, "signed_out", third.claims.sid)
        there.revocations.apply(second)
        there.revocations.apply(first)
        assert [await socket.close_code() for socket in sockets] == [4410, 4410]
        for login in (one, two):
            await refused(there, login)
        assert (await identify(there, third)).user_id == user


@pytest.mark.gen_test
async def test_an_ended_session_cannot_be_exempt(database_url: str) -> None:
    async with node(database_url) as parts:
        user = await parts.user()
        stolen, mine = await parts.signed_in(user), await parts.signed_in(user)
        await parts.session_ends.end_all(user, "signed_out", mine.claims.sid)
        await parts.session_ends.end_all(user, "signed_out", stolen.claims.sid)
        assert await parts.login_sessions.active(user) == []
        await refused(parts, stolen)
        await refused(parts, mine)


@pytest.mark.gen_test(timeout=60)
async def test_when_and_why_they_ended_is_filled_in_batch_by_batch(database_url: str) -> None:
    async with node(database_url) as parts:
        user = await parts.user()
        login = await parts.signed_in(user)
        await parts.database.run(fill, user, BATCH + 1, parts.clock())
        ended_at = parts.clock()
        await parts.session_ends.end_all(user, "disabled")
        newer = await parts.signed_in(user)
        parts.clock.forward(30)
        await Upkeep(parts.database, parts.clock).purge()
        row = await parts.database.run(session_row, login.claims.sid)
        assert (row["ended_at"], row["end_reason"]) == (ended_at, "disabled")
        open_ = await parts.database.run(
            lambda db: [
                r.id
                for r in LoginSession.select().where(LoginSession.ended_at.is_null()).execute(db)
            ]
        )
        assert open_ == [newer.claims.sid]


# ---- last seen -----------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_when_many_sessions_were_last_seen_is_one_statement(database_url: str) -> None:
    async with node(database_url) as parts:
        user = await parts.user()
        sids = [(await parts.signed_in(user)).claims.sid for _ in range(3)]
        seen = {sid: parts.clock() + 1 + number for number, sid in enumerate(sids)}

        def record(db: peewee.Database) -> int:
            with counted(db) as statements:
                touch(db, seen)
                touch(db, {})
            return len(statements)

        assert await parts.database.run(record) == 1
        rows = await parts.login_sessions.active(user)
        assert {row.id: row.last_seen_at for row in rows} == seen


# ---- the limit -----------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_the_session_least_recently_used_is_evicted_with_its_sockets_and_its_owner_sees_why(
    database_url: str, redis_server: RealRedis, caplog: pytest.LogCaptureFixture
) -> None:
    settings = msgspec.structs.replace(settings_of_tests(), max_sessions_per_user=3)
    async with (
        node(database_url, redis_server, settings=settings) as here,
        node(database_url, redis_server, name="there", settings=settings) as there,
    ):
        user = await here.user()
        logins = []
        for _ in range(3):
            logins.append(await here.signed_in(user))
            here.clock.forward(1)
        sockets = [await open_socket(there, login) for login in logins]
        await here.login_sessions.touch({logins[0].claims.sid: here.clock()})
        other = await here.signed_in()
        logins.append(await here.signed_in(user))
        assert await sockets[1].close_code() == 4410
        await refused(there, logins[1])
        for login in (logins[0], *logins[2:], other):
            assert (await identify(there, login)).claims == login.claims
        assert [s.client.connection.is_open for s in sockets] == [True, False, True]
        (ended,) = await here.login_sessions.ended(user)
        assert (ended.id, ended.reason) == (logins[1].claims.sid, SESSION_LIMIT)
        assert logins[1].claims.sid in caplog.text


@pytest.mark.parametrize("seconds", [0, -3600])
@pytest.mark.gen_test
async def test_the_session_that_is_opened_stays_whatever_the_clock_says(
    database_url: str, seconds: float
) -> None:
    settings = msgspec.structs.replace(settings_of_tests(), max_sessions_per_user=3)
    async with node(database_url, settings=settings) as parts:
        user = await parts.user()
        for _ in range(3):
            await parts.signed_in(user)
        parts.clock.forward(seconds)
        for _ in range(6):
            login = await parts.signed_in(user)
            assert len(login.displaced) == 1
            assert login.claims.sid in {each.id for each in await parts.login_sessions.active(user)}


@pytest.mark.gen_test(timeout=60)
async def test_a_user_far_above_the_limit_is_reduced_to_it_at_once(
    database_url: str,
) -> None:
    async with node(database_url) as parts:
        user = await parts.user()
        await parts.database.run(fill, user, MANY, parts.clock() - 60)
        login = await parts.signed_in(user)
        active = await parts.login_sessions.active(user)
        assert len(active) == 100
        assert active[0].id == login.claims.sid
        assert len(login.displaced) == MANY - 99
