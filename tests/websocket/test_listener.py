"""services/websocket/listener.py: who asks for too many connections is turned away."""

from __future__ import annotations

import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from services.websocket.listener import RESERVED_FILES, Listener
from tests.support.raw import RawClient, by_header, joined, quiet_usher
from tests.support.server import Client, Usher, log_in, sign_up, wait_until


@pytest.fixture
def listener() -> Iterator[Listener]:
    with Listener(socket.create_server(("127.0.0.1", 0))) as made:
        yield made


def limited(server_limit: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (server_limit, hard))


@pytest.fixture
def file_limit() -> Iterator[int]:
    """The limit of this process, put back afterwards."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield soft
    limited(soft)


def test_a_connection_is_accepted_with_its_address(listener: Listener) -> None:
    with socket.create_connection(listener.getsockname()) as client:
        connection, address = listener.accept()
        with connection:
            assert address == client.getsockname()


def test_without_a_connection_it_does_not_wait(listener: Listener) -> None:
    with pytest.raises(BlockingIOError):
        listener.accept()


def test_with_too_few_files_left_a_connection_is_refused(
    listener: Listener, file_limit: int, caplog: pytest.LogCaptureFixture
) -> None:
    where = listener.getsockname()
    with socket.create_connection(where) as one, socket.create_connection(where) as two:
        limited(two.fileno() + RESERVED_FILES)
        for client in (one, two):
            with pytest.raises(ConnectionAbortedError):
                listener.accept()
            assert client.recv(1) == b""
        assert len(caplog.records) == 1  # logged once, not for each
        limited(file_limit)
        with socket.create_connection(where):
            listener.accept()[0].close()


def accepted(server: Usher) -> bool:
    """Whether a new connection gets an answer."""
    try:
        return Client(server).get("/healthz").status == 200
    except ConnectionError:
        return False


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="limits of others: Linux only")
def test_exhausting_the_connections_affects_neither_members_nor_the_server(
    database_kind: str,
) -> None:
    with quiet_usher(database_kind) as server:
        ada = sign_up(server, email="ada@example.org")
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (160, hard))
        with joined(server, by_header(ada.token)) as member, ExitStack() as stack:
            for _ in range(300):
                stack.enter_context(RawClient(server))
            began = time.monotonic()
            member.lives()
            # It goes on asking the database and Redis.
            assert member.ask("token-refresh", {"token": ada.token})["ok"] is True
            assert time.monotonic() - began < 5
            wait_until(lambda: "connections are turned away" in server.log)
            assert len(server.log) < 20_000
        wait_until(lambda: accepted(server))  # files are freed a little after the last close
        assert log_in(server, "ada@example.org").user["id"] == ada.user["id"]
