"""What every measurement shares: subjects, servers, meters, rounds.

A measurement is a small object with a ``name``, the ``figures`` it gives and ``run(lab, subject)``
for one round. The runner interleaves the subjects, so a slow minute of the machine hits all alike.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from benchmarks import machine
from benchmarks.accounts import Login, TokenMint, sign_in
from benchmarks.installation import DIRECT, THROUGH_TORNADO, Installation
from benchmarks.servers import Server, bare_command, free_port, running, usher_command
from benchmarks.sizes import LIMITS, TOKEN_TTL_SECONDS, Sizes

USHER, NODES, BARE, TORNADO = "usher", "nodes", "bare", "usher-tornado"
"""Subjects: one node, two nodes of one installation, the baseline, and one node with its sockets
through Tornado's own handler."""


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
    """CPU time of the processes in a period; all in seconds.

    ``cores``: how many the servers had between them.
    """

    wall: float
    server: float
    store: float
    load: float
    others: float
    cores: int = 1

    def per_thousand(self, count: int) -> dict[str, float]:
        """CPU milliseconds per 1,000 operations."""
        return {
            "server CPU": self.server * 1e6 / count,
            "Redis CPU": self.store * 1e6 / count,
        }

    def shares(self) -> dict[str, float]:
        """Shares of a core in per cent: proof of who was the bottleneck, and who disturbed."""
        time_of_servers = self.wall * self.cores
        return {
            "server's core: server": 100 * self.server / time_of_servers,
            "server's core: others": 100 * self.others / time_of_servers,
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
    """Reads the clocks when made and again at ``stop()``. Several nodes are added up."""

    def __init__(self, servers: Sequence[Server], cores: machine.Cores) -> None:
        self._servers = servers
        self._cores = {cores.server, cores.second} if len(servers) > 1 else {cores.server}
        self._before = self._read()

    def _read(self) -> tuple[float, float, float, float, float]:
        stores = [server.store_pid for server in self._servers if server.store_pid is not None]
        return (
            time.perf_counter(),
            sum(machine.cpu_seconds(server.pid) for server in self._servers),
            sum(map(machine.cpu_seconds, stores)),
            time.process_time(),
            sum(map(machine.core_busy_seconds, self._cores)),
        )

    def stop(self) -> Usage:
        wall, server, store, load, busy = (
            after - before for after, before in zip(self._read(), self._before, strict=True)
        )
        others = max(0.0, busy - server)
        return Usage(wall, server, store, load, others, len(self._cores))


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
        self._installation: Installation | None = None
        self._open = ExitStack()
        self._kept_usher = self._open.enter_context(ExitStack())

    def close(self) -> None:
        """Stop the servers that were kept."""
        self._open.close()

    def environment(self) -> dict[str, str]:
        """Usher's settings: the defaults, but for a known secret, long-lived tokens, and limits
        that one client which plays thousands does not reach."""
        return {
            **LIMITS,
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

    @property
    def installation(self) -> Installation:
        """The installation for rooms and several nodes; made when it is first wanted."""
        if self._installation is None:
            installation = Installation(self.sizes, self.cores, self._folder / "environment")
            self._installation = self._open.enter_context(closing(installation))
        return self._installation

    @contextmanager
    def room_servers(self, subject: str) -> Iterator[list[Server]]:
        """The subject with the room in it: one or two nodes, or the baseline."""
        if subject == BARE:
            with self.server(BARE) as server:
                yield [server]
        else:
            form = THROUGH_TORNADO if subject == TORNADO else DIRECT
            with self.installation.nodes(2 if subject == NODES else 1, form) as servers:
                yield servers

    def take(self, count: int) -> list[Login]:
        """Login sessions that nobody else of the run uses: they may be ended."""
        if count > len(self._reserved):
            raise LookupError(f"{count} login sessions wanted, {len(self._reserved)} left")
        taken, self._reserved = self._reserved[:count], self._reserved[count:]
        return taken

    @contextmanager
    def server(self, subject: str) -> Iterator[Server]:
        """A fresh server process of the subject, pinned; the generator is on the other core."""
        with self._process(subject, self.cores) as server, machine.working_on(self.cores.load):
            yield server

    @contextmanager
    def _process(self, subject: str, cores: machine.Cores | None) -> Iterator[Server]:
        command = bare_command() if subject == BARE else self._command
        environment = {} if subject == BARE else self.environment()
        if subject == TORNADO:
            environment = {**environment, "USHER_WEBSOCKET": THROUGH_TORNADO}
        if not self.sizes.keep_servers:
            with running(command, environment, cores) as server:
                yield server
            return
        if subject not in self._kept:
            if subject != BARE:  # both forms of Usher want the same port and data folder
                self._kept_usher.close()
                for other in (USHER, TORNADO):
                    self._kept.pop(other, None)
            stack = self._open if subject == BARE else self._kept_usher
            process = running(command, environment, self.cores)
            self._kept[subject] = stack.enter_context(process)
        yield self._kept[subject]

    def meter(self, *servers: Server) -> Meter:
        return Meter(servers, self.cores)

    def greeting(self, subject: str) -> bytes:
        """What the frame that ends a join holds; the baseline greets nobody."""
        return b"" if subject == BARE else b'"joined"'

    def tokens(self, subject: str, count: int) -> list[str]:
        """Access tokens never used before. The baseline gets some too: the same bytes to read."""
        return list(self.mint.spread(self.logins, count)) if self.logins else [""] * count


class Measurement(Protocol):
    """One measurement."""

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
