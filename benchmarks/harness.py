"""What every measurement shares: sizes, subjects, servers, meters, rounds.

A measurement is a small object with a ``name``, the ``figures`` it gives and ``run(lab, subject)``
for one round. The runner interleaves the subjects, so a slow minute of the machine hits all alike.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from benchmarks import machine
from benchmarks.accounts import Login, TokenMint, sign_in
from benchmarks.servers import Server, bare_command, free_port, running, usher_command

USHER, BARE = "usher", "bare"
TOKEN_TTL_SECONDS = 7_200  # longer than any run: no token expires while it is measured


@dataclass(frozen=True)
class Sizes:
    """How much work one round does."""

    rounds: int
    users: int
    logins: int
    joins: int
    tickets: int
    lanes: int
    messages: int
    message_sockets: int
    idle_sockets: int
    logouts: int
    keep_servers: bool = False  # one process for the whole run instead of one per sample


FULL = Sizes(
    rounds=3,
    users=5,
    logins=250,
    joins=5_000,
    tickets=3_000,
    lanes=50,
    messages=60_000,
    message_sockets=50,
    idle_sockets=5_000,
    logouts=334,
)
QUICK = Sizes(
    rounds=1,
    users=2,
    logins=8,
    joins=400,
    tickets=200,
    lanes=20,
    messages=4_000,
    message_sockets=20,
    idle_sockets=200,
    logouts=15,
    keep_servers=True,
)


@dataclass(frozen=True)
class Figure:
    """One number of a measurement.

    ``quantile`` takes it from the pooled values of that name instead of the rounds' medians
    (0.5, 0.99, 1.0 for the greatest). ``compare`` says whether a ratio to the baseline means
    anything.
    """

    name: str
    unit: str
    digits: int = 0
    compare: bool = True
    pool: str = ""
    quantile: float = 0.5


CALIBRATION = Figure("(the machine: fixed loop", "ms)", digits=1, compare=False)


@dataclass(frozen=True)
class Sample:
    """One round of one subject: single values, and pools of values to take quantiles from."""

    values: Mapping[str, float] = field(default_factory=dict)
    pools: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def plus(self, name: str, value: float) -> Sample:
        """The same sample with one more value."""
        return Sample({**self.values, name: value}, self.pools)


@dataclass(frozen=True)
class Usage:
    """Who used how much CPU in a stretch of time; all in seconds."""

    wall: float
    server: float
    store: float
    load: float
    others: float

    def per_thousand(self, count: int) -> dict[str, float]:
        """CPU milliseconds per 1,000 operations."""
        return {
            "server CPU": self.server * 1e6 / count,
            "Redis CPU": self.store * 1e6 / count,
        }

    def shares(self) -> dict[str, float]:
        """Shares of a core in per cent: proof of who was the bottleneck, and who disturbed."""
        return {
            "server's core: server": 100 * self.server / self.wall,
            "server's core: others": 100 * self.others / self.wall,
            "load's core: generator": 100 * self.load / self.wall,
            "load's core: Redis": 100 * self.store / self.wall,
        }


SHARES = (
    Figure("server's core: server", "%", compare=False),
    Figure("server's core: others", "%", compare=False),
    Figure("load's core: generator", "%", compare=False),
    Figure("load's core: Redis", "%", compare=False),
)


class Meter:
    """Reads the clocks when made and again at ``stop()``."""

    def __init__(self, server: Server, cores: machine.Cores) -> None:
        self._server = server
        self._cores = cores
        self._before = self._read()

    def _read(self) -> tuple[float, float, float, float, float]:
        store = self._server.store_pid
        return (
            time.perf_counter(),
            machine.cpu_seconds(self._server.pid),
            machine.cpu_seconds(store) if store is not None else 0.0,
            time.process_time(),
            machine.core_busy_seconds(self._cores.server),
        )

    def stop(self) -> Usage:
        wall, server, store, load, busy = (
            after - before for after, before in zip(self._read(), self._before, strict=True)
        )
        return Usage(wall, server, store, load, others=max(0.0, busy - server))


class Lab:
    """The place of one run: cores, sizes, Usher's data folder, and its login sessions.

    Every sample of a full run has a fresh server process. Usher's keep their accounts in one data
    folder and listen on one port, as after any restart: a token's issuer is the server's address.
    """

    def __init__(self, sizes: Sizes, cores: machine.Cores, folder: Path) -> None:
        self.sizes = sizes
        self.cores = cores
        self._folder = folder
        self._command = usher_command(folder / "usher", free_port())
        self._secret = secrets.token_urlsafe(48)
        self._reserved: list[Login] = []
        self.mint = TokenMint(self._secret)
        self.logins: list[Login] = []
        self._kept: dict[str, Server] = {}
        self._open = ExitStack()

    def close(self) -> None:
        """Stop the servers that were kept."""
        self._open.close()

    def environment(self) -> dict[str, str]:
        """Usher's settings: the defaults, but for a known secret and long-lived tokens."""
        return {
            "USHER_JWT_SECRETS": self._secret,
            "USHER_ACCESS_TOKEN_TTL_SECONDS": str(TOKEN_TTL_SECONDS),
        }

    def prepare(self, reserved: int) -> None:
        """Sign in once for the whole run; ``reserved`` sessions are there to be used up."""
        with self._process(USHER, None) as server:
            logins = sign_in(server.address, self.sizes.users, self.sizes.logins + reserved)
        self.logins, self._reserved = logins[: self.sizes.logins], logins[self.sizes.logins :]

    def apart(self, name: str) -> Lab:
        """A lab with a data folder of its own, prepared with a few login sessions.

        For what must not meet the traces of earlier rounds, such as memory that Redis keeps.
        """
        sizes = replace(self.sizes, users=1, logins=4)
        lab = Lab(sizes, self.cores, self._folder / f"{name}-{secrets.token_hex(4)}")
        lab.prepare(0)
        return lab

    def take(self, count: int) -> list[Login]:
        """Login sessions that nobody else of the run uses: they may be ended."""
        if count > len(self._reserved):
            raise LookupError(f"{count} login sessions wanted, {len(self._reserved)} left")
        taken, self._reserved = self._reserved[:count], self._reserved[count:]
        return taken

    @contextmanager
    def server(self, subject: str) -> Iterator[Server]:
        """A fresh server process of the subject, pinned; the generator is on the other core."""
        before = os.sched_getaffinity(0)
        with self._process(subject, self.cores) as server:
            machine.pin(os.getpid(), self.cores.load)
            try:
                yield server
            finally:
                os.sched_setaffinity(0, before)

    @contextmanager
    def _process(self, subject: str, cores: machine.Cores | None) -> Iterator[Server]:
        command = self._command if subject == USHER else bare_command()
        environment = self.environment() if subject == USHER else {}
        if not self.sizes.keep_servers:
            with running(command, environment, cores) as server:
                yield server
            return
        if subject not in self._kept:
            process = running(command, environment, self.cores)
            self._kept[subject] = self._open.enter_context(process)
        yield self._kept[subject]

    def meter(self, server: Server) -> Meter:
        return Meter(server, self.cores)

    def greeting(self, subject: str) -> bytes:
        """What the frame that ends a join holds; the baseline greets nobody."""
        return b'"joined"' if subject == USHER else b""

    def tokens(self, subject: str, count: int) -> list[str]:
        """Access tokens never used before. The baseline gets some too: the same bytes to read."""
        return list(self.mint.spread(self.logins, count)) if self.logins else [""] * count


class Measurement(Protocol):
    """One question put to the servers."""

    name: str
    title: str
    subjects: tuple[str, ...]
    figures: tuple[Figure, ...]

    def logins_used_up(self, sizes: Sizes) -> int:
        """How many login sessions a whole run of it ends."""
        ...

    def run(self, lab: Lab, subject: str) -> Sample:
        """One round. Raises BenchmarkFailed when the work was not done as described."""
        ...
