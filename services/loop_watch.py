"""Detects that the event loop stood still: a stopped process, a suspended machine, a long pause.

What a node knew before the stall may be out of date: other nodes may have revoked sessions and gone
on without its acknowledgement. So every path that lets data in or out checks here first. The check
is one clock reading per read from the network, not one per frame.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable

STALL_SECONDS = 1.0
"""Messages of other nodes are taken as received within it (contract: closed within 1 s)."""
TICK_SECONDS = 0.2
"""How often an idle loop shows that it is running."""

# CLOCK_MONOTONIC stops with a suspended machine on Linux; on macOS it does not.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def boot_time() -> float:
    """Seconds on a clock that never goes back and that counts the time of a suspended machine."""
    return time.clock_gettime(_CLOCK)


def never_stalled() -> bool:
    """In place of `LoopWatch.check` where nobody watches."""
    return False


class LoopWatch:
    """Whether the loop has stood still since somebody last looked.

    Attributes:
        clock: seconds, as `boot_time`.
        seen: when it was last looked at, by that clock.
        behind: it has, and what was missed has not been read yet (`caught_up`).
        resumed_at: when that last ended, by the loop's clock.
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
        """Call `act` with the seconds of every stall, before anything else goes in or out."""
        self._on_stall.append(act)

    def on_resume(self, act: Callable[[], None]) -> None:
        """Call `act` once what was missed in a stall has been read."""
        self._on_resume.append(act)

    def start(self) -> None:
        """Begin to watch. Without it only other activity shows that the loop is running."""
        self.seen = self.clock()
        self._tick()

    def stop(self) -> None:
        """Watch no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        self.check()
        self._timer = asyncio.get_running_loop().call_later(TICK_SECONDS, self._tick)

    def check(self) -> bool:
        """Look at the clock. True while nothing may go in or out. No waiting."""
        now = self.clock()
        if now - self.seen >= STALL_SECONDS:
            stood, self.seen = now - self.seen, now
            self._stalled(stood)
        self.seen = now
        return self.behind

    def _stalled(self, seconds: float) -> None:
        if self._timer is None:
            return  # nobody watches (any more): it would be behind for ever
        self.behind = True
        for act in self._on_stall:
            act(seconds)

    async def passed(self) -> None:
        """Wait until what was missed has been read."""
        while self.behind:
            if self._passed is None:
                self._passed = asyncio.Event()
            await self._passed.wait()

    def caught_up(self) -> None:
        """What was missed has been read: things go in and out again."""
        if not self.behind:
            return
        self.behind = False
        self.resumed_at = asyncio.get_running_loop().time()
        if self._passed is not None:
            self._passed.set()
            self._passed = None
        for act in self._on_resume:
            act()
