"""How often a password may be guessed (ASVS 2.2.1: no more than 100 an hour on one account).

Counted in Redis for all nodes. This is the one place that fails open, on purpose: while Redis
is away each node counts by itself, because locking everybody out would be the worse answer.
Every such turn is counted in `usher_rate_limits_without_redis`.

The strategy is limits' own; the counters go through our store rather than through limits' Redis
clients: they would bring a second pool of connections with its own idea of TLS, sentinels and
clusters (no `rediss+…` form, one login for sentinels and servers alike).
"""

from __future__ import annotations

import hashlib
import logging
import time

from limits import RateLimitItem, RateLimitItemPerHour
from limits.aio.storage import MemoryStorage, Storage
from limits.aio.strategies import FixedWindowRateLimiter

from services.errors import RateLimited, StoreUnavailable
from services.metrics import Metrics
from services.redis.store import Command, Store

GUESSES_FROM_ONE_ADDRESS = RateLimitItemPerHour(100, namespace="guess-from")
GUESSES_ON_ONE_ACCOUNT = RateLimitItemPerHour(1000, namespace="guess")
"""Higher: who guesses from many addresses must not be able to lock the owner out easily."""
KEY_PREFIX = "usher:limits"

log = logging.getLogger("usher.rate_limit")


class GuessLimit:
    """Limits wrong passwords by account and address.

    Args:
        store: the store shared by the nodes.
    """

    def __init__(self, store: Store, metrics: Metrics) -> None:
        self._metrics = metrics
        self._shared = FixedWindowRateLimiter(StoreStorage(store))
        self._here = FixedWindowRateLimiter(MemoryStorage())

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

    async def check_address(self, kind: str, address: str) -> None:
        """The same for what has no account yet, by address alone.

        Args:
            kind: a word that keeps limits apart.

        Raises:
            RateLimited: wait for the hour to pass.
        """
        if not await self._ask("test", GUESSES_FROM_ONE_ADDRESS, f"{kind}:{address}"):
            raise RateLimited(f"{kind}: too many from one address")

    async def count_address(self, kind: str, address: str) -> None:
        """One more of them."""
        await self._ask("hit", GUESSES_FROM_ONE_ADDRESS, f"{kind}:{address}")

    async def _ask(self, verb: str, limit: RateLimitItem, key: str) -> bool:
        try:
            return bool(await getattr(self._shared, verb)(limit, key))
        except StoreUnavailable as error:
            log.debug("rate limit: %s", error.evidence)
        self._metrics.rate_limits_without_redis.inc()
        return bool(await getattr(self._here, verb)(limit, key))


class StoreStorage(Storage):
    """What limits' fixed windows need, over our store in any of its forms."""

    STORAGE_SCHEME = None

    def __init__(self, store: Store) -> None:
        super().__init__()
        self._store = store

    @property
    def base_exceptions(self) -> type[Exception]:
        return StoreUnavailable

    async def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Count in a window that begins with the first hit; gives the count. See limits."""
        name = _name(key)
        count: list[Command] = [("INCR", name)] * amount
        replies = await self._store.call(
            ("SET", name, 0, "EX", expiry, "NX"), *count, ("TTL", name)
        )
        if replies[-1] < 0:  # it ended between SET and INCR: without an end it would lock for ever
            await self._store.call(("EXPIRE", name, expiry))
        return int(replies[-2])

    async def get(self, key: str) -> int:
        (count,) = await self._store.call(("GET", _name(key)))
        return int(count or 0)

    async def get_expiry(self, key: str) -> float:
        (left,) = await self._store.call(("TTL", _name(key)))
        return time.time() + max(0, int(left))

    async def clear(self, key: str) -> None:
        await self._store.call(("DEL", _name(key)))

    async def check(self) -> bool:
        return self._store.available

    async def reset(self) -> int | None:
        raise NotImplementedError("nobody resets the limits of everybody")


def _name(key: str) -> str:
    return f"{KEY_PREFIX}:{key}"


def _limits(account: str, address: str) -> tuple[tuple[RateLimitItem, str], ...]:
    # Hashed: no e-mail address lies in Redis.
    hashed = hashlib.sha256(account.encode()).hexdigest()[:32]
    return (
        (GUESSES_FROM_ONE_ADDRESS, f"{hashed}:{address}"),
        (GUESSES_ON_ONE_ACCOUNT, hashed),
    )
