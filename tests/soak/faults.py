"""The faults of a soak: each is injected, lasts, and is removed."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from tests.flows.test_lease import read_only
from tests.soak.installation import Installation
from tests.support.redis import PATIENCE

Wait = Callable[[], None]
CLOCK_STEP_SECONDS = 120
BALLAST_BYTES = 1 << 20
WAL_FILES = 8


class Fault(NamedTuple):
    """One kind of fault.

    Attributes:
        name: for the table.
        act: does it, waits, and undoes it.
        node: the number of the node that it stops or kills, or None.
    """

    name: str
    act: Callable[[Installation, Wait], None]
    node: int | None = None


def _redis_killed(at: Installation, wait: Wait) -> None:
    at.redis.kill()
    wait()
    at.redis.start()


def _redis_frozen(at: Installation, wait: Wait) -> None:
    at.redis.send_signal(signal.SIGSTOP)
    wait()
    at.redis.send_signal(signal.SIGCONT)


def _redis_emptied(at: Installation, wait: Wait) -> None:
    assert at.redis.ask("FLUSHALL") == b"OK"
    wait()


def _redis_refuses(how: str) -> Callable[[Installation, Wait], None]:
    def act(at: Installation, wait: Wait) -> None:
        at.redis.refuse(how)
        wait()
        at.redis.accept()

    return act


def _redis_moved(at: Installation, wait: Wait) -> None:
    """A fail-over behind one name: the old master becomes a replica of the new one, and stays."""
    old, old_port = at.redis, at.redis_port
    new = at.new_redis()
    new.ask("REPLICAOF", "127.0.0.1", old_port)
    end = time.monotonic() + PATIENCE
    while b"master_link_status:up" not in new.ask("INFO", "replication"):
        assert time.monotonic() < end, "the replica does not follow"
        time.sleep(0.05)
    at.redis = new
    at.show_redis()
    new.ask("REPLICAOF", "NO", "ONE")
    old.ask("REPLICAOF", "127.0.0.1", at.redis_port)
    wait()
    old.close()


def _database_killed(at: Installation, wait: Wait) -> None:
    at.postgres.kill()
    wait()
    at.postgres.start()


def _database_frozen(at: Installation, wait: Wait) -> None:
    with at.postgres.frozen():
        wait()


def _database_read_only(at: Installation, wait: Wait) -> None:
    with read_only(at.database_url):
        wait()


def _database_full(at: Installation, wait: Wait) -> None:
    with _filled(at):
        for _ in range(WAL_FILES):  # its log goes on in files that are there already
            with suppress(Exception):
                at.postgres.psql("postgres", "SELECT pg_switch_wal()")
        wait()
    with suppress(OSError):
        at.postgres.start()  # it ends where it could not write its log


@contextmanager
def _filled(at: Installation) -> Iterator[None]:
    assert at.disk is not None
    ballast = at.disk / "ballast"
    piece = bytes(BALLAST_BYTES)
    try:
        with ballast.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(piece) == BALLAST_BYTES:
                pass
            file.write(piece)
        yield
    finally:
        ballast.unlink()


def _node_stopped(at: Installation, wait: Wait) -> None:
    at.nodes[1].process.send_signal(signal.SIGSTOP)
    wait()
    at.nodes[1].process.send_signal(signal.SIGCONT)


def _node_killed(at: Installation, wait: Wait) -> None:
    at.nodes[0].process.kill()
    wait()
    at.nodes[0].restart(signal.SIGKILL)


def _clock_stepped(seconds: int) -> Callable[[Installation, Wait], None]:
    def act(at: Installation, wait: Wait) -> None:
        at.step_clock(seconds)
        wait()
        at.step_clock(0)

    return act


FAULTS = [
    Fault("Redis killed", _redis_killed),
    Fault("database cut (killed)", _database_killed),
    Fault("node stopped (SIGSTOP)", _node_stopped, 1),
    Fault("Redis frozen (SIGSTOP)", _redis_frozen),
    Fault("database frozen (SIGSTOP)", _database_frozen),
    Fault("node killed (SIGKILL)", _node_killed, 0),
    Fault("Redis emptied (FLUSHALL)", _redis_emptied),
    Fault("database read-only", _database_read_only),
    Fault("Redis read-only (REPLICAOF)", _redis_refuses("READONLY")),
    Fault("database full (disk)", _database_full),
    Fault("Redis full (maxmemory)", _redis_refuses("OOM")),
    Fault(f"clock of a node {CLOCK_STEP_SECONDS} s ahead", _clock_stepped(CLOCK_STEP_SECONDS)),
    Fault("Redis moved (fail-over)", _redis_moved),
    Fault(f"clock of a node {CLOCK_STEP_SECONDS} s back", _clock_stepped(-CLOCK_STEP_SECONDS)),
]


def possible(at: Installation) -> list[Fault]:
    """Those that this machine lets us do."""
    return [
        fault
        for fault in FAULTS
        if (at.has_clock or "clock" not in fault.name)
        and (at.disk is not None or "disk" not in fault.name)
    ]
