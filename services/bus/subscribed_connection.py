"""A connection to Redis in subscribed mode."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, cast

from hiredis import ProtocolError, Reader, ReplyError

from services.redis.link import error_word, pack
from services.redis.store import Command

PROBE_SECONDS = 0.5
TIMEOUT_SECONDS = 1.0


class SubscribedConnection(asyncio.Protocol):
    """One connection in subscribed mode. Calls `on_message` with kind, channel and body.

    Attributes:
        is_alive: whether it is not lost yet. `on_lost` is called once when it is.
    """

    def __init__(
        self, on_message: Any, on_lost: Any, on_refused: Any, stalled: Callable[[], bool]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_message, self._on_lost, self._on_refused = on_message, on_lost, on_refused
        self._stalled = stalled
        self._undelivered: list[bytes] = []
        """Data received during a stall; reading is paused, so the rest stays in the kernel."""
        self._due = 0.0
        self._reader = Reader()
        self._transport: asyncio.Transport | None = None
        self._last_received = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self.is_alive = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if not self.is_alive:  # given up while connecting
            self._transport.abort()
            return
        # Not at once: the greeting must be sent first.
        self._probe_later()

    def _probe_later(self) -> None:
        self._due = self._loop.time() + PROBE_SECONDS
        self._timer = self._loop.call_later(PROBE_SECONDS, self._probe)

    def write(self, commands: Iterable[Command]) -> None:
        payload = b"".join(map(pack, commands))
        if payload and self._transport is not None:
            self._transport.write(payload)

    def _probe(self) -> None:
        """Send PING, and close the connection if Redis has not replied to the previous ones."""
        now = self._loop.time()
        # After a stall of our own loop the replies are unread in the socket, as in link.py.
        unread = self._undelivered or now - self._due > PROBE_SECONDS
        if not unread and now - self._last_received > TIMEOUT_SECONDS + PROBE_SECONDS:
            self.lose()
            return
        self.write([("PING",)])
        self._probe_later()

    def data_received(self, data: bytes) -> None:
        self._last_received = self._loop.time()
        if self._stalled():
            self._undelivered.append(data)
            if self._transport is not None:
                self._transport.pause_reading()
        else:
            self._read(data)

    def resume(self) -> None:
        """Deliver undelivered data, after the other callbacks of the resume."""
        if self._undelivered:
            self._loop.call_soon(self._read_undelivered)

    def _read_undelivered(self) -> None:
        undelivered, self._undelivered = self._undelivered, []
        self._read(b"".join(undelivered))
        if self.is_alive and self._transport is not None:
            self._transport.resume_reading()

    def _read(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            while self.is_alive and (reply := self._reader.gets()) is not False:
                if isinstance(reply, ReplyError):  # a refused room must not count as subscribed
                    self._on_refused(error_word(reply))
                    self.lose()
                    return
                if isinstance(reply, list) and reply[0] in (b"message", b"subscribe"):
                    self._on_message(reply[0], reply[1], reply[2])
        except ProtocolError:
            self.lose()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lose()

    def lose(self) -> None:
        if not self.is_alive:
            return
        self.is_alive = False
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.abort()
        self._on_lost(self)
