"""The clock that message ids are made of, as this node remembers it. It never goes back.

Ids are the time of Redis. A Redis that replaces another, empty and with its clock behind, would
start again with smaller ids, and clients that know larger ones would take every new message for an
old one. So a node passes the latest time that it knows to a Redis that is new to it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

TOLERANCE_MS = 2_000
"""Two clocks that both run right differ by less between two looks."""


class LogClock:
    """What this node knows of the time in Redis.

    Args:
        max_lead_ms: a Redis that is behind by more is believed. Its log has forgotten what was
            said then, and a clock that once ran years ahead must not last.
        monotonic: seconds; never goes back.
    """

    def __init__(self, max_lead_ms: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._max_lead_ms, self._monotonic = max_lead_ms, monotonic
        self._ahead_ms: int | None = None  # of the monotonic clock

    def now_ms(self) -> int:
        """What time it is in Redis at least, epoch milliseconds; 0 where that is not known."""
        return 0 if self._ahead_ms is None else self._ahead_ms + int(self._monotonic() * 1000)

    def look(self, redis_ms: int) -> bool:
        """Take over what Redis says.

        Returns:
            False where Redis is behind what is known.
        """
        behind = self.now_ms() - redis_ms
        if TOLERANCE_MS < behind <= self._max_lead_ms:
            return False
        ahead = redis_ms - int(self._monotonic() * 1000)
        if self._ahead_ms is None or ahead > self._ahead_ms or behind > TOLERANCE_MS:
            self._ahead_ms = ahead
        return True
