"""The process: how it stops, and what it remembers at the next start."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import time
from contextlib import AsyncExitStack, ExitStack
from itertools import pairwise
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection

from tests.support.checks import children, plain_refusal
from tests.support.databases import on_both
from tests.support.process import database_kind, redis_of, usher
from tests.support.redis import alive
from tests.support.server import (
    PASSWORD,
    PATIENCE,
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
    receive,
    sign_up,
    wait_until,
)

__all__ = ["database_kind"]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.gen_test
async def test_a_stop_sends_sockets_away_with_1012_and_leaves_nothing_running(
    database_kind: str, how: signal.Signals
) -> None:
    with usher(database_kind) as server:
        client, pid = sign_up(server), redis_of(server)
        async with (
            connect(server, subprotocols=bearer(client.token)) as joined,
            connect(server) as unauthenticated,
        ):
            await event(joined, "joined")
            server.process.send_signal(how)
            for socket_ in (joined, unauthenticated):
                frame = await receive(socket_)
                assert frame["event"] == "closing"
                after = frame["data"].pop("after")
                assert 0 < after <= 5
                assert frame["data"] == {
                    "code": 1012,
                    "reason": "service_restart",
                    "retry": "backoff",
                }
                assert await close_code(socket_) == 1012
        started = time.monotonic()
        assert server.end(how) == 0
        assert time.monotonic() - started < 10
        assert not alive(pid)
        assert "Traceback" not in server.log
        left = {p.name for p in (server.data_dir / "redis").iterdir()}
        assert not left & {"redis.pid", "redis.sock"}


def test_a_stop_answers_the_requests_in_progress(database_kind: str) -> None:
    with usher(database_kind, DRAIN_SECONDS=10) as server:
        idle, half = (socket.create_connection(("127.0.0.1", server.port)) for _ in range(2))
        with idle, half:
            idle.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert idle.recv(4096).startswith(b"HTTP/1.1 200")
            body = json.dumps({"email": address(), "password": PASSWORD, "name": "Ada"}).encode()
            head = f"POST /api/auth/signup HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
            half.sendall(head.encode() + b"\r\n" + body[:10])  # its answer takes until the rest
            time.sleep(0.2)
            server.process.send_signal(signal.SIGTERM)
            idle.settimeout(PATIENCE)
            assert idle.recv(4096) == b""  # nothing was under way
            half.sendall(body[10:])
            half.settimeout(PATIENCE)
            answered = b""
            while chunk := half.recv(65536):
                answered += chunk
            assert answered.startswith(b"HTTP/1.1 201"), answered
        assert server.end() == 0
        assert "could not be answered" not in server.log
        # Once it is answered nothing is waited for.


@pytest.mark.slow
def test_a_stop_does_not_wait_for_silent_connections(database_kind: str) -> None:
    with usher(database_kind, DRAIN_SECONDS=0.5) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as slow:
            slow.sendall(b"POST /api/auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
            time.sleep(0.2)
            assert server.end() == 0
        assert "1 requests could not be answered in time" in server.log


@pytest.mark.slow
@pytest.mark.gen_test
async def test_a_stop_spreads_the_closing_of_sockets(database_kind: str) -> None:
    with usher(database_kind, DRAIN_SECONDS=2) as server:
        client = sign_up(server)
        async with AsyncExitStack() as stack:
            sockets = [
                await stack.enter_async_context(connect(server, f"?ticket={client.ticket()}"))
                for _ in range(20)
            ]
            for socket_ in sockets:
                await event(socket_, "joined")
            server.process.send_signal(signal.SIGTERM)
            loop = asyncio.get_running_loop()

            async def ended(socket_: ClientConnection) -> float:
                await event(socket_, "closing")
                return loop.time()

            ends = sorted(await asyncio.gather(*map(ended, sockets)))
            assert ends[-1] - ends[0] > 1
            # Those that are not closed yet go on being served meanwhile: half of the gaps exist.
            assert sum(b - a > 0.02 for a, b in pairwise(ends)) > 10
        assert server.end() == 0


@pytest.mark.slow
@pytest.mark.gen_test
async def test_a_hangup_stops_nothing(database_kind: str) -> None:
    with usher(database_kind) as server:
        client = sign_up(server)
        async with connect(server, subprotocols=bearer(client.token)) as socket_:
            await event(socket_, "joined")
            server.process.send_signal(signal.SIGHUP)
            wait_until(lambda: "settings are read anew" in server.log)
            assert (await ask(socket_, "heartbeat"))["ok"] is True
        assert client.get("/api/auth/me").status == 200


LARGE = 16 * 1024


def open_files(server: Usher) -> int:
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))


@pytest.mark.slow
@pytest.mark.parametrize("size", [LARGE + 1000, 20 * LARGE])
@pytest.mark.parametrize("path", ["/healthz", "/ws"])
def test_headers_that_are_too_large_get_431(server: Usher, size: int, path: str) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as client:
        request = f"GET {path} HTTP/1.1\r\nHost: x\r\nX-Large: {'x' * size}\r\n\r\n"
        client.sendall(request.encode())
        answered = b""
        while chunk := client.recv(65536):
            answered += chunk
    head, _, body = answered.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
    assert b"application/problem+json" in head
    assert json.loads(body)["code"] == "headers_too_large"


def test_headers_below_the_bound_are_accepted(server: Usher) -> None:
    answer = Client(server).call("GET", "/healthz", None, {"X-Large": "x" * (LARGE - 1000)})
    assert answer.status == 200


def test_headers_without_an_end_get_431_and_leave_nothing_open(server: Usher) -> None:
    before = open_files(server)
    with ExitStack() as stack:
        for _ in range(20):
            client = stack.enter_context(
                socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
            )
            client.sendall(b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 4000)
            assert client.recv(4096).startswith(b"HTTP/1.1 431")
        # They send nothing more and do not close either.
        wait_until(lambda: open_files(server) <= before + 5)


def test_a_stop_ends_idle_connections_and_every_child(database_kind: str) -> None:
    with usher(database_kind) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as idle:
            idle.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert idle.recv(100).startswith(b"HTTP/1.1 200")
            started = children(server.process.pid)
            assert started
            assert server.end() == 0
            while idle.recv(4096):
                pass
        assert [pid for pid in started if alive(pid)] == []


@pytest.mark.slow
@on_both
@pytest.mark.gen_test
async def test_a_restart_remembers_accounts_sessions_and_revocations(database_kind: str) -> None:
    await restart_and_remember(database_kind, signal.SIGTERM)


@on_both
@pytest.mark.gen_test
async def test_a_kill_leaves_no_redis_and_the_next_start_remembers_everything(
    database_kind: str,
) -> None:
    await restart_and_remember(database_kind, signal.SIGKILL)


async def restart_and_remember(database_kind: str, how: signal.Signals) -> None:
    with usher(database_kind) as server:
        email = address()
        client = sign_up(server, email=email)
        ended, ticket = log_in(server, email), client.ticket()
        ended_ticket = ended.ticket()
        assert ended.post("/api/auth/logout").status == 204
        async with connect(server, subprotocols=bearer(client.token)) as socket_:
            await event(socket_, "joined")
            pid = redis_of(server)
            server.restart(how)
            assert await close_code(socket_) == (1012 if how == signal.SIGTERM else 1006)
        wait_until(lambda: not alive(pid))
        assert redis_of(server) != pid
        assert client.get("/api/auth/me").status == 200
        plain_refusal(ended.get("/api/auth/me"), 401, "unauthenticated")
        body = {"refresh_token": ended.refresh_token}
        plain_refusal(Client(server).post("/api/auth/refresh", body), 401, "unauthenticated")
        # The embedded Redis has started anew, too, and may have forgotten that a ticket was used.
        for old in (ticket, ended_ticket):
            async with connect(server, f"?ticket={old}") as socket_:
                assert await close_code(socket_) == 4503
        async with connect(server, f"?ticket={client.ticket()}") as socket_:
            assert (await event(socket_, "joined"))["user"]["id"] == client.user["id"]
        async with connect(server, subprotocols=bearer(ended.token)) as socket_:
            assert await close_code(socket_) == 4401
        assert new_token(client)
        assert log_in(server, email).get("/api/auth/me").status == 200


def test_a_killed_server_leaves_no_redis_behind(database_kind: str) -> None:
    with usher(database_kind) as server:
        pid = redis_of(server)
        server.end(signal.SIGKILL)
        wait_until(lambda: not alive(pid))
