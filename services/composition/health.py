"""Readiness of this node and the state of its dependencies, for load balancers."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Literal

import msgspec
import peewee

from models.used_once import UsedOnce
from services.errors import UsherError
from services.metrics import Metrics
from services.opaque import token_hash
from services.processes.link import ProcessState
from services.processes.worker import Worker
from services.redis.store import Store
from services.storage.database import Database
from services.storage.encryption import Encryption, check_canary

CHECK_SECONDS = 1.0
CHECKS_PER_WRITE = 5
"""How often the check writes. After a failed check, it always does."""
ROW_SECONDS = 60.0

MailState = Literal["ok", "failing", "files"]

log = logging.getLogger("usher.health")


class Readiness(msgspec.Struct, frozen=True, omit_defaults=True):
    """The response of /readyz. `redis` is "fallback" while the database is used instead, and
    "memory" without any Redis. `mail` is "files" without a mail server; a failing one does not
    affect the status. `processes` has the state of each of several server processes: if one is
    "not_ready", the status is too, because the next connection may be its; connections of one that
    is "starting" wait for a moment."""

    status: Literal["ready", "not_ready"]
    database: Literal["ok", "unavailable"]
    redis: Literal["ok", "fallback", "memory"]
    encryption: Literal["ok", "wrong_key", "unknown"]
    mail: MailState
    processes: tuple[ProcessState, ...] = ()


class Health:
    """Watches the database and Redis.

    Args:
        node: id of this process. Each node writes its own row, so nodes do not wait for each
            other's locks.
        mail: returns the state of mail.
        worker: if this is one of several processes.
    """

    def __init__(
        self,
        database: Database,
        store: Store,
        encryption: Encryption,
        metrics: Metrics,
        node: str,
        clock: Callable[[], float] = time.time,
        mail: Callable[[], MailState] = lambda: "files",
        worker: Worker | None = None,
    ) -> None:
        self._worker = worker
        self._node, self._clock = node, clock
        self._checks = 0
        self._database, self._store, self._encryption = database, store, encryption
        self._metrics = metrics
        self._mail = mail
        self._database_ok = True
        self._key_ok: bool | None = None

    def keys_are_wrong(self) -> bool:
        """Whether ENCRYPTION_KEYS do not fit the data in the database."""
        return self._key_ok is False

    def readiness(self) -> Readiness:
        """The last known state, at most a few seconds old. Makes no call."""
        if self._store.kind == "memory":
            redis: Literal["ok", "fallback", "memory"] = "memory"
        else:
            redis = "ok" if self._store.available else "fallback"
        encryption: Literal["ok", "wrong_key", "unknown"] = "unknown"
        if self._key_ok is not None:
            encryption = "ok" if self._key_ok else "wrong_key"
        ready = self._is_ready
        processes: tuple[ProcessState, ...] = ()
        if self._worker is not None:
            processes = self._worker.states
            ready = ready and "not_ready" not in self._worker.other_states
        return Readiness(
            status="ready" if ready else "not_ready",
            database="ok" if self._database_ok else "unavailable",
            redis=redis,
            encryption=encryption,
            mail=self._mail(),
            processes=processes,
        )

    @property
    def _is_ready(self) -> bool:
        """Whether this process is."""
        return self._database_ok and bool(self._key_ok)

    async def check(self) -> None:
        """Check the database and Redis."""
        self._store.look_at_memory()  # before what may have to wait for the database
        try:
            # A database on a full disk still answers reads, so the check writes.
            if not self._database_ok or self._checks % CHECKS_PER_WRITE == 0:
                await self._database.run(_write, self._node, self._clock())
            else:
                await self._database.ping()
            self._checks += 1
            if self._key_ok is None:
                await self._check_key()
            self._database_ok = True
        except UsherError as error:
            if self._database_ok:
                log.warning("the database cannot be used: %s", error.evidence)
            self._database_ok = False
        self._metrics.database_up.set(self._database_ok)
        self._metrics.redis_up.set(self._store.kind == "redis" and self._store.available)
        self._metrics.redis_memory.set(self._store.memory_share)
        if self._worker is not None:
            self._worker.tell("ready" if self._is_ready else "not_ready")

    async def recheck_key(self) -> None:
        """Check again whether the keys fit, after a reload.

        Raises:
            DatabaseUnavailable: the database cannot be read.
        """
        await self._check_key()

    async def _check_key(self) -> None:
        self._key_ok = await check_canary(self._database, self._encryption)
        if not self._key_ok:
            log.error(
                "USHER_ENCRYPTION_KEYS do not fit what is stored: not ready; nothing was deleted"
            )


def _write(db: peewee.Database, node: str, now: float) -> None:
    """Write a row, which the upkeep deletes once the node is dead."""
    row = {"hash": token_hash(f"health\0{node}"), "expires_at": now + ROW_SECONDS}
    UsedOnce.insert(row).on_conflict(
        conflict_target=[UsedOnce.hash], update={UsedOnce.expires_at: now + ROW_SECONDS}
    ).execute(db)
