"""Limits the message rate of one socket with a token bucket.

A message over the rate is refused. If the peer goes on, the socket is not read for a while: what
the peer sends waits in its own kernel and costs this node nothing.
"""

from __future__ import annotations

BURST_SECONDS = 4
"""What may come at once: as much as in so many seconds."""
GOING_ON_SECONDS = 10.0
"""After so long a time over the rate, refused again and again, the socket ends (4429)."""
QUIET_SECONDS = 3.0
"""Not refused for so long: whatever comes later begins anew. Longer than a rest of its node."""
REST_SECONDS = 1.0
"""How long nothing is read of a socket that has been refused often enough."""
REFUSED_AT_ONCE = 50
"""Replies `rate_limited` in a row, then a rest."""
REFUSED_BYTES = 64 * 1024
"""Read only to be refused, then a rest."""
CALM_PART = 20
"""Who needed a rest has this part of the burst until they have been quiet. Otherwise a rest would
bring back as many frames as it lasts, and a flood of large ones would go on at the full rate."""


class TokenBucket:
    """So many a second, and a burst of them after some rest.

    Args:
        rate: tokens a second.
        burst: tokens at most.
        now: seconds, by the loop's clock, which never goes back.
    """

    __slots__ = ("_at", "_burst", "_calm_until", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate, self._burst, self._at = rate, burst, now
        self._tokens, self._calm_until = burst, now

    def restrict_burst(self, now: float, seconds: float) -> None:
        """Allow a part of the burst only for so long a time. The rate stays."""
        self._calm_until = now + seconds

    def take(self, now: float) -> float:
        """Take one. Gives 0, or the seconds until there is one to take."""
        self._refill(now)
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self._rate

    def take_all(self, count: int, now: float) -> float:
        """Take so many, or all that are there. Gives how many are left."""
        self._refill(now)
        self._tokens = max(0.0, self._tokens - count)
        return self._tokens

    def _refill(self, now: float) -> None:
        burst = self._burst if now >= self._calm_until else max(1.0, self._burst / CALM_PART)
        self._tokens = min(burst, self._tokens + (now - self._at) * self._rate)
        self._at = now


class Excess:
    """What one peer did over its rate, and what has to be done about it."""

    __slots__ = ("_bytes", "_last", "_refused", "_since")

    def __init__(self) -> None:
        self._since = self._last = float("-inf")
        self._refused = self._bytes = 0

    def is_persistent(self, now: float) -> bool:
        """One more refusal. Whether they have been going on for too long."""
        if now - self._last > QUIET_SECONDS:
            self._since = now
        self._last = now
        return now - self._since >= GOING_ON_SECONDS

    def should_pause(self, size: int) -> bool:
        """Whether to read no more for a while, after a refusal of so many bytes."""
        self._refused += 1
        self._bytes += size
        if self._refused < REFUSED_AT_ONCE and self._bytes < REFUSED_BYTES:
            return False
        self._refused = self._bytes = 0
        return True
