"""Whether this node can do its work: for load balancers, with the state of what it needs."""

from __future__ import annotations

import logging
from typing import Literal

import msgspec

from services.errors import UsherError
from services.metrics import Metrics
from services.redis.store import Store
from services.storage.database import Database
from services.storage.encryption import Encryption, check_canary

CHECK_SECONDS = 1.0

log = logging.getLogger("usher.health")


class Readiness(msgspec.Struct, frozen=True):
    """What /readyz says. `redis` is "fallback" while the database answers in its place, and
    "memory" where there is no Redis at all."""

    status: Literal["ready", "not_ready"]
    database: Literal["ok", "unavailable"]
    redis: Literal["ok", "fallback", "memory"]
    encryption: Literal["ok", "wrong_key", "unknown"]


class Health:
    """Watches the database and Redis."""

    def __init__(
        self,
        database: Database,
        store: Store,
        encryption: Encryption,
        metrics: Metrics,
    ) -> None:
        self._database, self._store, self._encryption = database, store, encryption
        self._metrics = metrics
        self._database_ok = True
        self._key_ok: bool | None = None

    def keys_are_wrong(self) -> bool:
        """Whether ENCRYPTION_KEYS are not those of what is in the database."""
        return self._key_ok is False

    def readiness(self) -> Readiness:
        """The state as last seen, at most a few seconds old. Asks nobody."""
        if self._store.kind == "memory":
            redis: Literal["ok", "fallback", "memory"] = "memory"
        else:
            redis = "ok" if self._store.available else "fallback"
        encryption: Literal["ok", "wrong_key", "unknown"] = "unknown"
        if self._key_ok is not None:
            encryption = "ok" if self._key_ok else "wrong_key"
        ready = self._database_ok and bool(self._key_ok)
        return Readiness(
            status="ready" if ready else "not_ready",
            database="ok" if self._database_ok else "unavailable",
            redis=redis,
            encryption=encryption,
        )

    async def check(self) -> None:
        """Ask the database and look at Redis."""
        try:
            await self._database.ping()
            if self._key_ok is None:
                await self._check_key()
            self._database_ok = True
        except UsherError as error:
            if self._database_ok:
                log.warning("the database does not answer: %s", error.evidence)
            self._database_ok = False
        self._metrics.database_up.set(self._database_ok)
        self._metrics.redis_up.set(self._store.kind == "redis" and self._store.available)

    async def recheck_key(self) -> None:
        """Look again whether the keys fit: others may have been read.

        Raises:
            DatabaseUnavailable: the database does not say.
        """
        await self._check_key()

    async def _check_key(self) -> None:
        self._key_ok = await check_canary(self._database, self._encryption)
        if not self._key_ok:
            log.error(
                "USHER_ENCRYPTION_KEYS do not fit what is stored: not ready; nothing was deleted"
            )
