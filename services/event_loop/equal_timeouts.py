"""Time-outs of one length for many, with one timer for all of them.

Whoever is added later is due later, so the first is always the next. A timer of the event loop for
each costs 1.5 µs with its cancellation, and most are cancelled.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

STEP_SECONDS = 0.01
"""Between two looks: what is due within it is late by it, and a look may pass many gaps."""

log = logging.getLogger("usher.timeouts")


class EqualTimeouts(Generic[T]):
    """A set whose members are called back if they are still in it after a time.

    Args:
        loop: the running event loop.
        seconds: after which a member is due.
        act: called with each member that is due, which is taken out before.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, seconds: float, act: Callable[[T], None]
    ) -> None:
        self._loop, self._seconds, self._act = loop, seconds, act
        self._due_at: dict[T, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._due_at)

    def __iter__(self) -> Iterator[T]:
        return iter(tuple(self._due_at))

    def add(self, member: T) -> None:
        """Add a member, which is not in it, and start its time."""
        self._due_at[member] = self._loop.time() + self._seconds
        if self._timer is None:
            self._timer = self._loop.call_later(self._seconds, self._due)

    def discard(self, member: T) -> None:
        """Take a member out, if it is in."""
        self._due_at.pop(member, None)

    def _due(self) -> None:
        self._timer = None
        now, due = self._loop.time(), list[T]()
        for member, due_at in self._due_at.items():
            if due_at > now:
                self._timer = self._loop.call_at(max(due_at, now + STEP_SECONDS), self._due)
                break
            due.append(member)
        for member in due:
            if self._due_at.pop(member, None) is None:
                continue  # what was done to one before it has taken it out
            try:
                self._act(member)
            except Exception:  # one member's fault must not cost the others their time-outs
                log.exception("a time-out could not be met")
