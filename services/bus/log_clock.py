"""The clock used for message ids, as this node knows it. It never goes back.

Ids contain the time of Redis. An empty Redis that replaces another, with its clock behind, would
start again with smaller ids, and clients that know larger ids would ignore every new message. So a
node passes the latest time it knows to a new Redis.
"""

from __future__ import annotations

import time
from collections.abc import Callable

TOLERANCE_MS = 2_000
"""Two correct clocks differ by less than this between two readings."""


class LogClock:
    """Tracks the time of Redis.

    Args:
        max_lead_ms: if Redis is behind by more than this, its time is accepted. Messages that
            old have expired from the log, and a clock that once ran years ahead must not
            determine ids for ever.
        monotonic: a monotonic clock, in seconds.
    """

    def __init__(self, max_lead_ms: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._max_lead_ms, self._monotonic = max_lead_ms, monotonic
        self._ahead_ms: int | None = None  # of the monotonic clock

    def now_ms(self) -> int:
        """The earliest time that it can be in Redis, epoch milliseconds; 0 if not known."""
        return 0 if self._ahead_ms is None else self._ahead_ms + int(self._monotonic() * 1000)

    def look(self, redis_ms: int) -> bool:
        """Record a time read from Redis.

        Returns:
            False if Redis is behind the time known so far.
        """
        behind = self.now_ms() - redis_ms
        if TOLERANCE_MS < behind <= self._max_lead_ms:
            return False
        ahead = redis_ms - int(self._monotonic() * 1000)
        if self._ahead_ms is None or ahead > self._ahead_ms or behind > TOLERANCE_MS:
            self._ahead_ms = ahead
        return True
