"""A minimal epoll loop, so that the load generator costs a fraction of the server it loads."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable
from typing import Protocol

from benchmarks.errors import BenchmarkFailed

READ_BYTES = 65_536
PULSE_SECONDS = 0.002


class Channel(Protocol):
    """Something with a socket that wants to know when it can be read (or, once, written)."""

    sock: socket.socket

    def on_ready(self, events: int) -> None: ...


class Reactor:
    """Calls each channel when its socket is ready."""

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._channels: dict[int, Channel] = {}
        self._pulse: Callable[[], None] | None = None

    def on_pulse(self, act: Callable[[], None] | None) -> None:
        """Call ``act`` in every turn, at least every few milliseconds; None ends it."""
        self._pulse = act

    def add(self, channel: Channel, events: int = select.EPOLLIN) -> None:
        fileno = channel.sock.fileno()
        self._channels[fileno] = channel
        self._poll.register(fileno, events)

    def expect_reads(self, channel: Channel) -> None:
        """After a connect that had to wait: from now on only reads matter."""
        self._poll.modify(channel.sock.fileno(), select.EPOLLIN)

    def discard(self, channel: Channel) -> None:
        """Forget a channel and close its socket."""
        fileno = channel.sock.fileno()
        if fileno >= 0 and self._channels.pop(fileno, None) is not None:
            channel.sock.close()  # closing takes it out of epoll as well

    def run_until(self, done: Callable[[], bool], seconds: float, what: str) -> None:
        """Turn until ``done()``; raises BenchmarkFailed after that many seconds."""
        deadline = time.perf_counter() + seconds
        while not done():
            left = deadline - time.perf_counter()
            if left <= 0:
                raise BenchmarkFailed(f"{what}: not done after {seconds:.0f} s")
            self._turn(left)

    def run_for(self, seconds: float) -> None:
        """Turn for that long, whatever happens."""
        deadline = time.perf_counter() + seconds
        while (left := deadline - time.perf_counter()) > 0:
            self._turn(left)

    def _turn(self, seconds: float) -> None:
        if self._pulse is not None:
            self._pulse()
            seconds = min(seconds, PULSE_SECONDS)
        for fileno, events in self._poll.poll(seconds):
            channel = self._channels.get(fileno)
            if channel is not None:
                channel.on_ready(events)

    def close(self) -> None:
        for channel in list(self._channels.values()):
            self.discard(channel)
        self._poll.close()
