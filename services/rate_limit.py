"""How often a password may be guessed (ASVS 2.2.1: no more than 100 an hour on one account).

Counted in Redis for all nodes. This is the one place that fails open, on purpose: while Redis
is away each node counts by itself, because locking everybody out would be the worse answer.
Every such turn is counted in `usher_rate_limits_without_redis`.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging

from limits import RateLimitItem, RateLimitItemPerHour
from limits.aio.storage import MemoryStorage, RedisStorage, Storage
from limits.aio.strategies import FixedWindowRateLimiter
from limits.errors import StorageError

from services.errors import RateLimited
from services.metrics import Metrics
from services.store import Store

GUESSES_FROM_ONE_ADDRESS = RateLimitItemPerHour(100, namespace="guess-from")
GUESSES_ON_ONE_ACCOUNT = RateLimitItemPerHour(1000, namespace="guess")
"""Higher: who guesses from many addresses must not be able to lock the owner out easily."""
TIMEOUT_SECONDS = 1.0
KEY_PREFIX = "usher:limits"

log = logging.getLogger("usher.rate_limit")


class GuessLimit:
    """Limits wrong passwords by account and address.

    Args:
        redis_url: of the store shared by the nodes, or None where there is only this process.
        store: the link to the same Redis; while it is down nobody waits to find that out again.
    """

    def __init__(self, redis_url: str | None, store: Store, metrics: Metrics) -> None:
        self._store, self._metrics = store, metrics
        self._here = FixedWindowRateLimiter(MemoryStorage())
        self._shared: FixedWindowRateLimiter | None = None
        self._storage: Storage | None = None
        if redis_url is not None:
            self._storage = _redis_storage(redis_url)
            self._shared = FixedWindowRateLimiter(self._storage)

    async def check(self, account: str, address: str) -> None:
        """Refuse when too many guesses were wrong lately; right or wrong, known or unknown.

        Raises:
            RateLimited: wait for the hour to pass.
        """
        for limit, key in _limits(account, address):
            if not await self._ask("test", limit, key):
                raise RateLimited(f"{limit}: too many wrong passwords")

    async def count(self, account: str, address: str) -> None:
        """One more wrong guess."""
        for limit, key in _limits(account, address):
            await self._ask("hit", limit, key)

    async def _ask(self, verb: str, limit: RateLimitItem, key: str) -> bool:
        if self._shared is not None and self._store.available:
            try:
                asked = getattr(self._shared, verb)(limit, key)
                return bool(await asyncio.wait_for(asked, TIMEOUT_SECONDS))
            except (StorageError, asyncio.TimeoutError) as error:
                log.debug("rate limit: %s", type(error).__name__)
        if self._shared is not None:
            self._metrics.rate_limits_without_redis.inc()
        return bool(await getattr(self._here, verb)(limit, key))

    async def close(self) -> None:
        """Let go of the connections."""
        bridge = getattr(self._storage, "bridge", None)
        client = getattr(bridge, "storage", None)
        if client is not None:
            await client.aclose()


def _redis_storage(url: str) -> Storage:
    scheme, rest = url.split("://", 1)
    uri = f"async+redis+unix://{rest}" if scheme == "unix" else f"async+{url}"
    return RedisStorage(
        uri,
        wrap_exceptions=True,
        implementation="redispy",
        key_prefix=KEY_PREFIX,
        socket_timeout=TIMEOUT_SECONDS,
        socket_connect_timeout=TIMEOUT_SECONDS,
    )


def _limits(account: str, address: str) -> tuple[tuple[RateLimitItem, str], ...]:
    # Hashed: no e-mail address lies in Redis.
    hashed = hashlib.sha256(account.encode()).hexdigest()[:32]
    return (
        (GUESSES_FROM_ONE_ADDRESS, f"{hashed}:{address}"),
        (GUESSES_ON_ONE_ACCOUNT, hashed),
    )
