"""Starts pieces of work in rotation of callers, a few in each iteration of the event loop.

An event loop runs everything that is ready before it looks at anything new. So whoever sends 500
requests at once would have all 500 begun before the next request of anybody else, and all of them
under way between any two of its steps. Here the loop begins a few and then looks at what else is
ready. Callers of whom nothing waits yet come first, the others in rotation. While somebody else's
request is under way, a caller with a crowd of them leaves the loop free for a moment in between.

What waits is bounded by the file descriptors, because each connection has one piece of work here
at most.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable
from functools import partial

AT_ONCE = 4
"""Pieces begun in one iteration. A request costs the loop up to a millisecond in all its parts."""
OF_CROWDS = 2
"""Of these, for callers with a crowd while requests of others are under way."""
CROWD = 16
"""A caller of whom more pieces wait has a crowd: a browser opens up to six connections."""
PAUSE_SECONDS = 0.001
"""How long the loop is left to others, then. A piece begun costs about half as much."""

log = logging.getLogger("usher.rotation")


class Rotation:
    """Begins work for callers. Nobody waits while fewer than AT_ONCE begin in an iteration."""

    def __init__(self) -> None:
        self._left = AT_ONCE
        self._waiting: dict[str, deque[Callable[[], None]]] = {}
        self._new: deque[str] = deque()
        """Callers who wait for their first piece, each once."""
        self._served: deque[str] = deque()
        """The others who wait, each once."""
        self._under_way: Counter[str] = Counter()
        self._is_ticking = False
        self._idle: list[asyncio.Future[None]] = []

    def start(self, caller: str, work: Callable[[], None]) -> None:
        """Begin a piece of work, now or when it is the caller's turn. An error of work that had to
        wait is logged.

        Args:
            caller: the network that it is done for.
        """
        if self._may_begin():
            work()
        else:
            self._wait(caller, work)

    def turn(self, caller: str) -> asyncio.Future[None] | None:
        """The same for what is to be awaited: None if it may begin now."""
        if self._may_begin():
            return None
        turn = asyncio.get_running_loop().create_future()
        self._wait(caller, partial(_give, turn))
        return turn

    def entered(self, caller: str) -> None:
        """A request of this caller is under way, until `left`."""
        self._under_way[caller] += 1

    def left(self, caller: str) -> None:
        """It is answered, or over."""
        self._under_way[caller] -= 1
        if not self._under_way[caller]:
            del self._under_way[caller]

    async def idle(self) -> None:
        """Wait until nothing waits, and what was begun last has had an iteration of its own."""
        if self._is_ticking:
            idle = asyncio.get_running_loop().create_future()
            self._idle.append(idle)
            await idle

    def _may_begin(self) -> bool:
        if not self._left or self._waiting:
            return False
        self._left -= 1
        if not self._is_ticking:
            self._is_ticking = True
            asyncio.get_running_loop().call_soon(self._tick)
        return True

    def _wait(self, caller: str, work: Callable[[], None]) -> None:
        if caller not in self._waiting:
            self._waiting[caller] = deque()
            self._new.append(caller)
        self._waiting[caller].append(work)

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        if self._left == AT_ONCE and not self._waiting:
            self._is_ticking = False
            for idle in self._idle:
                _give(idle)
            self._idle.clear()
            return
        self._left = AT_ONCE
        if self._begin_some():
            loop.call_later(PAUSE_SECONDS, self._tick)
        else:
            loop.call_soon(self._tick)

    def _begin_some(self) -> bool:
        """Begin what may begin in this iteration. Returns whether the loop is left to others."""
        is_shared, crowds = len(self._under_way) > 1, 0
        while self._left and self._waiting and not (is_shared and crowds == OF_CROWDS):
            # One of the others at least, so that ever new callers cannot keep them waiting.
            first = self._new if self._left > 1 or not self._served else self._served
            caller = (first or self._served).popleft()
            crowds += len(self._waiting[caller]) > CROWD
            self._left -= 1
            self._begin(caller)
        return is_shared and crowds > 0

    def _begin(self, caller: str) -> None:
        waiting = self._waiting[caller]
        work = waiting.popleft()
        if waiting:
            self._served.append(caller)
        else:
            del self._waiting[caller]
        try:
            work()
        except Exception:  # an error of one must not keep the others waiting
            log.exception("work that had waited failed")


def _give(turn: asyncio.Future[None]) -> None:
    if not turn.done():  # else whoever waited is gone
        turn.set_result(None)
