"""Clients of all servers: they join, ask, or listen in a room."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.crowd import Member, Tally
from benchmarks.errors import BenchmarkFailed
from benchmarks.peers.subjects import Opening
from benchmarks.reactor import Reactor
from benchmarks.ws_load import CLOSE_FRAME, TEXT, Address, Client

SECONDS = 120.0
FIRST = b"0{"
"""How the first frame of a Socket.IO server begins."""


def hello(opening: Opening, client: Client, opcode: int, payload: bytes) -> bool:
    """Answer the server's first frame where the dialect has one; whether it was that frame."""
    asked = bool(opening.hello) and opcode == TEXT and payload.startswith(FIRST)
    if asked:
        client.send(opening.hello)
    return asked


class Guest(Client):
    """A client that joins in the server's dialect."""

    def __init__(self, reactor: Reactor, address: Address, opening: Opening) -> None:
        self._opening = opening
        super().__init__(reactor, address, opening.upgrade, opening.greeting)

    def _take_frame(self, opcode: int, payload: bytes) -> None:
        if not hello(self._opening, self, opcode, payload):
            super()._take_frame(opcode, payload)

    def on_closed(self) -> None:
        raise BenchmarkFailed(f"a socket was closed with {self.close_code}")


class Visitor(Guest):
    """Joins, says good-bye, and waits for the end of the connection."""

    def __init__(
        self, reactor: Reactor, address: Address, opening: Opening, then: Callable[[], None]
    ) -> None:
        self._then = then
        super().__init__(reactor, address, opening)

    def on_joined(self) -> None:
        self.send(CLOSE_FRAME)

    def on_closed(self) -> None:
        if not self.joined or self.close_code not in (1000, 1005):
            raise BenchmarkFailed(f"joined: {self.joined}, good-bye answered: {self.close_code}")
        self._then()


class Asker(Guest):
    """Sends a request, and the next when it has its reply."""

    def __init__(
        self,
        reactor: Reactor,
        address: Address,
        opening: Opening,
        request: bytes,
        answered: bytes,
    ) -> None:
        self._request, self._answered = request, answered
        self.left = 0
        super().__init__(reactor, address, opening)

    def start(self, count: int) -> None:
        self.left = count
        self.send(self._request)

    def on_text(self, payload: bytes) -> None:
        if self._answered not in payload:
            if b'"presence"' in payload:  # Usher tells who else came into the room
                return
            raise BenchmarkFailed(f"unexpected reply: {payload[:200]!r}")
        self.left -= 1
        if self.left:
            self.send(self._request)


class Listener(Member):
    """A member of a room, who joins in the server's dialect."""

    def __init__(self, reactor: Reactor, address: Address, opening: Opening, tally: Tally) -> None:
        self._opening = opening
        super().__init__(reactor, address, opening.upgrade, opening.greeting, tally)

    def _take_frame(self, opcode: int, payload: bytes) -> None:
        if not hello(self._opening, self, opcode, payload):
            super()._take_frame(opcode, payload)


def visit_all(address: Address, openings: Sequence[Opening], lanes: int) -> None:
    """Open, join and close one socket per opening, ``lanes`` at a time."""
    reactor, waiting, running = Reactor(), iter(openings), lanes

    def next_one() -> None:
        nonlocal running
        opening = next(waiting, None)
        if opening is None:
            running -= 1
        else:
            Visitor(reactor, address, opening, next_one)

    try:
        for _ in range(lanes):
            next_one()
        reactor.run_until(lambda: not running, SECONDS, "joins")
    finally:
        reactor.close()


def ask_all(reactor: Reactor, askers: Sequence[Asker], each: int) -> None:
    """Each sends so many requests, one after the other."""
    for asker in askers:
        asker.start(each)
    reactor.run_until(lambda: not any(asker.left for asker in askers), SECONDS, "request/reply")
