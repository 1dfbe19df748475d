"""Guarantees while Redis or PostgreSQL is unavailable, and after its return, with real
processes."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from websockets import InvalidStatus
from websockets.asyncio.client import ClientConnection

from tests.support.checks import outcome, plain_refusal
from tests.support.databases import kinds, on_postgresql
from tests.support.postgres import PostgresServer, postgres_server
from tests.support.redis import RealRedis, alive
from tests.support.redis import ask as ask_redis
from tests.support.server import (
    PASSWORD,
    Client,
    Usher,
    address,
    ask,
    bearer,
    close_code,
    connect,
    event,
    log_in,
    new_token,
    sign_up,
    usher,
    wait_until,
)

pytestmark = pytest.mark.slow

# Redis and the stores of a node are the subject; tests about one kind of database name it.
database_kind = kinds("postgresql")

KEEPING = ("--appendonly", "yes")
"""A Redis that has its old data when it comes back."""


@contextmanager
def with_redis(database: str, *options: str, **settings: str) -> Iterator[tuple[Usher, RealRedis]]:
    """An Usher and the Redis that REDIS_URL names."""
    redis = RealRedis(*options)
    try:
        with usher(database, REDIS_URL=redis.url, **settings) as server:
            yield server, redis
    finally:
        redis.close()


@pytest.fixture
def postgres() -> Iterator[PostgresServer]:
    """The PostgreSQL of this test process, which is running again afterwards."""
    server = postgres_server()
    yield server
    server.start()


def redis_state(server: Usher) -> str:
    return str(Client(server).get("/readyz").body["redis"])


def wait_for_redis(server: Usher, state: str) -> None:
    wait_until(lambda: redis_state(server) == state)


async def lives(socket: ClientConnection) -> bool:
    return bool((await ask(socket, "heartbeat"))["ok"])


def header(client: Client) -> dict[str, str]:
    return {"Authorization": f"Bearer {client.token}"}


async def joins(server: Usher, client: Client) -> None:
    """Every way in works for somebody who may."""
    assert await outcome(server, subprotocols=bearer(new_token(client))) == 0
    assert await outcome(server, additional_headers=header(client)) == 0
    assert await outcome(server, f"?ticket={client.ticket()}") == 0
    async with connect(server) as socket:
        assert (await ask(socket, "user-join", {"auth": {"token": client.token}}))["ok"]


async def stays_out(server: Usher, client: Client, *tickets: str, code: int = 4401) -> None:
    """No way in works for somebody whose session is over.

    Args:
        code: what tickets get: 4503 where their Redis has started anew with its old data, and may
            have forgotten that they were used.
    """
    assert await outcome(server, subprotocols=bearer(client.token)) == 4401
    for ticket in tickets:
        assert await outcome(server, f"?ticket={ticket}") == code
    plain_refusal(client.get("/api/auth/me"), 401, "unauthenticated")
    body = {"refresh_token": client.refresh_token}
    plain_refusal(Client(server).post("/api/auth/refresh", body), 401, "unauthenticated")


# ---- Redis ----------------------------------------------------------------------------------


@pytest.mark.gen_test(timeout=90)
async def test_without_redis_sockets_stay_and_joins_continue(database_kind: str) -> None:
    with with_redis(database_kind) as (server, redis):
        client, other = sign_up(server), sign_up(server)
        in_redis = client.ticket()
        async with (
            connect(server, subprotocols=bearer(client.token)) as first,
            connect(server, f"?ticket={other.ticket()}") as second,
        ):
            await event(first, "joined")
            await event(second, "joined")
            redis.kill()
            assert await lives(first)
            assert await lives(second)
            wait_for_redis(server, "fallback")
            assert Client(server).get("/readyz").status == 200
            await joins(server, sign_up(server))
            # What lies in Redis only can't be looked at: come back later, not "wrong".
            assert await outcome(server, f"?ticket={in_redis}") == 4503
            items = other.get("/api/sessions").body["items"]
            assert [item["live_sockets"] for item in items] == [1]
            # Tickets that were got meanwhile are good once, also after Redis is back.
            meanwhile, used = other.ticket(), other.ticket()
            assert await outcome(server, f"?ticket={used}") == 0
            redis.start()
            wait_for_redis(server, "ok")
            assert await outcome(server, f"?ticket={meanwhile}") == 0
            assert await outcome(server, f"?ticket={meanwhile}") == 4401
            assert await outcome(server, f"?ticket={used}") == 4401
            assert await lives(first)
            await joins(server, other)
        assert "Traceback" not in server.log


@pytest.mark.parametrize("options", [(), KEEPING], ids=["empty", "old data"])
@pytest.mark.gen_test(timeout=90)
async def test_a_session_revoked_without_redis_stays_revoked_with_it(
    database_kind: str, options: tuple[str, ...]
) -> None:
    known_again = 4503 if options else 4401
    with with_redis(database_kind, *options) as (server, redis):
        email = address()
        client, other = sign_up(server, email=email), log_in(server, email)
        tickets = [client.ticket() for _ in range(4)]
        async with (
            connect(server, subprotocols=bearer(client.token)) as cut,
            connect(server, subprotocols=bearer(other.token)) as kept,
        ):
            await event(cut, "joined")
            await event(kept, "joined")
            redis.kill()
            wait_for_redis(server, "fallback")
            assert client.post("/api/auth/logout").status == 204
            assert await close_code(cut) == 4410
            assert await lives(kept)
            await stays_out(server, client)
            redis.start()
            wait_for_redis(server, "ok")
            # With its old data Redis knows the session as alive, and not that it is over.
            known = redis.ask("KEYS", f"usher:{{{client.user['id']}}}:login:*")
            assert bool(known) == bool(options)
            await stays_out(server, client, *tickets[:2], code=known_again)
            assert await lives(kept)
        # Nor after a restart: it is a row in the database.
        server.restart()
        await stays_out(server, client, *tickets[2:], code=known_again)
        await joins(server, other)


@pytest.mark.gen_test(timeout=90)
async def test_a_session_revoked_without_redis_just_before_a_kill_stays_revoked(
    database_kind: str,
) -> None:
    with with_redis(database_kind, *KEEPING) as (server, redis):
        client = sign_up(server)
        ticket = client.ticket()
        redis.kill()
        wait_for_redis(server, "fallback")
        assert client.post("/api/auth/logout").status == 204
        redis.start()
        server.restart(signal.SIGKILL)
        wait_for_redis(server, "ok")
        await stays_out(server, client, ticket, code=4503)


@pytest.mark.gen_test(timeout=90)
async def test_a_frozen_redis_delays_callers_only_briefly(database_kind: str) -> None:
    with with_redis(database_kind) as (server, redis):
        email = address()
        client, other = sign_up(server, email=email), log_in(server, email)
        async with (
            connect(server, subprotocols=bearer(client.token)) as cut,
            connect(server, subprotocols=bearer(other.token)) as kept,
        ):
            await event(cut, "joined")
            await event(kept, "joined")
            redis.send_signal(signal.SIGSTOP)
            try:
                assert await lives(kept)
                # Nobody has noticed yet: the revocation must not wait for Redis to cut.
                logout = asyncio.create_task(asyncio.to_thread(client.post, "/api/auth/logout"))
                assert await close_code(cut) == 4410
                assert (await logout).status == 204
                await joins(server, sign_up(server))
                wait_for_redis(server, "fallback")
                await stays_out(server, client)
            finally:
                redis.send_signal(signal.SIGCONT)
            wait_for_redis(server, "ok")
            await stays_out(server, client)
            assert await lives(kept)
            await joins(server, other)


@pytest.mark.gen_test(timeout=90)
async def test_a_flushed_redis_is_filled_again_from_the_database(database_kind: str) -> None:
    with with_redis(database_kind) as (server, redis):
        email = address()
        client, over = sign_up(server, email=email), log_in(server, email)
        tickets = [over.ticket(), over.ticket()]
        assert over.post("/api/auth/logout").status == 204
        async with connect(server, subprotocols=bearer(client.token)) as socket:
            await event(socket, "joined")
            lost = client.ticket()
            assert redis.ask("FLUSHALL") == b"OK"
            assert await lives(socket)
            await stays_out(server, over, *tickets)
            assert await outcome(server, f"?ticket={lost}") == 4401
            assert await outcome(server, f"?ticket={client.ticket()}") == 0
            assert redis.ask("KEYS", f"usher:{{{client.user['id']}}}:login:*")
            assert redis_state(server) == "ok"
            # The record of the socket comes back with the next renewal of its lease.
            wait_until(lambda: redis.ask("KEYS", "usher:socket:*"))
        # Who starts now knows of the revocation from the database alone.
        assert redis.ask("FLUSHALL") == b"OK"
        server.restart()
        await stays_out(server, over)
        await joins(server, client)


@pytest.mark.gen_test(timeout=90)
async def test_a_killed_embedded_redis_comes_back_with_what_it_held(database_kind: str) -> None:
    with usher(database_kind) as server:
        email = address()
        client, over = sign_up(server, email=email), log_in(server, email)
        ticket, dead = client.ticket(), over.ticket()
        assert over.post("/api/auth/logout").status == 204
        pid_file = server.data_dir / "redis" / "redis.pid"
        pid = int(pid_file.read_text())
        async with connect(server, subprotocols=bearer(client.token)) as socket:
            await event(socket, "joined")
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: not alive(pid))
            assert await lives(socket)
            assert await outcome(server, f"?ticket={client.ticket()}") == 0
            wait_until(lambda: pid_file.read_text().strip() not in ("", str(pid)))
            wait_for_redis(server, "ok")
            assert ask_redis(server.data_dir / "redis" / "redis.sock", "PING") == b"PONG"
            assert await outcome(server, f"?ticket={ticket}") == 4503
            assert await outcome(server, f"?ticket={client.ticket()}") == 0
            await stays_out(server, over, dead, code=4503)
            assert await lives(socket)
        assert (
            "usher_embedded_redis_restarts_total 1.0"
            in Client(server).get("/metrics").text.decode()
        )


# ---- PostgreSQL (SQLite's file does not go away) --------------------------------------------


@on_postgresql
@pytest.mark.gen_test(timeout=110)
async def test_without_postgresql_joins_continue_with_redis_and_end_without_it(  # noqa: PLR0915
    database_url: str, postgres: PostgresServer
) -> None:
    with with_redis(database_url) as (server, redis):
        email = address()
        client = sign_up(server, email=email)
        over = log_in(server, email)
        assert over.post("/api/auth/logout").status == 204
        body = {"email": email, "password": PASSWORD, "client": "native"}
        async with connect(server, f"?ticket={client.ticket()}") as socket:
            await event(socket, "joined")
            postgres.kill()
            wait_until(lambda: Client(server).get("/readyz").status == 503)
            ready = Client(server).get("/readyz").body
            assert (ready["status"], ready["database"]) == ("not_ready", "unavailable")
            assert ready["redis"] == "ok"
            assert Client(server).get("/healthz").status == 200
            # A usual join makes no query.
            assert await outcome(server, subprotocols=bearer(client.token)) == 0
            assert await outcome(server, f"?ticket={client.ticket()}") == 0
            assert await outcome(server, subprotocols=bearer(over.token)) == 4401
            answer = Client(server).post("/api/auth/login", body)
            plain_refusal(answer, 503, "unavailable")
            assert answer.headers["Retry-After"]
            # It is not acknowledged, because it would be forgotten.
            plain_refusal(client.post("/api/auth/logout"), 503, "unavailable")
            assert await lives(socket)

            redis.kill()
            wait_for_redis(server, "fallback")
            assert await outcome(server, subprotocols=bearer(client.token)) == 4503
            async with connect(server) as unauthenticated:
                reply = await ask(unauthenticated, "user-join", {"auth": {"token": client.token}})
                assert reply["error"]["code"] == "unavailable"
                assert await close_code(unauthenticated) == 4503
            with pytest.raises(InvalidStatus) as refused:
                await outcome(server, additional_headers=header(client))
            assert refused.value.response.status_code == 503
            # What needs nobody's word is known all the same.
            assert await outcome(server, subprotocols=bearer("x.y.z")) == 4401
            assert await outcome(server, subprotocols=bearer(over.token)) == 4401
            assert await lives(socket)

            postgres.start()
            redis.start()
            wait_until(lambda: Client(server).get("/readyz").status == 200)
            wait_for_redis(server, "ok")
            assert await lives(socket)
            await joins(server, client)
            await stays_out(server, over)
            assert client.post("/api/auth/logout").status == 204
            assert await close_code(socket) == 4410
        assert "Traceback" not in server.log


@on_postgresql
@pytest.mark.gen_test(timeout=110)
async def test_a_frozen_postgresql_is_noticed_and_recovered_from(
    database_url: str, postgres: PostgresServer
) -> None:
    with with_redis(database_url) as (server, _):
        client = sign_up(server)
        async with connect(server, f"?ticket={client.ticket()}") as socket:
            await event(socket, "joined")
            with postgres.frozen():
                assert await lives(socket)
                wait_until(lambda: Client(server).get("/readyz").status == 503)
                assert await outcome(server, subprotocols=bearer(client.token)) == 0
                answer = await asyncio.to_thread(client.post, "/api/auth/logout")
                plain_refusal(answer, 503, "unavailable")
            wait_until(lambda: Client(server).get("/readyz").status == 200)
            assert client.post("/api/auth/logout").status == 204
            assert await close_code(socket) == 4410


@on_postgresql
def test_no_password_of_a_database_reaches_the_log(
    database_url: str, postgres: PostgresServer
) -> None:
    word = "hunter2-in-the-url"
    url = database_url.replace("postgres:@", f"postgres:{word}@", 1)
    assert word in url
    with with_redis(url) as (server, _):
        sign_up(server)
        postgres.kill()
        wait_until(lambda: Client(server).get("/readyz").status == 503)
        body = {"email": address(), "password": PASSWORD}
        plain_refusal(Client(server).post("/api/auth/login", body), 503, "unavailable")
        assert word not in server.log
        assert "Traceback" not in server.log
