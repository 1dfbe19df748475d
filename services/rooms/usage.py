"""The models in use and the socket sessions that use them. A use expires unless it is repeated.

Two sorted sets in Redis, scored by expiry: one of models, and one per model of its socket sessions.
Reading removes what has expired, so no sweep is needed.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from services.redis.store import Store

FADE_SECONDS = 3.0
"""The contract: an entry fades when its session stops repeating it."""
MODELS_KEY = "usher:{usage}:models"


def sessions_key(model: str) -> str:
    """The socket sessions that use a model."""
    return f"usher:{{usage}}:sessions:{model}"


class Usage:
    """The usage pool, shared by all nodes."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._store, self._clock = store, clock

    async def use(self, model: str, session_id: str) -> list[str]:
        """Record that a socket session uses a model. Returns the models in use.

        Raises:
            StoreUnavailable: Redis is unavailable.
        """
        now = self._clock()
        fades, key = now + FADE_SECONDS, sessions_key(model)
        *_, models = await self._store.call(
            ("ZADD", key, fades, session_id),
            ("PEXPIRE", key, int(FADE_SECONDS * 1000)),
            ("ZADD", MODELS_KEY, fades, model),
            ("PEXPIRE", MODELS_KEY, int(FADE_SECONDS * 1000)),
            ("ZREMRANGEBYSCORE", MODELS_KEY, "-inf", now),
            ("ZRANGEBYSCORE", MODELS_KEY, now, "+inf"),
        )
        return sorted(model.decode() for model in models)

    async def models(self) -> list[str]:
        """The models in use.

        Raises:
            StoreUnavailable: Redis is unavailable.
        """
        now = self._clock()
        (models,) = await self._store.call(("ZRANGEBYSCORE", MODELS_KEY, now, "+inf"))
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
