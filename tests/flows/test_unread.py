"""A client that does not read responses uses resources only briefly."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest
from tornado.iostream import IOStream

from handlers.streams import (
    SEND_BUFFER_BYTES,
    UNREAD_SECONDS,
    AnsweringStream,
    UnreadAnswers,
    close_at_once,
)
from tests.support.databases import kinds
from tests.support.redis import until
from tests.support.server import PATIENCE, TORNADO, Usher, usher

# Nothing here reads a row.
database_kind = kinds("sqlite", TORNADO)

MANY = 30
QUESTION = b"GET /openapi.json HTTP/1.1\r\nHost: usher.test\r\n\r\n"


@pytest.fixture(scope="module")
def server(database_kind: str) -> Iterator[Usher]:
    with usher(database_kind) as running:
        yield running


def descriptors(server: Usher) -> int:
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))


def ask(server: Usher, stack: ExitStack) -> socket.socket:
    """So many questions on one connection that no buffer has room for the answers."""
    sock = stack.enter_context(socket.socket())
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.settimeout(PATIENCE)
    sock.connect(("127.0.0.1", server.port))
    sock.setblocking(False)
    sock.send(QUESTION * 300)
    return sock


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="Linux tells what is queued")
def test_the_kernel_buffers_little_for_a_client_that_does_not_read(server: Usher) -> None:
    with ExitStack() as stack:
        sock = ask(server, stack)
        port, last, same = sock.getsockname()[1], -1, 0
        while same < 20:  # until no more is written
            queued = sent_and_unread(server.port, port)
            same = same + 1 if queued == last else 0
            last = queued
            time.sleep(0.05)
        assert 0 < last <= 2 * SEND_BUFFER_BYTES


def sent_and_unread(local: int, remote: int) -> int:
    """The bytes in the send queue of one connection."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        here, there, _, queues = line.split()[1:5]
        if (int(here.split(":")[1], 16), int(there.split(":")[1], 16)) == (local, remote):
            return int(queues.split(":")[0], 16)
    raise AssertionError("there is no such connection")


@pytest.mark.slow
def test_connections_without_reads_are_closed_and_slow_readers_are_not(
    server: Usher,
) -> None:
    with ExitStack() as stack:
        before = descriptors(server)
        slow = ask(server, stack)
        slow.settimeout(PATIENCE)
        for _ in range(MANY):
            ask(server, stack)
        end = time.monotonic() + UNREAD_SECONDS + PATIENCE
        while descriptors(server) > before + 2:
            assert time.monotonic() < end, "they are still there"
            assert slow.recv(200_000)
            time.sleep(1)
        assert slow.recv(200_000)


@asynccontextmanager
async def stream_and_client() -> AsyncIterator[tuple[AnsweringStream, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    stream = AnsweringStream(ours)
    try:
        yield stream, theirs
    finally:
        stream.close()
        theirs.close()


@pytest.mark.gen_test
async def test_an_answer_is_unread_when_no_byte_of_it_was_taken_all_the_time() -> None:
    async with stream_and_client() as (stream, client):
        unread = UnreadAnswers()
        assert unread.look([stream], 0.0) == [], "nothing is written"
        written = stream.write(b"x" * 4_000_000)
        written.add_done_callback(lambda future: future.exception())
        assert unread.look([stream], 100.0) == [], "it has only just begun"
        assert unread.look([stream], 99.9 + UNREAD_SECONDS) == []
        before = stream.written
        loop = asyncio.get_running_loop()
        while stream.written == before:
            await loop.sock_recv(client, 65536)
        assert unread.look([stream], 100.0 + UNREAD_SECONDS) == [], "some of it was read"
        # What is on its way by itself may still be taken: then it is quiet.
        await settled(stream)
        assert unread.look([stream], 200.0) == []
        assert unread.look([stream], 200.0 + UNREAD_SECONDS) == [stream]
        close_at_once(stream)
        assert unread.look([stream], 500.0) == []


@pytest.mark.gen_test
async def test_an_answer_that_was_read_to_its_end_is_forgotten() -> None:
    async with stream_and_client() as (stream, client):
        unread = UnreadAnswers()
        written = asyncio.ensure_future(stream.write(b"x" * 1_000_000))
        unread.look([stream], 0.0)
        loop, left = asyncio.get_running_loop(), 1_000_000
        while left:
            left -= len(await loop.sock_recv(client, 65536))
        await asyncio.wait_for(written, PATIENCE)
        assert unread.look([stream], UNREAD_SECONDS) == []
        again = stream.write(b"x" * 4_000_000)
        again.add_done_callback(lambda future: future.exception())
        assert unread.look([stream], 2 * UNREAD_SECONDS) == [], "it is another"


@pytest.mark.gen_test
async def test_streams_of_others_are_left_alone() -> None:
    ours, theirs = socket.socketpair()
    stream = IOStream(ours)
    stream.write(b"x" * 4_000_000).add_done_callback(lambda future: future.exception())
    unread = UnreadAnswers()
    unread.look([stream], 0.0)
    assert unread.look([stream], 1000.0) == []
    stream.close()
    theirs.close()


async def settled(stream: AnsweringStream) -> None:
    seen = [-1]

    def is_same() -> bool:
        seen.append(stream.written)
        return len(seen) > 5 and len(set(seen[-5:])) == 1

    await until(is_same)
