"""direct/direct_calls.py: a connection between its requests, and when it is Tornado's.

Tickets are given by a scripted part here, which answers when the test says so. What the real one
answers is in test_direct_tickets.py.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest

from handlers.direct.direct_calls import DirectCalls
from handlers.direct.direct_tickets import DirectTickets
from handlers.direct.plain_call import PlainCall, plain_calls_below
from handlers.websocket.arrivals import Arrival
from handlers.websocket.unjoined import UnjoinedConnections
from services.event_loop.readers import readers_of
from services.event_loop.rotation import Rotation, UnderWay
from services.settings.proxies import Proxies
from tests.support.redis import until
from tests.support.server import PATIENCE

REQUEST = b"POST /api/ws/ticket HTTP/1.1\r\nHost: usher.test\r\nX-N: %d\r\n\r\n"
OTHER = b"GET /healthz HTTP/1.1\r\nHost: usher.test\r\n\r\n"
PEER = "192.0.2.1"

plain_call = plain_calls_below()


class Scripted:
    """Answers `n` to the request with the number n, once it may."""

    def __init__(self) -> None:
        self.may = asyncio.Event()
        self.may.set()
        self.asked: list[str] = []
        self.answers: dict[str, bytes | Exception | None] = {}

    async def answer(self, call: PlainCall, peer: str) -> bytes | None:
        assert peer == PEER
        number = call.fields["X-N"]
        self.asked.append(number)
        await self.may.wait()
        found = self.answers.get(number, number.encode())
        if isinstance(found, Exception):
            raise found
        return found


class Door:
    """Direct calls, and what they left to Tornado: the socket, whether it had its turn, and the
    rest of an answer."""

    def __init__(self, idle_seconds: float) -> None:
        self.tickets, self.shared = Scripted(), UnderWay()
        self.unjoined = UnjoinedConnections(100, Proxies())
        self.left: list[tuple[socket.socket, bool, bytes]] = []
        self.calls = DirectCalls(
            cast("DirectTickets", self.tickets),
            plain_call,
            self.unjoined,
            Rotation(self.shared),
            readers_of(asyncio.get_running_loop()),
            self._left,
            idle_seconds,
        )
        self.sockets: list[socket.socket] = []

    def _left(self, arrival: Arrival, network: str, has_turn: bool, unsent: bytes) -> None:
        assert network == PEER
        self.left.append((arrival.sock, has_turn, unsent))

    def arrive(self, sent: bytes) -> socket.socket:
        """A client that connects and sends this."""
        client, sock = socket.socketpair()
        self.sockets += [client, sock]
        client.setblocking(False)
        sock.setblocking(False)
        client.sendall(sent)
        group = self.unjoined.connected(PEER)
        assert group == PEER
        call = plain_call(sent)
        assert call is not None
        self.calls.begin(Arrival(sock, (PEER, 1), PEER, group, 0.0), PEER, call)
        return client


@asynccontextmanager
async def door(idle_seconds: float = PATIENCE) -> AsyncIterator[Door]:
    instance = Door(idle_seconds)
    try:
        yield instance
        await instance.calls.drain(PATIENCE)
        assert not instance.shared.has_others("")  # nothing counts as being in progress
        assert instance.unjoined.counts == ({PEER: len(instance.left)} if instance.left else {})
    finally:
        for sock in instance.sockets:
            sock.close()


async def read(client: socket.socket, size: int = 65536) -> bytes:
    loop = asyncio.get_running_loop()
    return await asyncio.wait_for(loop.sock_recv(client, size), PATIENCE)


@pytest.mark.gen_test
async def test_a_kept_connection_is_answered_in_order() -> None:
    async with door() as instance:
        client = instance.arrive(REQUEST % 0)
        assert await read(client) == b"0"
        client.sendall(REQUEST % 1 + REQUEST % 2 + REQUEST % 3)
        got = b""
        while len(got) < 3:
            got += await read(client)
        assert got == b"123"
        assert instance.left == []


@pytest.mark.gen_test
async def test_what_comes_during_a_request_waits_and_one_task_serves_a_connection() -> None:
    async with door() as instance:
        client = instance.arrive(REQUEST % 0)
        assert await read(client) == b"0"  # it is watched from now on
        instance.tickets.may.clear()
        client.sendall(REQUEST % 1)
        await until(lambda: instance.tickets.asked == ["0", "1"])
        client.sendall(REQUEST % 2)
        for _ in range(20):
            await asyncio.sleep(0)
        assert instance.tickets.asked == ["0", "1"]
        instance.tickets.may.set()
        got = b""
        while len(got) < 2:
            got += await read(client)
        assert got == b"12"


@pytest.mark.gen_test
@pytest.mark.parametrize("refused", [None, RuntimeError("broken")])
async def test_what_is_not_answered_here_is_tornados_unread(
    refused: Exception | None, caplog: pytest.LogCaptureFixture
) -> None:
    async with door() as instance:
        instance.tickets.answers["7"] = refused
        instance.arrive(REQUEST % 7)
        await until(lambda: len(instance.left) == 1)
        client = instance.arrive(REQUEST % 1)
        assert await read(client) == b"1"
        client.sendall(REQUEST % 7)  # and later on a kept connection
        await until(lambda: len(instance.left) == 2)
        for sock, has_turn, unsent in instance.left:
            assert sock.recv(65536) == REQUEST % 7
            assert (has_turn, unsent) == (True, b"")
    assert ("could not be given" in caplog.text) is (refused is not None)


@pytest.mark.gen_test
@pytest.mark.parametrize("sent", [OTHER, b"P", REQUEST[:-2] % 1, b"\x16\x03"])
async def test_another_request_on_a_kept_connection_is_tornados_and_has_its_turn_to_come(
    sent: bytes,
) -> None:
    async with door() as instance:
        client = instance.arrive(REQUEST % 0)
        assert await read(client) == b"0"
        client.sendall(sent)
        await until(lambda: len(instance.left) == 1)
        ((sock, has_turn, unsent),) = instance.left
        assert (sock.recv(65536), has_turn, unsent) == (sent, False, b"")
        assert instance.tickets.asked == ["0"]


@pytest.mark.gen_test
async def test_a_client_that_leaves_is_forgotten() -> None:
    async with door() as instance:
        idle = instance.arrive(REQUEST % 0)
        assert await read(idle) == b"0"
        idle.close()
        instance.tickets.may.clear()
        asking = instance.arrive(REQUEST % 1)
        await until(lambda: "1" in instance.tickets.asked)
        asking.close()
        instance.tickets.may.set()
        await until(lambda: not instance.unjoined.counts)


@pytest.mark.gen_test
async def test_the_rest_of_an_answer_that_nobody_reads_is_tornados_to_send() -> None:
    async with door() as instance:
        large = b"x" * 8_000_000
        instance.tickets.answers["1"] = large
        client = instance.arrive(REQUEST % 1)
        await until(lambda: len(instance.left) == 1)
        _, has_turn, unsent = instance.left[0]
        assert not has_turn
        taken = len(large) - len(unsent)
        assert 0 < len(unsent) < len(large)
        got = 0
        while got < taken:
            got += len(await read(client))
        assert got == taken


@pytest.mark.gen_test
async def test_an_idle_connection_is_closed_and_one_with_a_request_is_not() -> None:
    async with door(idle_seconds=0.1) as instance:
        idle = instance.arrive(REQUEST % 0)
        assert await read(idle) == b"0"
        instance.tickets.may.clear()
        busy = instance.arrive(REQUEST % 1)
        assert await read(idle) == b""
        instance.tickets.may.set()
        assert await read(busy) == b"1"
        assert await read(busy) == b""  # in its turn
        assert not instance.unjoined.counts


@pytest.mark.gen_test
async def test_a_stop_closes_idle_connections_and_answers_pending_requests() -> None:
    async with door() as instance:
        idle = instance.arrive(REQUEST % 0)
        assert await read(idle) == b"0"
        instance.tickets.may.clear()
        pending = instance.arrive(REQUEST % 1)
        await until(lambda: "1" in instance.tickets.asked)
        stopping = asyncio.ensure_future(instance.calls.drain(PATIENCE))
        assert await read(idle) == b""
        instance.tickets.may.set()
        await stopping
        assert await read(pending) == b"1"
        assert await read(pending) == b""


@pytest.mark.gen_test
async def test_a_stop_waits_no_longer_than_it_may() -> None:
    async with door() as instance:
        instance.tickets.may.clear()
        pending = instance.arrive(REQUEST % 1)
        await until(lambda: "1" in instance.tickets.asked)
        await instance.calls.drain(0.01)
        assert await read(pending) == b""
