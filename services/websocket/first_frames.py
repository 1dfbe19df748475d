"""Delays the first frame after a handshake a little, so that the client listens by then.

Some libraries lose a frame that arrives together with the 101 if the program waits for `open`
before it listens (npm ws). Others hold it back until the next bytes (simple-websocket). One
iteration of the loop later was not enough for the former in 7 of 12 runs; 2 ms later was enough in
all.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable

DELAY_SECONDS = 0.002
CHECK_SECONDS = 0.001
"""Timers count in whole milliseconds, from when their turn of the loop began: one that fires
early is set again for this long."""

log = logging.getLogger("usher.websocket")


class FirstFrames:
    """Calls back each new socket after its delay, with one timer for all of them."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[tuple[float, Callable[[], None]]] = deque()

    def add(self, act: Callable[[], None]) -> None:
        """Call `act` in 2 to 4 ms."""
        if not self._waiting:
            self._loop.call_later(DELAY_SECONDS, self._due)
        # Not the loop's time, which does not advance within an iteration.
        self._waiting.append((time.monotonic() + DELAY_SECONDS, act))

    def _due(self) -> None:
        waiting, now = self._waiting, time.monotonic()
        while waiting and waiting[0][0] <= now:
            _, act = waiting.popleft()
            try:
                act()
            except Exception:  # one socket's fault must not keep the others waiting
                log.exception("a socket could not begin")
        if waiting:
            self._loop.call_later(max(CHECK_SECONDS, waiting[0][0] - now), self._due)
