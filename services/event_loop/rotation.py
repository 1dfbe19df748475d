"""Starts pieces of work in rotation of callers, a few in each iteration of the event loop.

An event loop runs everything that is ready before it polls for new events. So if a client sends 500
requests at once, all 500 would start before the next request of another client, and would run
between any two of its steps. This module starts only a few pieces per iteration. Callers without
waiting work come first, the others in rotation. While a request of another caller is in progress, a
caller with many waiting pieces yields the loop for a moment between its own.

The number of waiting pieces is bounded by the file descriptors, because each connection has at most
one.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable
from functools import partial

AT_ONCE = 4
"""Requests started in one iteration. One takes up to a millisecond of the loop in total."""
HANDSHAKES_AT_ONCE = 16
"""Plain handshakes started in one iteration. Each takes a third of a request, and those of one
iteration are sent to Redis in one write."""
OF_CROWDS = 2
"""How many of these may be of crowds, while requests of other callers are in progress."""
CROWD = 16
"""A caller with more waiting pieces counts as a crowd. A browser opens up to six connections."""
PAUSE_SECONDS = 0.001
"""How long a crowd then yields the loop. Starting a piece takes about half of this."""

log = logging.getLogger("usher.rotation")


class UnderWay:
    """Counts the work in progress for each caller, over all rotations."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def has_others(self, caller: str) -> bool:
        """Whether work of another caller is in progress."""
        return len(self._counts) > (caller in self._counts)

    def enter(self, caller: str) -> None:
        """Record that work of this caller is in progress, until `leave`."""
        self._counts[caller] += 1

    def leave(self, caller: str) -> None:
        """Record that the work has ended."""
        self._counts[caller] -= 1
        if not self._counts[caller]:
            del self._counts[caller]


class Rotation:
    """Starts work for callers, without delay while fewer than `at_once` start in an iteration.

    Args:
        under_way: shows whether work of other callers than a crowd is in progress.
        at_once: the maximum number of pieces started in one iteration of the loop.
    """

    def __init__(self, under_way: UnderWay, at_once: int = AT_ONCE) -> None:
        self.under_way = under_way
        self._at_once = self._left = at_once
        self._waiting: dict[str, deque[Callable[[], None]]] = {}
        self._new: deque[str] = deque()
        """Callers that wait for their first piece, each once."""
        self._served: deque[str] = deque()
        """The other waiting callers, each once."""
        self._is_ticking = False
        self._idle: list[asyncio.Future[None]] = []

    def start(self, caller: str, work: Callable[[], None]) -> None:
        """Start a piece of work, now or when it is the caller's turn. An error of work that had to
        wait is logged.

        Args:
            caller: the network of the client.
        """
        if self.begins_now():
            work()
        else:
            self._wait(caller, work)

    def begins_now(self) -> bool:
        """Whether a piece may start now. If so, it counts as started."""
        if not self._left or self._waiting:
            return False
        self._left -= 1
        if not self._is_ticking:
            self._is_ticking = True
            asyncio.get_running_loop().call_soon(self._tick)
        return True

    def turn(self, caller: str) -> asyncio.Future[None] | None:
        """Return a future to await before starting work, or None if it may start now."""
        if self.begins_now():
            return None
        turn = asyncio.get_running_loop().create_future()
        self._wait(caller, partial(_give, turn))
        return turn

    async def idle(self) -> None:
        """Wait until no work is waiting, and the last piece has had an iteration of the loop."""
        if self._is_ticking:
            idle = asyncio.get_running_loop().create_future()
            self._idle.append(idle)
            await idle

    def _wait(self, caller: str, work: Callable[[], None]) -> None:
        if caller not in self._waiting:
            self._waiting[caller] = deque()
            self._new.append(caller)
        self._waiting[caller].append(work)

    def _tick(self) -> None:
        self._left = self._at_once
        if not self._waiting:
            self._is_ticking = False
            for idle in self._idle:
                _give(idle)
            self._idle.clear()
            return
        loop = asyncio.get_running_loop()
        if self._begin_some():
            loop.call_later(PAUSE_SECONDS, self._tick)
        else:
            loop.call_soon(self._tick)

    def _begin_some(self) -> bool:
        """Start the pieces of this iteration. Returns whether to yield the loop to others."""
        # At least one of the others, so that an endless stream of new callers cannot starve them.
        self._begin_new(self._left - bool(self._served))
        is_left = self._begin_served()
        self._begin_new(self._left)
        return is_left

    def _begin_new(self, most: int) -> None:
        while most and self._new:
            caller = self._new.popleft()
            if self._is_crowd(caller):
                self._served.append(caller)
            else:
                most -= 1
                self._begin(caller)

    def _begin_served(self) -> bool:
        crowds = 0
        while self._left and self._served:
            if self._is_crowd(self._served[0]):
                if crowds == OF_CROWDS:
                    return True
                crowds += 1
            self._begin(self._served.popleft())
        return crowds > 0

    def _is_crowd(self, caller: str) -> bool:
        return len(self._waiting[caller]) > CROWD and self.under_way.has_others(caller)

    def _begin(self, caller: str) -> None:
        self._left -= 1
        waiting = self._waiting[caller]
        work = waiting.popleft()
        if waiting:
            self._served.append(caller)
        else:
            del self._waiting[caller]
        try:
            work()
        except Exception:  # an error of one must not stop the others
            log.exception("work that had waited failed")


def _give(turn: asyncio.Future[None]) -> None:
    if not turn.done():  # otherwise the waiting caller was cancelled
        turn.set_result(None)
