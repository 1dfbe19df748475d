"""Clients that lose their node and come back as static/usher.js does: ticket, join, history.

They are parted over processes, because a process may often have no more than 20,000 open files.
Each client has an address of its own (127.0.0.0/8), as people have.
"""

from __future__ import annotations

import errno
import heapq
import itertools
import json
import random
import select
import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

from benchmarks.errors import BenchmarkFailed
from benchmarks.http_load import request
from benchmarks.reactor import READ_BYTES, Reactor
from benchmarks.ws_load import CLOSE, TEXT, Address, handshake, masked_frame, parse_frames

BACKOFF_SECONDS, MAX_BACKOFF_SECONDS, TIMEOUT_SECONDS = 0.5, 30.0, 10.0
"""Of static/usher.js: pauses are random below the first, doubled each time up to the second."""
BIND_ADDRESS_NO_PORT = 24
"""Linux' IP_BIND_ADDRESS_NO_PORT: the port is chosen when the other address is known."""
OPENING_AT_ONCE = 50
ANSWERED = b'"id":1,"ok":true'
GONE, DONE, ASKED, STOP = "gone", "done", "asked", "stop"


@dataclass(frozen=True)
class Person:
    """Who comes back. ``room``: the one whose history is read."""

    source: str
    token: str
    room: str


@dataclass
class Outcome:
    """What the clients of one process saw. Times are seconds."""

    waited: list[float] = field(default_factory=list)
    """From the end of the old connection to the history, pauses included."""
    served: list[float] = field(default_factory=list)
    """From the first request to the history."""
    refused: Counter[str] = field(default_factory=Counter)
    last_at: float = 0.0
    """Of CLOCK_MONOTONIC, which all processes share."""


class Link:
    """One connection: an HTTP request, or a WebSocket after its upgrade."""

    def __init__(self, guest: Guest, address: Address, data: bytes) -> None:
        self._guest, self._out, self._received, self._frames = guest, data, b"", False
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setsockopt(socket.IPPROTO_IP, BIND_ADDRESS_NO_PORT, 1)
        self.sock.bind((guest.person.source, 0))
        code = self.sock.connect_ex(address)
        if code not in (0, errno.EINPROGRESS):
            raise BenchmarkFailed(f"connect: {errno.errorcode.get(code, code)}")
        guest.crowd.reactor.add(self, select.EPOLLOUT)

    def send(self, data: bytes) -> None:
        self.sock.send(data)

    def close(self) -> None:
        self._guest.crowd.reactor.discard(self)

    def on_ready(self, events: int) -> None:
        try:
            if self._out:
                self.sock.send(self._out)
                self._out = b""
                self._guest.crowd.reactor.expect_reads(self)
                return
            data = self.sock.recv(READ_BYTES)
        except OSError:
            data = b""
        if not data:
            self.close()
            self._guest.on_end(self)
            return
        self._received += data
        if not self._frames:
            self._take_head()
        if self._frames:
            frames, self._received = parse_frames(self._received)
            for opcode, payload in frames:
                self._guest.on_frame(self, opcode, payload)

    def _take_head(self) -> None:
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        fields = head.lower()
        if fields.startswith(b"http/1.1 101"):
            self._frames, self._received = True, body
            return
        length = fields.partition(b"content-length:")[2].split(b"\r\n")[0]
        if len(body) >= int(length or 0):
            retry = fields.partition(b"retry-after:")[2].split(b"\r\n")[0]
            self.close()
            self._guest.on_answer(int(head[9:12]), body, float(retry or 0))


class Guest:
    """One client: joined to a node that will go, then on its way back to one of the others."""

    def __init__(self, crowd: Crowd, person: Person, home: Address, others: Address) -> None:
        self.crowd, self.person = crowd, person
        self._home, self._other = home, others
        self._link: Link | None = None
        self._attempt, self._after = 0, 0.0
        self._lost_at = self._began_at = 0.0
        self._timeout: list[bool] = []
        self.is_home = self.is_back = False

    def open(self) -> None:
        """Join the node that will go."""
        token, origin = self.person.token, self.crowd.origin
        self._link = Link(self, self._home, handshake(self._home, token=token, origin=origin))

    def on_end(self, link: Link) -> None:
        if link is not self._link:
            return
        if not self._lost_at:
            self._lost_at = time.monotonic()
            self.crowd.gone += 1
        else:
            self.crowd.outcome.refused["connection lost"] += 1
        self._pause()

    def _pause(self) -> None:
        """Come again as usher.js does: what the server said, and a random part of the back-off."""
        self._drop()
        ceiling = min(MAX_BACKOFF_SECONDS, BACKOFF_SECONDS * 2**self._attempt)
        self._attempt += 1
        self.crowd.later(self._after + random.random() * ceiling, self._fetch_ticket)
        self._after = 0.0

    def _drop(self) -> None:
        if self._timeout:
            self._timeout[0] = False
        if self._link is not None:
            self._link.close()
            self._link = None

    def _limit(self) -> None:
        """Give up what has not been answered after TIMEOUT_SECONDS."""
        if self._timeout:
            self._timeout[0] = False
        self._timeout = holds = [True]

        def late() -> None:
            if holds[0]:
                self.crowd.outcome.refused["no answer in 10 s"] += 1
                self._pause()

        self.crowd.later(TIMEOUT_SECONDS, late)

    def _fetch_ticket(self) -> None:
        self._began_at = self._began_at or time.monotonic()
        self._limit()
        asked = request(self._other, "POST", "/api/ws/ticket", token=self.person.token)
        self._link = Link(self, self._other, asked)

    def on_answer(self, status: int, body: bytes, retry_after: float) -> None:
        """An HTTP answer other than 101."""
        if status != 201:
            self.crowd.outcome.refused[f"HTTP {status}"] += 1
            self._after = retry_after
            self._pause()
            return
        self._limit()
        ticket = str(json.loads(body)["ticket"])
        upgrade = handshake(self._other, ticket=ticket, origin=self.crowd.origin)
        self._link = Link(self, self._other, upgrade)

    def on_frame(self, link: Link, opcode: int, payload: bytes) -> None:
        if link is not self._link or self.is_back:
            return
        if opcode == CLOSE:
            if self._lost_at:
                self.crowd.outcome.refused[f"closed with {int.from_bytes(payload[:2], 'big')}"] += 1
        elif payload.startswith(b'{"event":"closing"'):
            self._after = float(json.loads(payload)["data"].get("after", 0.0))
        elif b'"joined"' in payload[:40]:
            self._on_joined(link)
        elif self._lost_at and ANSWERED in payload[:60]:
            self._on_history()

    def _on_joined(self, link: Link) -> None:
        if not self._lost_at:
            self.is_home = True
            self.crowd.home += 1
            return
        asked = {"event": "history", "id": 1, "data": {"room": self.person.room}}
        link.send(masked_frame(TEXT, json.dumps(asked).encode()))

    def _on_history(self) -> None:
        now, outcome = time.monotonic(), self.crowd.outcome
        self._timeout[0] = False
        self.is_back = True
        self.crowd.back += 1
        outcome.waited.append(now - self._lost_at)
        outcome.served.append(now - self._began_at)
        outcome.last_at = now


class Crowd:
    """The clients of one process.

    Args:
        homes, others: nodes that will go and nodes that stay; clients take them in turn.
        origin: of the page that the clients are on.
    """

    def __init__(
        self,
        people: Sequence[Person],
        homes: Sequence[Address],
        others: Sequence[Address],
        origin: str,
    ) -> None:
        self.origin = origin
        self.reactor, self.outcome = Reactor(), Outcome()
        self.home = self.gone = self.back = 0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        nodes = zip(people, itertools.cycle(homes), itertools.cycle(others), strict=False)
        self._guests = [Guest(self, person, home, other) for person, home, other in nodes]
        self.reactor.on_pulse(self._pulse)

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        """Call ``act`` after a time."""
        heapq.heappush(self._due, (time.monotonic() + seconds, next(self._numbers), act))

    def _pulse(self) -> None:
        now = time.monotonic()
        while self._due and self._due[0][0] <= now:
            heapq.heappop(self._due)[2]()

    def work(self, control: Connection) -> None:
        """Join, tell ``control``, and come back when the nodes are gone."""
        for number, guest in enumerate(self._guests, 1):
            guest.open()
            self._until(lambda number=number: self.home > number - OPENING_AT_ONCE, "joins")  # type: ignore[misc]
        self._until(lambda: self.home == len(self._guests), "joins")
        control.send(None)
        self._until(lambda: self.back == len(self._guests) or control.poll(), "the return")
        control.send((self.outcome, len(self._guests) - self.back))
        self.reactor.run_until(control.poll, 600, "the end")

    def _until(self, done: Callable[[], bool], what: str) -> None:
        self.reactor.run_until(done, 300, what)
