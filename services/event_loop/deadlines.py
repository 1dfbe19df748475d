"""Deadlines that are minutes away, with one timer for all of them.

A timer of the loop takes half a kilobyte. A node with 100,000 sockets has as many tokens that
expire in some minutes, and most sockets are gone before.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Callable
from typing import Generic, TypeVar

NEAR_SECONDS = 2.0
"""What is due within this time takes a timer of its own: one here may be called a second before."""

log = logging.getLogger("usher.deadlines")

T = TypeVar("T")


class Deadlines(Generic[T]):
    """Calls back in the second before a deadline, for what wants a precise timer only then.

    An owner has one deadline at most, and none twice: `add` is called again after `discard`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._by_second: dict[int, dict[T, Callable[[T], None]]] = {}
        self._seconds: list[int] = []
        """A heap. A second is in it once, and stays in it until then, though it may be empty."""
        self._timer: asyncio.TimerHandle | None = None
        self._timer_for = 0

    def __len__(self) -> int:
        return sum(map(len, self._by_second.values()))

    def add(self, owner: T, delay: float, act: Callable[[T], None]) -> int:
        """Call `act` with its owner, up to a second before a delay is over.

        Args:
            delay: seconds from now, more than NEAR_SECONDS.

        Returns:
            The second, for `discard`. It is never 0.
        """
        second = int(self._loop.time() + delay)
        owners = self._by_second.get(second)
        if owners is None:
            owners = self._by_second[second] = {}
            heapq.heappush(self._seconds, second)
            self._set_timer()
        owners[owner] = act
        return second

    def discard(self, owner: T, second: int) -> None:
        """Forget the deadline of an owner, if it has one in this second."""
        owners = self._by_second.get(second)
        if owners is not None:
            owners.pop(owner, None)

    def _set_timer(self) -> None:
        first = self._seconds[0]
        if self._timer is not None:
            if self._timer_for <= first:
                return
            self._timer.cancel()
        self._timer_for = first
        self._timer = self._loop.call_later(max(0.0, first - self._loop.time()), self._due)

    def _due(self) -> None:
        self._timer = None
        now = self._loop.time()
        while self._seconds and self._seconds[0] <= now:
            owners = self._by_second.pop(heapq.heappop(self._seconds))
            for owner, act in owners.items():
                try:
                    act(owner)
                except Exception:  # one owner's fault must not cost the others their deadlines
                    log.exception("a deadline could not be met")
        if self._seconds:
            self._set_timer()
