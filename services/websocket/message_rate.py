"""Limits the message rate of one socket with a token bucket.

A message over the rate is refused. If the peer continues, the socket is not read for a while: its
data stays in the peer's kernel and costs this node nothing.
"""

from __future__ import annotations

BURST_SECONDS = 4
"""Size of the burst, as the messages of this many seconds."""
GOING_ON_SECONDS = 10.0
"""Time over the rate after which the socket is closed (4429)."""
QUIET_SECONDS = 3.0
"""Time without a refusal after which GOING_ON_SECONDS starts again. Longer than REST_SECONDS."""
REST_SECONDS = 1.0
"""How long a socket is not read after REFUSED_AT_ONCE or REFUSED_BYTES."""
REFUSED_AT_ONCE = 50
"""Consecutive replies `rate_limited` before a pause."""
REFUSED_BYTES = 64 * 1024
"""Bytes of refused messages before a pause."""
CALM_PART = 20
"""Divisor of the burst after a pause, until the peer has been quiet. Otherwise the bucket would
refill during the pause, and a flood would continue at the full rate."""


class TokenBucket:
    """A token bucket.

    Args:
        rate: tokens per second.
        burst: maximum number of tokens.
        now: seconds of the loop's clock, which never goes back.
    """

    __slots__ = ("_at", "_burst", "_calm_until", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate, self._burst, self._at = rate, burst, now
        self._tokens, self._calm_until = burst, now

    def restrict_burst(self, now: float, seconds: float) -> None:
        """Allow only a part of the burst for some seconds. The rate does not change."""
        self._calm_until = now + seconds

    def take(self, now: float) -> float:
        """Take a token. Returns 0, or the seconds until one is available."""
        self._refill(now)
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self._rate

    def take_all(self, count: int, now: float) -> float:
        """Take up to `count` tokens. Returns the number left."""
        self._refill(now)
        self._tokens = max(0.0, self._tokens - count)
        return self._tokens

    def _refill(self, now: float) -> None:
        burst = self._burst if now >= self._calm_until else max(1.0, self._burst / CALM_PART)
        self._tokens = min(burst, self._tokens + (now - self._at) * self._rate)
        self._at = now


class Excess:
    """Tracks the refusals of one peer, and decides when to pause or close it."""

    __slots__ = ("_bytes", "_last", "_refused", "_since")

    def __init__(self) -> None:
        self._since = self._last = float("-inf")
        self._refused = self._bytes = 0

    def is_persistent(self, now: float) -> bool:
        """Record a refusal. Returns whether refusals have continued for GOING_ON_SECONDS."""
        if now - self._last > QUIET_SECONDS:
            self._since = now
        self._last = now
        return now - self._since >= GOING_ON_SECONDS

    def should_pause(self, size: int) -> bool:
        """Record a refused message of `size` bytes. Returns whether reading should pause."""
        self._refused += 1
        self._bytes += size
        if self._refused < REFUSED_AT_ONCE and self._bytes < REFUSED_BYTES:
            return False
        self._refused = self._bytes = 0
        return True
