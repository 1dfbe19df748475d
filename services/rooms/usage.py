"""The models in use and the socket sessions that use them. A use expires unless it is repeated.

Two sorted sets in Redis, scored by expiry: one of models, and one per model of its socket sessions.
Reading removes what has expired, so no sweep is needed. A user has a bounded number of them: each
use is answered with those of all, and any may be named while no model is registered.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from services.errors import RateLimited
from services.redis.store import Store

FADE_SECONDS = 3.0
"""The contract: an entry fades when its session stops repeating it."""
MODELS_OF_USER = 100
"""Models that a user may use at one time at one node."""
MODELS_READ = 1000
"""Models that are read at one time; more would not fit into a frame."""
MODELS_KEY = "usher:{usage}:models"


def sessions_key(model: str) -> str:
    """The socket sessions that use a model."""
    return f"usher:{{usage}}:sessions:{model}"


class Usage:
    """The usage pool, shared by all nodes.

    Args:
        steady: a clock in seconds that never goes back.
    """

    def __init__(
        self,
        store: Store,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._clock, self._steady = store, clock, steady
        self._of_users: dict[str, dict[str, float]] = {}
        """By user: models used at this node, and when each fades by `steady`."""
        self._pruned_at = steady()

    async def use(self, model: str, session_id: str, user_id: str) -> list[str]:
        """Record that a socket session of a user uses a model. Returns the models in use, at most
        1,000.

        Raises:
            RateLimited: the user uses too many models at one time.
            StoreUnavailable: Redis is unavailable.
        """
        self._count(user_id, model)
        now = self._clock()
        fades, key = now + FADE_SECONDS, sessions_key(model)
        *_, models = await self._store.call(
            ("ZADD", key, fades, session_id),
            ("PEXPIRE", key, int(FADE_SECONDS * 1000)),
            ("ZADD", MODELS_KEY, fades, model),
            ("PEXPIRE", MODELS_KEY, int(FADE_SECONDS * 1000)),
            ("ZREMRANGEBYSCORE", MODELS_KEY, "-inf", now),
            ("ZRANGEBYSCORE", MODELS_KEY, now, "+inf", "LIMIT", 0, MODELS_READ),
        )
        return sorted({model, *(other.decode() for other in models)})

    def _count(self, user_id: str, model: str) -> None:
        now = self._steady()
        if now - self._pruned_at >= FADE_SECONDS:
            self._pruned_at = now
            kept = {user: _live(own, now) for user, own in self._of_users.items()}
            self._of_users = {user: own for user, own in kept.items() if own}
        own = self._of_users.setdefault(user_id, {})
        if len(own) >= MODELS_OF_USER and model not in own:
            own = self._of_users[user_id] = _live(own, now)
            if len(own) >= MODELS_OF_USER:
                raise RateLimited("usage: too many models", retry_after=min(own.values()) - now)
        own[model] = now + FADE_SECONDS

    async def models(self) -> list[str]:
        """The models in use.

        Raises:
            StoreUnavailable: Redis is unavailable.
        """
        now = self._clock()
        (models,) = await self._store.call(
            ("ZRANGEBYSCORE", MODELS_KEY, now, "+inf", "LIMIT", 0, MODELS_READ)
        )
        return sorted(model.decode() for model in models)

    async def sessions(self, model: str) -> list[str]:
        """The socket sessions that use a model.

        Raises:
            StoreUnavailable: Redis is unavailable.
        """
        now, key = self._clock(), sessions_key(model)
        _, sessions = await self._store.call(
            ("ZREMRANGEBYSCORE", key, "-inf", now), ("ZRANGEBYSCORE", key, now, "+inf")
        )
        return [session.decode() for session in sessions]


def _live(own: dict[str, float], now: float) -> dict[str, float]:
    return {model: fades for model, fades in own.items() if fades > now}
