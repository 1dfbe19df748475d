"""Calls within their bounds, and servers that answer with given bytes."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.support.http_answers import Reply
from tests.support.http_service import Seen, Service
from tests.support.provider import Provider, provider
from tests.support.server import PATIENCE

SECONDS = 0.7
"""For one call in these tests, in place of those that people wait for."""
WIDE = 6.0
"""What such a call takes at most on a busy machine, and the eight seconds do not."""


@pytest.fixture
def op() -> Iterator[Provider]:
    with provider() as running:
        yield running


@contextmanager
def within_bounds() -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < WIDE


class Saying(Service):
    """Says one thing to everybody."""

    def __init__(self, reply: Reply) -> None:
        super().__init__()
        self.reply = reply

    def answer(self, seen: Seen) -> Reply:
        return self.reply


@contextmanager
def talking(talk: Callable[[socket.socket, threading.Event], None]) -> Iterator[int]:
    """The port of a server that does this with its first connection, until the event."""
    over = threading.Event()

    def serve(listener: socket.socket) -> None:
        with listener.accept()[0] as peer:
            try:
                talk(peer, over)
            except OSError:
                return  # hung up on

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            over.set()
            thread.join(PATIENCE)
    assert not thread.is_alive()
