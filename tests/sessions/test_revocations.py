"""Revocations: the row first, then memory and sockets, then Redis; read by every node."""

from __future__ import annotations

import threading
from typing import Any

import peewee
import pytest

from models.revocation import Revocation as Row
from services.errors import DatabaseUnavailable, NotFound
from services.sessions.control import Kind, Revocation
from services.sessions.login_cache import SLACK_SECONDS
from services.sessions.revocation_rows import SWEEP_LIMIT
from services.sessions.revocations import REREAD_SECONDS
from services.sessions.session_views import SignedIn
from tests.support.databases import on_postgresql
from tests.support.parts import (
    ACCESS_TTL,
    Parts,
    database_away,
    node,
    open_socket,
    redis_away,
    redis_back,
    session_row,
)
from tests.support.postgres import postgres_server
from tests.support.redis import RealRedis, redis_server, until

__all__ = ["redis_server"]


def rows(db: peewee.Database) -> list[dict[str, Any]]:
    query: Any = Row.select().order_by(Row.id).dicts()
    return list(query.execute(db))


async def record(
    parts: Parts, subject: str, kind: Kind = "session", user: str = "ada", role: str = ""
) -> Revocation:
    """A row alone, as another node leaves it."""
    return await parts.database.run(
        parts.revocations.record, kind, subject, user, "logout", role=role
    )


async def logout(parts: Parts, login: SignedIn) -> None:
    claims = login.claims
    await parts.session_ends.end(claims.sub, claims.sid, "logout", claims.jti)


# ---- the row first -------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_ending_a_session_writes_its_row_in_the_same_transaction(database_url: str) -> None:
    async with node(database_url) as parts:
        login = await parts.signed_in()
        await logout(parts, login)
        session, token = await parts.database.run(rows)
        assert (session["kind"], session["subject"]) == ("session", login.claims.sid)
        assert (token["kind"], token["subject"]) == ("token", login.claims.jti)
        assert session["user_id"] == login.user.id
        assert session["reason"] == "logout"
        assert session["expires_at"] == parts.clock() + ACCESS_TTL + SLACK_SECONDS
        ended = await parts.database.run(session_row, login.claims.sid)
        assert ended["ended_at"] == parts.clock()


@pytest.mark.gen_test
async def test_what_cannot_be_written_is_not_revoked_anywhere(database_url: str) -> None:
    async with node(database_url) as parts:
        login = await parts.signed_in()
        peer = await open_socket(parts, login)
        await database_away(parts)
        with pytest.raises(DatabaseUnavailable):
            await logout(parts, login)
        assert not parts.revocations.names(login.claims)
        assert peer.client.connection.is_open
        assert not parts.cache.known(await parts.cache.look_up(login.claims)).revoked


@pytest.mark.gen_test
async def test_a_refused_ending_leaves_no_row(database_url: str) -> None:
    async with node(database_url) as parts:
        login = await parts.signed_in()
        with pytest.raises(NotFound):
            await parts.session_ends.end("somebody-else", login.claims.sid, "logout", "jti")
        assert await parts.database.run(rows) == []


@pytest.mark.gen_test
async def test_once_it_is_acknowledged_the_sockets_are_cut_and_memory_and_redis_know(
    database_url: str, redis_server: RealRedis
) -> None:
    async with node(database_url, redis_server) as parts:
        login = await parts.signed_in()
        other = await parts.signed_in(login.user.id)
        peer, kept = await open_socket(parts, login), await open_socket(parts, other)
        await logout(parts, login)
        assert not peer.client.connection.is_open
        assert await peer.close_code() == 4410
        assert kept.client.connection.is_open
        assert parts.revocations.names(login.claims)
        assert not parts.revocations.names(other.claims)
        assert parts.cache.known(await parts.cache.look_up(login.claims)).revoked
        assert parts.count("usher_sockets_revoked_total", reason="logout") == 1
        assert parts.count("usher_revocation_seconds_count") == 1


@pytest.mark.gen_test
async def test_a_token_alone_is_named_without_its_session(database_url: str) -> None:
    async with node(database_url) as parts:
        login = await parts.signed_in()
        newer = await parts.refresh.rotation.refresh(login.refresh_token.reveal())
        await parts.revocations.publish([await record(parts, login.claims.jti, "token")])
        assert parts.revocations.names(login.claims)
        assert not parts.revocations.names(newer.claims)


@pytest.mark.gen_test
async def test_without_redis_the_row_and_memory_do(
    database_url: str, redis_server: RealRedis
) -> None:
    async with node(database_url, redis_server) as parts:
        login = await parts.signed_in()
        peer = await open_socket(parts, login)
        await redis_away(parts, redis_server)
        await logout(parts, login)
        assert await peer.close_code() == 4410
        assert parts.revocations.names(login.claims)
        assert len(await parts.database.run(rows)) == 2
        assert parts.count("usher_revocations_without_redis_total") == 1
        await redis_back(parts, redis_server)
        await logout(parts, await parts.signed_in(login.user.id))
        assert parts.count("usher_revocations_without_redis_total") == 1


# ---- other nodes and restarts --------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_revocation_survives_a_restart_without_redis(database_url: str) -> None:
    async with node(database_url) as before:
        login = await before.signed_in()
        await logout(before, login)
    async with node(database_url) as after:
        assert not after.revocations.names(login.claims)
        await after.revocations.sweep()
        assert after.revocations.names(login.claims)


@pytest.mark.gen_test
async def test_a_sweep_finds_what_another_node_wrote_and_cuts_its_sockets(
    database_url: str,
) -> None:
    async with node(database_url) as here, node(database_url, clock=here.clock) as there:
        login, kept = await here.signed_in(), await here.signed_in()
        peer, other = await open_socket(there, login), await open_socket(there, kept)
        await logout(here, login)
        assert peer.client.connection.is_open, "only the row has it"
        await there.revocations.sweep()
        assert await peer.close_code() == 4410
        assert there.revocations.names(login.claims)
        assert other.client.connection.is_open
        assert there.count("usher_sockets_revoked_total", reason="logout") == 1


@pytest.mark.slow
@pytest.mark.gen_test
async def test_a_sweep_reads_more_rows_than_one_page_holds(database_url: str) -> None:
    count = 2 * SWEEP_LIMIT + 1
    async with node(database_url) as here, node(database_url, clock=here.clock) as there:
        await here.database.run(
            lambda db: [
                here.revocations.record(db, "session", f"s{n}", "ada", "logout")
                for n in range(count)
            ]
        )
        login = await here.signed_in()
        await logout(here, login)
        await there.revocations.sweep()
        assert there.revocations.names(login.claims)
        assert len(there.revocations._over) == count + 2


@pytest.mark.gen_test
async def test_sockets_closed_by_a_sweep_count_for_the_revocation(database_url: str) -> None:
    async with node(database_url) as parts:
        login = await parts.signed_in()
        await open_socket(parts, login)
        await open_socket(parts, login)
        entry = await record(parts, login.claims.sid, user=login.user.id)
        await parts.revocations.sweep()
        assert len(parts.hub) == 0
        assert await parts.revocations.publish([entry]) == 2
        assert parts.revocations.apply([entry]) == 2, "a repeated message closes no more"
        assert parts.count("usher_sockets_revoked_total", reason="logout") == 2


@pytest.mark.gen_test
async def test_a_row_is_acted_upon_once_however_often_it_is_read(database_url: str) -> None:
    async with node(database_url) as here, node(database_url, clock=here.clock) as there:
        login = await here.signed_in()
        await open_socket(there, login)
        await logout(here, login)
        for _ in range(5):
            await there.revocations.sweep()
            there.clock.forward(REREAD_SECONDS)
        assert there.count("usher_sockets_revoked_total", reason="logout") == 1


@pytest.mark.gen_test
async def test_after_its_time_a_row_is_not_read_again(database_url: str) -> None:
    async with node(database_url) as parts:
        await parts.revocations.publish([await record(parts, "s1")])
        parts.clock.forward(REREAD_SECONDS + 1)
        await parts.revocations.sweep()
        assert parts.revocations._seen == {}
        newer = await record(parts, "s2")
        await parts.revocations.sweep()
        assert list(parts.revocations._seen) == [newer.id]


@on_postgresql
@pytest.mark.gen_test
async def test_a_sweep_without_a_database_is_refused_and_the_next_one_finds_all(
    database_url: str,
) -> None:
    async with node(database_url, timeout=1.0) as parts:
        login = await parts.signed_in()
        await record(parts, login.claims.sid)
        with postgres_server().frozen(), pytest.raises(DatabaseUnavailable):
            await parts.revocations.sweep()
        await parts.revocations.sweep()
        assert parts.revocations.names(login.claims)


@on_postgresql
@pytest.mark.gen_test
async def test_a_row_that_is_committed_late_below_the_newest_id_is_found(database_url: str) -> None:
    async with node(database_url) as parts:
        login = await parts.signed_in()
        begun, go_on = threading.Event(), threading.Event()

        def late(db: peewee.Database) -> Revocation:
            row = parts.revocations.record(db, "session", login.claims.sid, "ada", "logout")
            begun.set()
            # In the loop's own thread, so it waits as PostgreSQL does: by a query.
            while not go_on.is_set():
                db.execute_sql("SELECT pg_sleep(0.01)")
            return row

        waiting = parts.context.loop.create_task(parts.database.run(late))
        await until(begun.is_set)
        newer = await record(parts, "newer")
        await parts.revocations.sweep()
        assert list(parts.revocations._seen) == [newer.id]
        go_on.set()
        assert (await waiting).id < newer.id
        parts.clock.forward(REREAD_SECONDS - 1)
        await parts.revocations.sweep()
        assert parts.revocations.names(login.claims)


# ---- forgetting ----------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_revocation_is_forgotten_only_when_no_token_can_be_valid_any_more(
    database_url: str,
) -> None:
    async with node(database_url) as parts:
        login = await parts.signed_in()
        await logout(parts, login)
        parts.clock.forward(ACCESS_TTL + SLACK_SECONDS - 1)
        parts.revocations.prune()
        assert parts.revocations.names(login.claims)
        parts.clock.forward(2)
        parts.revocations.prune()
        assert not parts.revocations.names(login.claims)
        assert parts.clock() > login.claims.exp


@pytest.mark.gen_test
async def test_a_restart_does_not_read_what_has_had_its_time(database_url: str) -> None:
    async with node(database_url) as parts:
        login = await parts.signed_in()
        await logout(parts, login)
        clock = parts.clock
    clock.forward(ACCESS_TTL + SLACK_SECONDS + 1)
    async with node(database_url, clock=clock) as after:
        await after.revocations.sweep()
        assert not after.revocations.names(login.claims)


# ---- roles ---------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_role_change_cuts_the_sockets_of_other_roles_and_keeps_the_session(
    database_url: str,
) -> None:
    async with node(database_url) as parts:
        user = await parts.user()
        login = await parts.signed_in(user)
        peer, other = (
            await open_socket(parts, login),
            await open_socket(parts, await parts.signed_in()),
        )
        await parts.revocations.publish([await record(parts, user, "role", user, "admin")])
        assert await peer.close_code() == 4419, "a refresh brings the new role"
        assert other.client.connection.is_open
        assert not parts.revocations.names(login.claims)
        assert parts.revocations.changed_at(user) == parts.clock()
        assert parts.revocations.changed_at("nobody") == 0.0


@pytest.mark.gen_test
async def test_a_socket_that_has_the_new_role_already_stays(database_url: str) -> None:
    async with node(database_url) as parts:
        root = await parts.user("Root", "admin")
        peer = await open_socket(parts, await parts.signed_in(root))
        await parts.revocations.publish([await record(parts, root, "role", root, "admin")])
        assert peer.client.connection.is_open


@pytest.mark.gen_test
async def test_an_older_role_change_that_comes_late_changes_nothing(database_url: str) -> None:
    async with node(database_url) as parts:
        root = await parts.user("Root", "admin")
        older = await record(parts, root, "role", root, "user")
        parts.clock.forward(1)
        newer = await record(parts, root, "role", root, "admin")
        peer = await open_socket(parts, await parts.signed_in(root))
        parts.revocations.apply([newer])
        parts.revocations.apply([older])
        assert parts.revocations.changed_at(root) == newer.created_at
        assert peer.client.connection.is_open


@pytest.mark.gen_test
async def test_role_changes_are_swept_from_other_nodes_and_pruned_in_time(
    database_url: str,
) -> None:
    async with node(database_url) as here, node(database_url, clock=here.clock) as there:
        changed_at = here.clock()
        await record(here, "ada", "role", "ada", "admin")
        await there.revocations.sweep()
        assert there.revocations.changed_at("ada") == changed_at
        there.clock.forward(ACCESS_TTL)
        there.revocations.prune()
        assert there.revocations.changed_at("ada") == changed_at
        there.clock.forward(SLACK_SECONDS + 1)
        there.revocations.prune()
        assert there.revocations.changed_at("ada") == 0.0
