"""Compares what a join costs in several versions of the server, side by side.

    python -m benchmarks.compare old=/path/to/a/worktree new=.

All servers run at once, each with its own database and Redis, and take turns in short bursts: what
else the machine does falls on all of them, and only what one turn gave is compared. CPU time is the
scheduler's, finer than ticks. Each version starts the Redis that it finds itself: an older one may
find another, so compare Redis' figures only where both found the same.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks import machine
from benchmarks.accounts import Login, TokenMint, sign_in
from benchmarks.errors import BenchmarkFailed
from benchmarks.reactor import Reactor
from benchmarks.servers import ADDRESS, free_port
from benchmarks.sizes import LIMITS, TOKEN_TTL_SECONDS
from benchmarks.ws_load import CLOSE_FRAME, TEXT, Address, Client, handshake, masked_frame, visit
from tests.support.postgres import postgres_server

LANES = 50
SETTLE_SECONDS = 0.05
START_SECONDS = 60
DATABASES = ("sqlite", "postgresql")


@dataclass
class Subject:
    """One version of the server, running."""

    name: str
    pid: int
    store: int
    address: Address
    logins: list[Login]
    folder: Path
    database_url: str = ""
    """Of PostgreSQL."""


def cpu_seconds(pid: int) -> float:
    """CPU time of all threads of a process."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            total += int((task / "schedstat").read_text().split()[0])
        except OSError:
            continue  # the thread ended while we walked
    return total / 1e9


class _Guest(Client):
    """Opens a socket without a credential, joins by `user-join`, and says good-bye."""

    def __init__(
        self, reactor: Reactor, address: Address, token: str, then: Callable[[], None]
    ) -> None:
        self._token, self._then = token, then
        super().__init__(reactor, address, handshake(address), b"")

    def on_joined(self) -> None:
        asked = {"event": "user-join", "id": 1, "data": {"auth": {"token": self._token}}}
        self.send(masked_frame(TEXT, json.dumps(asked).encode()))

    def on_text(self, payload: bytes) -> None:
        if b'"ok":true' not in payload:
            raise BenchmarkFailed(f"user-join refused: {payload[:200]!r}")
        self.send(CLOSE_FRAME)

    def on_closed(self) -> None:
        if self.close_code != 1000:
            raise BenchmarkFailed(f"closed with {self.close_code}")
        self._then()


def by_subprotocol(address: Address, tokens: list[str]) -> None:
    """Join with a token in each handshake."""
    upgrades = [handshake(address, token=token) for token in tokens]
    visit(address, upgrades, b'"joined"', LANES)


def by_user_join(address: Address, tokens: list[str], lanes: int = LANES) -> None:
    """Join with a token in the first frame."""
    waiting, reactor, running = iter(tokens), Reactor(), lanes

    def next_one() -> None:
        nonlocal running
        token = next(waiting, None)
        if token is None:
            running -= 1
        else:
            _Guest(reactor, address, token, next_one)

    try:
        for _ in range(lanes):
            next_one()
        reactor.run_until(lambda: not running, 120, "joins")
    finally:
        reactor.close()


WAYS = {"subprotocol": by_subprotocol, "user-join": by_user_join}


def start(
    stack: ExitStack, name: str, tree: Path, secret: str, database: str = "sqlite"
) -> Subject:
    """Start one version on a data folder of its own.

    ``database``: "sqlite", or "postgresql": an empty one on a server of this process.
    """
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="usher-compare-")))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("USHER_")}
    environment |= {
        "USHER_JWT_SECRETS": secret,
        "USHER_ACCESS_TOKEN_TTL_SECONDS": str(TOKEN_TTL_SECONDS),
        "USHER_PORT": str(free_port()),
        "USHER_DATA_DIR": str(folder),
    }
    url = ""
    if database == "postgresql":
        url = environment["USHER_DATABASE_URL"] = stack.enter_context(postgres_server().database())
    if (tree / "services" / "limits").exists():  # older versions know no limits
        environment |= LIMITS
    output = folder / "output"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "server.py"], cwd=tree, env=environment, stdout=file, stderr=file
        )
    stack.callback(process.wait)
    stack.callback(process.terminate)
    end = time.monotonic() + START_SECONDS
    while (found := ADDRESS.search(output.read_text())) is None:
        if process.poll() is not None or time.monotonic() > end:
            raise BenchmarkFailed(f"{name} did not start: {output.read_text()[-2000:]}")
        time.sleep(0.1)
    address = ("127.0.0.1", int(found[2]))
    logins = sign_in(address, 4, 60)
    store = machine.find_store(process.pid)
    if store is None:
        raise BenchmarkFailed(f"{name} has no embedded Redis")
    cores = machine.pick_cores()
    machine.pin(process.pid, cores.server)
    machine.pin(store, cores.load)
    return Subject(name, process.pid, store, address, logins, folder, url)


def burst(subject: Subject, way: str, tokens: list[str]) -> tuple[float, float]:
    """Join with each token; CPU µs a join of the server and of its Redis."""
    server, store = cpu_seconds(subject.pid), cpu_seconds(subject.store)
    WAYS[way](subject.address, tokens)
    time.sleep(SETTLE_SECONDS)  # what goes on behind the last close
    each = 1e6 / len(tokens)
    return (cpu_seconds(subject.pid) - server) * each, (cpu_seconds(subject.store) - store) * each


def report(names: list[str], samples: dict[tuple[str, str], list[float]]) -> Iterator[str]:
    """A line for each figure: the median, and the ratio to the first version's."""
    for figure in sorted({figure for figure, _ in samples}):
        first = samples[figure, names[0]]
        for name in names:
            own = samples[figure, name]
            ratios = sorted(a / b for a, b in zip(own, first, strict=True))
            low, high = ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]
            yield (
                f"{figure:26} {name:10} {statistics.median(own):7.1f} µs   "
                f"{statistics.median(ratios):.3f} of {names[0]} (quartiles {low:.3f}-{high:.3f})"
            )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--joins", type=int, default=500, help="in one burst")
    parser.add_argument("--bursts", type=int, default=12, help="of each version")
    parser.add_argument("trees", nargs="+", metavar="name=folder")
    chosen = parser.parse_args()
    trees = [(name, Path(folder)) for name, _, folder in (t.partition("=") for t in chosen.trees)]
    secret = secrets.token_urlsafe(48)
    mint = TokenMint(secret)
    samples: dict[tuple[str, str], list[float]] = {}
    with ExitStack() as stack:
        subjects = [start(stack, name, tree, secret) for name, tree in trees]
        stack.enter_context(machine.working_on(machine.pick_cores().load))
        for number in range(-1, chosen.bursts):
            for subject in subjects if number % 2 else reversed(subjects):
                for way in WAYS:
                    tokens = list(mint.spread(subject.logins, chosen.joins))
                    server, store = burst(subject, way, tokens)
                    if number >= 0:  # the first only warms up
                        samples.setdefault((f"{way}, server", subject.name), []).append(server)
                        samples.setdefault((f"{way}, Redis", subject.name), []).append(store)
    print(f"load {os.getloadavg()[0]:.1f}; CPU a join, medians of {chosen.bursts} bursts")
    print(*report([name for name, _ in trees], samples), sep="\n")


if __name__ == "__main__":
    main()
