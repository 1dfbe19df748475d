"""A client does not wait for a whole crowd of requests of any kind.

The server stands still while everything is sent, so that all of it comes in the same moment, the
good request last. The server itself counts how many of the crowd it answered before, so no clock of
a busy machine has a part in it.
"""

from __future__ import annotations

import json
import re
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, TypeAlias

import pytest

from tests.flows.test_shares import ATTACKER, OWNER, behind_a_proxy, member
from tests.support.databases import kinds
from tests.support.raw import by_subprotocol, handshake
from tests.support.server import PATIENCE, TORNADO, Client, Usher
from tests.support.tools import first_of

# Nothing here but the good sign-in reads a row.
database_kind = kinds("sqlite", TORNADO)

CROWD = 600
Crowd: TypeAlias = Callable[["Moment"], None]


@pytest.fixture(scope="module")
def server(database_kind: str) -> Iterator[Usher]:
    with behind_a_proxy(database_kind, LIMIT_SIGNINS=0) as running:
        yield running


@pytest.fixture(scope="module")
def known(server: Usher) -> dict[str, Any]:
    return member(server)


def request(path: str, ip: str, body: object = None) -> bytes:
    data = json.dumps({} if body is None else body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: usher.test\r\nX-Forwarded-For: {ip}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


def refused(number: int = 0) -> bytes:
    """A request that is answered with 401 at once. `number`: of its address."""
    return request("/api/ws/ticket", f"2001:db8:bad:{number:x}::1" if number else ATTACKER)


class Moment:
    """The server, and what is sent to it while it stands still.

    Attributes:
        crowd: the connections of the crowd.
        answered: of the requests of this kind, before it stood still.
    """

    def __init__(self, server: Usher, stack: ExitStack) -> None:
        self.server, self._stack = server, stack
        self.crowd: list[socket.socket] = []
        self.answered = 0

    def connect(self) -> socket.socket:
        return self._stack.enter_context(
            socket.create_connection(("127.0.0.1", self.server.port), timeout=PATIENCE)
        )

    def gather(self, size: int = CROWD) -> list[socket.socket]:
        """Connections of the crowd."""
        self.crowd = [self.connect() for _ in range(size)]
        return self.crowd

    def stand_still(self) -> None:
        """Once what was sent before has been read: new connections are read in their order."""
        self.answered = refusals(Client(self.server).get("/metrics").text)
        self.server.process.send_signal(signal.SIGSTOP)
        self._stack.callback(self.go_on)

    def go_on(self) -> None:
        self.server.process.send_signal(signal.SIGCONT)


def new_connections(moment: Moment) -> None:
    moment.stand_still()
    for sock in moment.gather():
        sock.sendall(refused())


def kept_connections(moment: Moment) -> None:
    """As a proxy keeps them."""
    for sock in moment.gather():
        sock.sendall(refused())
    for sock in moment.crowd:
        assert read_answer(sock)[0] == 401
    moment.stand_still()
    for sock in moment.crowd:
        sock.sendall(refused())


def held_back_bodies(moment: Moment) -> None:
    for sock in moment.gather():
        sock.sendall(refused()[:-1])
    moment.stand_still()
    for sock in moment.crowd:
        sock.sendall(refused()[-1:])


def held_back_heads(moment: Moment) -> None:
    for sock in moment.gather():
        sock.sendall(refused()[:9])
    moment.stand_still()
    for sock in moment.crowd:
        sock.sendall(refused()[9:])


def crowds_of_thirty_addresses(moment: Moment) -> None:
    moment.stand_still()
    for number, sock in enumerate(moment.gather()):
        sock.sendall(refused(1 + number % 30))


def handshakes(moment: Moment) -> None:
    """Of sockets, with a token that is none."""
    headers = [*by_subprotocol("a.b.c"), ("X-Forwarded-For", ATTACKER)]
    moment.stand_still()
    for sock in moment.gather():
        sock.sendall(handshake(headers=headers))


CROWDS: list[Crowd] = [
    new_connections,
    kept_connections,
    held_back_bodies,
    held_back_heads,
    crowds_of_thirty_addresses,
    handshakes,
]


@pytest.mark.parametrize("crowd", first_of(CROWDS, 3))
def test_a_valid_sign_in_does_not_wait_for_a_crowd(
    server: Usher, known: dict[str, Any], crowd: Crowd
) -> None:
    with ExitStack() as stack:
        moment = Moment(server, stack)
        crowd(moment)
        good = moment.connect()
        # The next request of the same connection, which is answered behind it, reads the counters.
        good.sendall(request("/api/auth/login", OWNER, known) + metrics())
        moment.go_on()
        with good.makefile("rb") as stream:
            assert read_answer_of(stream)[0] == 200
            status, text = read_answer_of(stream)
        assert status == 200
        before = refusals(text) - moment.answered
        assert before < 0.8 * CROWD, f"{before} of the crowd were answered before"
        assert {read_answer(sock)[0] for sock in moment.crowd} <= {401, 101}, "but all of it is"


def metrics() -> bytes:
    return f"GET /metrics HTTP/1.1\r\nHost: usher.test\r\nX-Forwarded-For: {OWNER}\r\n\r\n".encode()


def refusals(text: bytes) -> int:
    """How many requests were answered with 401, and how many sockets were refused, so far."""
    counters = (
        rb'usher_http_requests_total{method="POST",status="401"} (\d+)',
        rb'usher_joins_total{outcome="unauthenticated"} (\d+)',
    )
    found = [re.search(counter, text) for counter in counters]
    return sum(int(counter[1]) for counter in found if counter is not None)


def read_answer(sock: socket.socket) -> tuple[int, bytes]:
    with sock.makefile("rb") as stream:
        return read_answer_of(stream)


def read_answer_of(stream: Any) -> tuple[int, bytes]:
    """The status and the body of the next answer."""
    status, length = int(stream.readline().split()[1]), 0
    while (line := stream.readline().strip()) != b"":
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    return status, stream.read(length)
