"""Measures the memory of idle sockets, also of more than one client's addresses allow.

    python -m benchmarks.idle_sockets                      # 5,000 sockets in 10 channels
    python -m benchmarks.idle_sockets --sockets 100000     # needs ulimit -n 100200
    python -m benchmarks.idle_sockets --tree /path/to/a/worktree

benchmarks/guest/idle_sockets.sh runs it where that limit cannot be raised.

Each socket is of another person, and a channel has 50 of them, who join one after the other. They
come from as many addresses of 127.0.0.0/8 as it takes, 20,000 from each. A server's memory is its
resident set before and after, divided by the sockets; that of Redis by itself. Kernel buffers are
in neither.
"""

from __future__ import annotations

import argparse
import multiprocessing
import secrets
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import msgspec
import redis

from benchmarks import machine
from benchmarks.accounts import Login, TokenMint, sign_in
from benchmarks.errors import BenchmarkFailed
from benchmarks.prometheus import read_gauge
from benchmarks.reactor import Reactor
from benchmarks.servers import ROOT, Server, free_port, running, usher_command
from benchmarks.sizes import LIMITS, TOKEN_TTL_SECONDS
from benchmarks.ws_load import PING, SIGN_OF_LIFE, Address, Client, handshake, open_all, visit
from services.composition.heap import IDLE_SECONDS
from services.embedded.redis_server import EmbeddedRedis
from services.grants.rules import Grant, Right
from services.sessions.login_cache import LoginState, login_key

MEMBERS = 50
"""Of a channel."""
SPARE_FILES = 200
PER_PROCESS = 15_000
PER_ADDRESS = 20_000
WARM_UP = 200
AHEAD_SECONDS = 2 * 3_600.0
"""How new the state of a login is said to be: newer than what the database is asked about."""
OPEN_SECONDS = 1_800.0
SETTLE_SECONDS = 12.0
REST_SECONDS = 2 * IDLE_SECONDS + 3.0
"""Until the server has given back what its hashes took."""


@dataclass(frozen=True)
class Footprint:
    """What sockets need: bytes each, of the server's and of Redis' resident set."""

    sockets: int
    server_bytes: float
    store_bytes: float
    resident: int
    """Of the server with all of them, bytes."""


class _Idle(Client):
    """A socket from an address of our own, which then only answers pings."""

    def __init__(self, reactor: Reactor, address: Address, upgrade: bytes, source: str) -> None:
        self._source = source
        super().__init__(reactor, address, upgrade, b'"joined"')

    def _connect(self, address: Address) -> None:
        self.sock.bind((self._source, 0))
        super()._connect(address)

    def _take_frame(self, opcode: int, payload: bytes) -> None:
        if opcode == PING:  # one that is silent for over a minute is dropped
            self.send(SIGN_OF_LIFE)
        else:
            super()._take_frame(opcode, payload)

    def on_closed(self) -> None:
        raise BenchmarkFailed(f"an idle socket was closed with {self.close_code}")


def hold(address: Address, first: int, upgrades: Sequence[bytes], tell: Connection) -> None:
    """Open sockets in a process of their own, and keep them until told to stop.

    Args:
        first: the number of the first of them among all.
        tell: sent True when all are open, False if that failed; anything from it ends this.
    """
    try:
        machine.raise_file_limit(len(upgrades) + SPARE_FILES)
        reactor = Reactor()
        clients = open_all(
            reactor,
            (
                _Idle(reactor, address, one, f"127.0.1.{1 + number // PER_ADDRESS}")
                for number, one in enumerate(upgrades, first)
            ),
            seconds=OPEN_SECONDS,
        )
        tell.send(True)
        while not tell.poll():
            reactor.run_for(0.2)
        for client in clients:
            client.abandon()
    except BaseException:  # also if interrupted: who started this must not wait for an answer
        tell.send(False)
        raise


@contextmanager
def held(address: Address, upgrades: Sequence[bytes]) -> Iterator[None]:
    """Hold idle sockets open until the block ends.

    Raises:
        BenchmarkFailed: they could not be opened, or did not stay open.
    """
    context, holders = multiprocessing.get_context("spawn"), []
    try:
        for first in range(0, len(upgrades), PER_PROCESS):
            ours, theirs = context.Pipe()
            share = upgrades[first : first + PER_PROCESS]
            process = context.Process(target=hold, args=(address, first, share, theirs))
            process.start()
            holders.append((process, ours))
            if not (ours.poll(OPEN_SECONDS) and ours.recv()):
                raise BenchmarkFailed("sockets could not be opened")
        yield
        if any(ours.poll() for _, ours in holders):
            raise BenchmarkFailed("sockets did not stay open")
    finally:
        for process, ours in holders:
            if process.is_alive():
                ours.send(None)
            process.join()


def tokens(store: redis.Redis, mint: TokenMint, login: Login, count: int, each: int) -> list[str]:
    """Write so many people into Redis, each in `each` channels, and sign a token for each."""
    now, made = time.time(), []
    channels = [secrets.token_urlsafe(16) for _ in range(max(each, count * each // MEMBERS))]
    pipeline = store.pipeline(transaction=False)
    for number in range(count):
        user_id, session_id = secrets.token_urlsafe(16), secrets.token_urlsafe(16)
        grants = {
            channels[(number // MEMBERS * each + step) % len(channels)]: Grant(
                Right.WRITE, now - number - step / 1000
            )
            for step in range(each)
        }
        ends = now + TOKEN_TTL_SECONDS
        state = LoginState(f"Person {number}", "user", ends, now + AHEAD_SECONDS, grants, 0)
        pipeline.set(login_key(user_id, session_id), msgspec.json.encode(state), ex=int(ends - now))
        made.append(mint.another(login, sub=user_id, sid=session_id))
        if len(pipeline) >= 1000:
            pipeline.execute()
    pipeline.execute()
    return made


@contextmanager
def ready(tree: Path) -> Iterator[tuple[Server, redis.Redis, TokenMint, Login]]:
    """A server of a worktree with its Redis, and an ordinary login."""
    secret = secrets.token_urlsafe(48)
    settings = {
        **LIMITS,
        "USHER_JWT_SECRETS": secret,
        "USHER_ACCESS_TOKEN_TTL_SECONDS": str(TOKEN_TTL_SECONDS),
    }
    with tempfile.TemporaryDirectory(prefix="usher-idle-") as name:
        folder = Path(name)
        with running(usher_command(folder, free_port()), settings, None, tree) as server:
            _, login = sign_in(server.address, 2, 2)
            with closing(redis.Redis.from_url(EmbeddedRedis(folder, Path()).url)) as store:
                yield server, store, TokenMint(secret), login


def measure(
    tree: Path, sockets: int, each: int, settle: float = SETTLE_SECONDS, rest: float = REST_SECONDS
) -> Footprint:
    """Open idle sockets and see what they take.

    Args:
        each: channels that each is in.
        rest: seconds before the first of them, for what follows the sign-ins.
        settle: seconds until the memory is read, for what follows the joins.

    Raises:
        BenchmarkFailed: the sockets can't be opened or held, for the machine's limits among others,
            or the server counts others than these.
    """
    if machine.raise_file_limit(sockets + SPARE_FILES) < sockets + SPARE_FILES:
        raise BenchmarkFailed(f"{sockets} sockets need a higher limit of open files: ulimit -n")
    with ready(tree) as (server, store, mint, login):
        made = tokens(store, mint, login, sockets + WARM_UP, each)
        upgrades = [handshake(server.address, token) for token in made]
        visit(server.address, upgrades[:WARM_UP], b'"joined"', 20)
        time.sleep(rest)
        before = _resident(server)
        with held(server.address, upgrades[WARM_UP:]):
            time.sleep(settle)
            after = _resident(server)
            if (joined := read_gauge(server, "usher_sockets")) != sockets:
                raise BenchmarkFailed(f"{joined:.0f} of {sockets} sockets are joined")
    used, kept = ((end - start) / sockets for start, end in zip(before, after, strict=True))
    return Footprint(sockets, used, kept, after[0])


def _resident(server: Server) -> tuple[int, int]:
    store = server.store_pid
    kept = machine.resident_bytes(store) if store is not None else 0
    return machine.resident_bytes(server.pid), kept


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sockets", type=int, default=5_000)
    parser.add_argument("--channels", type=int, default=10, help="that each socket is in")
    parser.add_argument(
        "--settle", type=float, default=SETTLE_SECONDS, help="seconds until the memory is read"
    )
    parser.add_argument("--tree", type=Path, default=ROOT)
    chosen = parser.parse_args()
    found = measure(chosen.tree.resolve(), chosen.sockets, chosen.channels, chosen.settle)
    print(
        f"{found.sockets:,} sockets in {chosen.channels} channels each: "
        f"{found.server_bytes / 1024:.2f} KiB a socket in the server, "
        f"{found.store_bytes / 1024:.2f} KiB in Redis; "
        f"the server's resident set {found.resident / 1e6:.1f} MB"
    )


if __name__ == "__main__":
    main()
