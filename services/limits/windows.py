"""Counters in this process, used while Redis is unavailable."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

MAX_WINDOWS = 100_000
"""About ten MB. Beyond it the oldest window is removed: an attacker with that many addresses cannot
be limited by address anyway."""


class Windows:
    """Fixed windows of one length, each beginning with its first hit.

    Args:
        seconds: the length of a window.
        clock: a monotonic clock, in seconds.
    """

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds, self._clock = seconds, clock
        # All windows are equally long, so they end in the order in which they began.
        self._windows: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def take(self, key: str, amount: int) -> tuple[bool, float]:
        """Take one of `amount`. Returns whether one was left, and the seconds until the window
        ends."""
        now = self._clock()
        self._forget(now)
        count, ends_at = self._windows.get(key, (0, now + self._seconds))
        if count >= amount:
            return False, ends_at - now
        self._windows[key] = (count + 1, ends_at)
        return True, ends_at - now

    def give_back(self, key: str) -> None:
        """Give one back, if its window has not ended."""
        count, ends_at = self._windows.get(key, (0, 0.0))
        if count > 1:
            self._windows[key] = (count - 1, ends_at)
        else:
            self._windows.pop(key, None)

    def _forget(self, now: float) -> None:
        while self._windows:
            key, (_, ends_at) = next(iter(self._windows.items()))
            if ends_at > now and len(self._windows) < MAX_WINDOWS:
                return
            del self._windows[key]
