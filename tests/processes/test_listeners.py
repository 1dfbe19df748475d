"""One port for several processes."""

from __future__ import annotations

import gc
import socket
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

import pytest

from services.errors import SettingError
from services.processes import listeners
from services.processes.listeners import bind

on_linux = pytest.mark.skipif("sys.platform != 'linux'", reason="elsewhere one socket is shared")
CONNECTIONS = 200


@contextmanager
def bound(host: str, processes: int, port: int = 0) -> Iterator[list[list[socket.socket]]]:
    groups = bind(host, port, processes)
    try:
        yield groups
    finally:
        for group in groups:
            listeners.close(group)


def refused(host: str, port: int, processes: int) -> tuple[str, str]:
    """The setting that is refused, and what it is said to be."""
    with warnings.catch_warnings():
        # Tornado leaves the socket open that it could not bind; a server ends then.
        warnings.simplefilter("ignore", ResourceWarning)
        with pytest.raises(SettingError) as caught:
            bind(host, port, processes)
        reported = caught.value.name, caught.value.got
        del caught
        gc.collect()
    return reported


def accepted(sock: socket.socket) -> int:
    """How many connections wait; they are closed."""
    count = 0
    while True:
        try:
            connection, _ = sock.accept()
        except BlockingIOError:
            return count
        connection.close()
        count += 1


@on_linux
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_connections_are_spread_over_the_processes(host: str) -> None:
    with bound(host, 3) as groups, ExitStack() as stack:
        address = groups[0][0].getsockname()
        assert all(group[0].getsockname() == address for group in groups)
        for _ in range(CONNECTIONS):
            stack.enter_context(closing(socket.create_connection(address[:2])))
        counts = [accepted(group[0]) for group in groups]
        assert sum(counts) == CONNECTIONS
        # A third each, by chance: less than a sixth has a chance of 1 in 10^9.
        assert min(counts) > CONNECTIONS / 6


def test_each_process_listens_at_every_address_of_the_name() -> None:
    with bound("localhost", 2) as (first, second):
        assert [s.getsockname() for s in first] == [s.getsockname() for s in second]
        assert len({s.getsockname()[1] for s in first}) == 1


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("theirs", [1, 2])
def test_a_port_of_another_server_is_refused_shared_or_not(processes: int, theirs: int) -> None:
    with bound("127.0.0.1", theirs) as groups:
        port = groups[0][0].getsockname()[1]
        name, got = refused("127.0.0.1", port, processes)
        assert name == "USHER_PORT"
        assert got.startswith(f"{port} on 127.0.0.1 (Address already in use")


@on_linux
def test_what_arrives_while_a_process_is_away_waits_for_the_next() -> None:
    with bound("127.0.0.1", 2) as (first, second), ExitStack() as stack:
        of_the_process = second[0].dup()
        of_the_process.close()  # it ended
        for _ in range(20):
            stack.enter_context(closing(socket.create_connection(first[0].getsockname())))
        assert accepted(first[0]) + accepted(second[0]) == 20


def test_a_host_that_is_not_here_is_said() -> None:
    assert refused("192.0.2.1", 0, 2)[0] == "USHER_HOST"
