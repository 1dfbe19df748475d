"""A server that is attacked, its users, and what an attack must not leave behind."""

from __future__ import annotations

import contextlib
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.raw import SECRET, RawClient, assert_quiet, joined, quiet_usher
from tests.support.server import Client, Usher, sign_up, wait_until

WIDE_BOUND_SECONDS = 3.0
"""What anybody else's heartbeat may take while somebody attacks, on a busy machine."""


@pytest.fixture(scope="module")
def target(socket_kind: str) -> Iterator[Usher]:
    """Its limits are wide: what holds without them holds with them; test_message_rate.py and
    test_unjoined.py have those."""
    wide = {"MESSAGE_RATE": 100_000, "MAX_UNJOINED_PER_ADDRESS": 5000, "MAX_SOCKETS_PER_USER": 5000}
    settings = {"JWT_SECRETS": SECRET, "JOIN_TIMEOUT_SECONDS": 60, **wide}
    with quiet_usher(socket_kind, **settings) as server:
        yield server


@pytest.fixture(scope="module")
def ada(target: Usher) -> Client:
    return sign_up(target)


@pytest.fixture
def canary(target: Usher, ada: Client) -> Iterator[RawClient]:
    """An innocent socket that has to be served before, meanwhile and afterwards."""
    with joined(target, target=f"/ws?ticket={ada.ticket()}") as client:
        yield client
        client.lives()
    assert_quiet(target.log)


def open_files(server: Usher) -> int:
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))


@pytest.fixture
def nothing_kept(target: Usher) -> Iterator[None]:
    """Every connection of the test has to be let go of on the server's side as well."""
    before = open_files(target)
    yield
    # Two more: the database pool and Redis may have opened a connection meanwhile.
    wait_until(lambda: open_files(target) <= before + 2)


def heartbeat_seconds(client: RawClient) -> float:
    began = time.monotonic()
    client.lives()
    return time.monotonic() - began


@contextlib.contextmanager
def many_files() -> Iterator[None]:
    """Allow this process two thousand files, for the time of a test."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 4096:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
