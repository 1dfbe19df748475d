"""From a logout to the end of its socket."""

from __future__ import annotations

import time

from benchmarks.accounts import Login
from benchmarks.errors import BenchmarkFailed
from benchmarks.harness import USHER, Figure, Lab, Sample
from benchmarks.http_load import Answer, HttpConnection, request
from benchmarks.reactor import Reactor
from benchmarks.servers import Server
from benchmarks.sizes import Sizes
from benchmarks.ws_load import Address, Client, handshake, open_all

REVOKED = 4410
SENT, ANSWERED = "from the request", "from its answer"
QUANTILES = (("p50", 0.5), ("p99", 0.99), ("max", 1.0))


class Watcher(Client):
    """Notes the moment its close frame has been read."""

    closed_at: float | None = None

    def on_close_frame(self) -> None:
        self.closed_at = time.perf_counter()


class Desk(HttpConnection):
    """The connection that the logouts are sent on."""

    answer: Answer | None = None

    def ask(self, data: bytes) -> None:
        self.answer = None
        self.send(data)

    def on_answer(self, answer: Answer) -> None:
        self.answer = answer


class Logout:
    """One logout at a time, each of another login session with one open socket.

    Both times end when the generator has read the socket's close frame. ``from the request``
    starts before the request is sent; ``from its answer`` starts when the 204 has been read, and
    is below zero where the socket was closed first.
    """

    name = "logout"
    title = "Logout to close"
    subjects: tuple[str, ...] = (USHER,)
    figures: tuple[Figure, ...] = (
        *(
            Figure(f"{SENT}, {label}", "ms", 2, False, SENT, quantile)
            for label, quantile in QUANTILES
        ),
        *(
            Figure(f"{ANSWERED}, {label}", "ms", 2, False, ANSWERED, quantile)
            for label, quantile in QUANTILES
        ),
    )

    def logins_used_up(self, sizes: Sizes) -> int:
        return sizes.rounds * sizes.logouts

    def run(self, lab: Lab, subject: str) -> Sample:
        logins = lab.take(lab.sizes.logouts)
        sent: list[float] = []
        answered: list[float] = []
        with lab.server(subject) as server:
            reactor = Reactor()
            try:
                watchers = self._open(lab, server, reactor, logins)
                desk = Desk(reactor, server.address)
                for login, watcher in zip(logins, watchers, strict=True):
                    start = time.perf_counter()
                    answer, closed_at = log_out(reactor, server.address, desk, login, watcher)
                    sent.append((closed_at - start) * 1_000)
                    answered.append((closed_at - answer.at) * 1_000)
            finally:
                reactor.close()
        return Sample({}, {SENT: sent, ANSWERED: answered})

    def _open(
        self, lab: Lab, server: Server, reactor: Reactor, logins: list[Login]
    ) -> list[Watcher]:
        greeting = lab.greeting(USHER)
        watchers = [
            Watcher(
                reactor,
                server.address,
                handshake(server.address, token=login.access_token),
                greeting,
            )
            for login in logins
        ]
        open_all(reactor, watchers)
        return watchers


def log_out(
    reactor: Reactor, address: Address, desk: Desk, login: Login, watcher: Watcher
) -> tuple[Answer, float]:
    """One logout: its answer, and when the watcher had read its close frame."""
    desk.ask(request(address, "POST", "/api/auth/logout", token=login.access_token))
    reactor.run_until(
        lambda: desk.answer is not None and watcher.closed_at is not None, 10, "logout"
    )
    answer, closed_at = desk.answer, watcher.closed_at
    if answer is None or closed_at is None or answer.status != 204:
        raise BenchmarkFailed(f"logout answered {answer}")
    if watcher.close_code != REVOKED:
        raise BenchmarkFailed(f"logout closed the socket with {watcher.close_code}")
    return answer, closed_at
