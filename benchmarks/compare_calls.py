"""Compares what HTTP calls cost in several versions of the server, side by side.

    python -m benchmarks.compare_calls old=/path/to/a/worktree new=.

Measured are tickets fetched with an access token, and refreshes, by a native client (the token in
the body) and by a browser (in a cookie). Connections are kept alive, and each refresh presents the
token of the one before. Everything else is as in `benchmarks.compare`: the versions take turns.
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import secrets
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from benchmarks import machine
from benchmarks.accounts import TokenMint
from benchmarks.compare import DATABASES, SETTLE_SECONDS, Subject, cpu_seconds, report, start
from benchmarks.errors import BenchmarkFailed
from benchmarks.http_load import Answer, HttpConnection, call_all, request
from benchmarks.reactor import Reactor

LANES = 30
SECONDS = 120
COOKIE = "refresh_token"
_SET_COOKIE = re.compile(rb"set-cookie: *refresh_token=([^;]+)", re.IGNORECASE)


class Chain(HttpConnection):
    """Refreshes one login session again and again, each time with the newest token."""

    def __init__(self, reactor: Reactor, subject: Subject, token: str, times: int) -> None:
        super().__init__(reactor, subject.address)
        self._address, self.token, self._left = subject.address, token, times
        self.finished = False

    def next(self) -> None:
        """Send the next refresh, until there were enough."""
        self.finished = not self._left
        if self._left:
            self._left -= 1
            self.send(self.asking())

    def asking(self) -> bytes:
        """The request."""
        body = {"refresh_token": self.token}
        return request(self._address, "POST", "/api/auth/refresh", body)

    def on_answer(self, answer: Answer) -> None:
        self.token = str(answer.data(200)["refresh_token"])
        self.next()


class BrowserChain(Chain):
    """The same with cookies, from the server's own page."""

    def asking(self) -> bytes:
        host = f"{self._address[0]}:{self._address[1]}"
        lines = (
            "POST /api/auth/refresh HTTP/1.1",
            f"Host: {host}",
            f"Origin: http://{host}",
            f"Cookie: {COOKIE}={self.token}",
            "Content-Type: application/json",
            "Content-Length: 2",
        )
        return ("\r\n".join(lines) + "\r\n\r\n{}").encode()

    def on_answer(self, answer: Answer) -> None:
        answer.data(200)
        found = _SET_COOKIE.search(answer.head)
        if found is None:
            raise BenchmarkFailed("no refresh token in a cookie")
        self.token = found[1].decode()
        self.next()


class Calls:
    """The calls that are measured, on any of the subjects."""

    def __init__(self, secret: str, count: int) -> None:
        self._mint, self._count = TokenMint(secret), count
        self._newest: dict[tuple[str, type[Chain]], list[str]] = {}

    def tickets(self, subject: Subject) -> Callable[[], int]:
        """Fetch a ticket with each of `count` access tokens."""
        asked = [
            request(subject.address, "POST", "/api/ws/ticket", token=token)
            for token in self._mint.spread(subject.logins, self._count)
        ]

        def fetch() -> int:
            answers = call_all(subject.address, asked, LANES)
            return len([answer.data(201) for answer in answers])

        return fetch

    def refreshes(self, subject: Subject) -> Callable[[], int]:
        """Refresh the first sessions, `count` times in all."""
        return self._chains(subject, Chain)

    def refreshes_by_cookie(self, subject: Subject) -> Callable[[], int]:
        """The same for the sessions after them."""
        return self._chains(subject, BrowserChain)

    def _chains(self, subject: Subject, kind: type[Chain]) -> Callable[[], int]:
        key = subject.name, kind
        if key not in self._newest:
            begin = LANES if kind is BrowserChain else 0
            mine = itertools.islice(subject.logins, begin, begin + LANES)
            self._newest[key] = [login.refresh_token for login in mine]
        times = self._count // LANES

        def refresh() -> int:
            reactor = Reactor()
            try:
                chains = [kind(reactor, subject, t, times) for t in self._newest[key]]
                for chain in chains:
                    chain.next()
                reactor.run_until(lambda: all(c.finished for c in chains), SECONDS, "refreshes")
            finally:
                reactor.close()
            self._newest[key] = [chain.token for chain in chains]
            return times * LANES

        return refresh


def measure(subject: Subject, work: Callable[[], int]) -> tuple[float, float]:
    """CPU µs a call of the server and of its Redis."""
    server, store = cpu_seconds(subject.pid), cpu_seconds(subject.store)
    each = 1e6 / work()
    time.sleep(SETTLE_SECONDS)  # what goes on behind the last answer
    return (cpu_seconds(subject.pid) - server) * each, (cpu_seconds(subject.store) - store) * each


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=600, help="in one burst")
    parser.add_argument("--bursts", type=int, default=10, help="of each version")
    parser.add_argument("--database", choices=DATABASES, default="sqlite")
    parser.add_argument("trees", nargs="+", metavar="name=folder")
    chosen = parser.parse_args()
    trees = [(name, Path(folder)) for name, _, folder in (t.partition("=") for t in chosen.trees)]
    secret = secrets.token_urlsafe(48)
    calls = Calls(secret, chosen.calls)
    ways = {
        "ticket": calls.tickets,
        "refresh": calls.refreshes,
        "refresh by cookie": calls.refreshes_by_cookie,
    }
    samples: dict[tuple[str, str], list[float]] = {}
    with ExitStack() as stack:
        subjects = [start(stack, name, tree, secret, chosen.database) for name, tree in trees]
        stack.enter_context(machine.working_on(machine.pick_cores().load))
        for number in range(-1, chosen.bursts):
            for subject in subjects if number % 2 else reversed(subjects):
                for way, prepare in ways.items():
                    server, store = measure(subject, prepare(subject))
                    if number >= 0:  # the first only warms up
                        samples.setdefault((f"{way}, server", subject.name), []).append(server)
                        samples.setdefault((f"{way}, Redis", subject.name), []).append(store)
    print(f"{chosen.database}, load {os.getloadavg()[0]:.1f};", end=" ")
    print(f"CPU a call, medians of {chosen.bursts} bursts")
    print(*report([name for name, _ in trees], samples), sep="\n")


if __name__ == "__main__":
    main()
