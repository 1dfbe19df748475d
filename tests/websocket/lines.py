"""A WebSocket connection on a real pair of sockets, its owner and its peer."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator

import pytest

from services.websocket.direct_connection import WebSocketConnection
from services.websocket.frames import Opcode
from tests.support.parts import Peer, client_frame, socket_pair
from tests.support.redis import until

TEXT = client_frame(Opcode.TEXT, b"hello")
CLOSE = client_frame(Opcode.CLOSE, b"\x03\xe8")
Answer = Callable[["Ear", bytes], None]


class Ear:
    """The owner of a connection, which records all calls."""

    def __init__(self, answer: Answer | None = None) -> None:
        self.answer = answer
        self.messages: list[tuple[bytes, bool]] = []
        self.codes: list[int] = []
        self.on_closed: Callable[[], object] = list
        self.connection: WebSocketConnection

    @property
    def texts(self) -> list[bytes]:
        return [message for message, _ in self.messages]

    def received(self, message: bytes, is_text: bool) -> None:
        self.messages.append((message, is_text))
        if self.answer is not None:
            self.answer(self, message)

    def closed(self, code: int) -> None:
        self.codes.append(code)
        self.on_closed()


class Line:
    """A started wire, its owner and its peer."""

    def __init__(self, answer: Answer | None = None, kernel_buffer: int | None = None) -> None:
        ours, theirs = socket_pair()
        if kernel_buffer is not None:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, kernel_buffer)
        self.sock, self.peer, self.ear = ours, Peer(theirs), Ear(answer)
        self.connection = self.ear.connection = WebSocketConnection(
            asyncio.get_running_loop(), ours, self.ear
        )
        self.connection.begin()

    @property
    def is_shut(self) -> bool:
        """Whether the socket has been let go of."""
        return self.sock.fileno() < 0

    def fill(self) -> int:
        """Send until the kernel takes no more; returns how many frames were sent."""
        for number in range(1, 10_000):
            self.connection.send(b"x" * 1000)
            if self.connection._outbox is not None:
                return number
        raise AssertionError("the kernel takes everything")


@pytest.fixture
def lines() -> Iterator[list[Line]]:
    """Whatever a test opens is closed behind it."""
    opened: list[Line] = []
    yield opened
    for line in opened:
        line.peer.close()
        line.sock.close()


@pytest.fixture
def line_of(lines: list[Line]) -> Callable[..., Line]:
    def make(answer: Answer | None = None, kernel_buffer: int | None = None) -> Line:
        lines.append(Line(answer, kernel_buffer))
        return lines[-1]

    return make


LineOf = Callable[..., Line]


async def reported(line: Line, count: int = 1) -> None:
    await until(lambda: len(line.ear.messages) >= count)


async def turns(count: int = 5) -> None:
    """Lets the loop run whatever is ready: enough to show that something does not happen."""
    for _ in range(count):
        await asyncio.sleep(0)
