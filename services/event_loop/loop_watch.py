"""Detects stalls of the event loop: a stopped process, a suspended machine, a long pause.

After a stall a node's state may be outdated: other nodes may have revoked sessions, and continued
without its acknowledgement. So every path that receives or sends data checks here first. The check
is one clock reading per read from the network, not one per frame.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable

STALL_SECONDS = 1.0
"""Messages of other nodes are assumed to arrive within this time (contract: closed within 1 s)."""
TICK_SECONDS = 0.2
"""How often an idle loop shows that it is running."""

# CLOCK_MONOTONIC stops with a suspended machine on Linux; on macOS it does not.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def boot_time() -> float:
    """Seconds of a monotonic clock that continues while the machine is suspended."""
    return time.clock_gettime(_CLOCK)


def never_stalled() -> bool:
    """A substitute for `LoopWatch.check` without a watch."""
    return False


class LoopWatch:
    """Detects whether the loop has stalled since the last check.

    Attributes:
        clock: seconds, as `boot_time`.
        seen: when it was last checked, by that clock.
        behind: it has stalled, and missed messages have not been read yet (`caught_up`).
        resumed_at: when the last stall was caught up with, by the loop's clock.
    """

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        # A partial of the C function: half the time of a function of ours around it.
        self.clock = clock or functools.partial(time.clock_gettime, _CLOCK)
        self.seen = self.clock()
        self.behind = False
        self.resumed_at = 0.0
        self._on_stall: list[Callable[[float], None]] = []
        self._on_resume: list[Callable[[], None]] = []
        self._passed: asyncio.Event | None = None
        self._timer: asyncio.TimerHandle | None = None

    def on_stall(self, act: Callable[[float], None]) -> None:
        """Call `act` with the seconds of every stall, before anything is received or sent."""
        self._on_stall.append(act)

    def on_resume(self, act: Callable[[], None]) -> None:
        """Call `act` once the messages missed in a stall have been read."""
        self._on_resume.append(act)

    def start(self) -> None:
        """Start watching. Without it, a stall is measured only from the last activity."""
        self.seen = self.clock()
        self._tick()

    def stop(self) -> None:
        """Stop watching."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        self.check()
        self._timer = asyncio.get_running_loop().call_later(TICK_SECONDS, self._tick)

    def check(self) -> bool:
        """Check the clock. Returns True while nothing may be received or sent. Does not wait."""
        now = self.clock()
        if now - self.seen >= STALL_SECONDS:
            stood, self.seen = now - self.seen, now
            self._stalled(stood)
        self.seen = now
        return self.behind

    def _stalled(self, seconds: float) -> None:
        if self._timer is None:
            return  # not watched (any more): `behind` would never be reset
        self.behind = True
        for act in self._on_stall:
            act(seconds)

    async def passed(self) -> None:
        """Wait until missed messages have been read."""
        while self.behind:
            if self._passed is None:
                self._passed = asyncio.Event()
            await self._passed.wait()

    def caught_up(self) -> None:
        """Missed messages have been read: resume receiving and sending."""
        if not self.behind:
            return
        self.behind = False
        self.resumed_at = asyncio.get_running_loop().time()
        if self._passed is not None:
            self._passed.set()
            self._passed = None
        for act in self._on_resume:
            act()
