"""Executes repeated HTTP requests with the same Idempotency-Key once
(draft-ietf-httpapi-idempotency-key-header).

The first attempt claims the key with a row; concurrent attempts wait for its result. A failed
attempt releases the key. If a process dies during an attempt, it is unknown whether the request
took effect: after CLAIM_SECONDS the next attempt takes the key over.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any

import peewee

from models.idempotency_key import IdempotencyKey
from services.errors import Conflict, DatabaseUnavailable
from services.opaque import token_hash
from services.storage.database import Database

KEEP_SECONDS = 3600.0
CLAIM_SECONDS = 15.0
"""Longer than any act may take."""
WAIT_SECONDS = 10.0
"""How long an attempt waits for another."""
POLL_SECONDS = (0.02, 0.3)
"""Between two looks: at first, and at most."""


log = logging.getLogger("usher.idempotency")


class KeyReused(Conflict):
    """The key was used for another request. The status is that of the draft (RFC 9110, 15.5.21)."""

    status, code = 422, "idempotency_key_reused"
    title = "This Idempotency-Key was used for something else within the hour."


class StillUnderWay(Conflict):
    code = "idempotency_key_in_use"
    title = "A request with this Idempotency-Key is still under way. Try again shortly."


class Idempotency:
    """Executes an action once for each key, on all nodes."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database, self._clock = database, clock

    async def once(
        self, caller: str, key: str, request: bytes, act: Callable[[], Awaitable[None]]
    ) -> None:
        """Execute an action, unless it was executed with this key within the last hour.

        Args:
            caller: the owner of the key, because two callers may choose the same one.
            request: the request's content; the same key with other content is refused.

        Raises:
            KeyReused: the key was used for another request.
            StillUnderWay: another attempt has claimed the key and has not finished in time.
            DatabaseUnavailable: it is unknown whether the action was executed.
        """
        hash_ = token_hash(f"{caller}\0{key}")
        fingerprint, token = token_hash(request.hex()), secrets.token_urlsafe(12)
        if not await self._claimed(hash_, fingerprint, token):
            return
        try:
            await act()
        except BaseException:  # also if cancelled: the key must be free for another attempt
            await self._database.run(_release, hash_, token)
            raise
        try:
            await self._database.run(_finish, hash_, token, self._clock())
        except DatabaseUnavailable:
            # The action was executed. An error would make the client send it again.
            log.warning("idempotency key: not noted that its request is done")

    async def _claimed(self, hash_: str, fingerprint: str, token: str) -> bool:
        """Whether this attempt must execute the action; False if it was executed already."""
        end, pause = time.monotonic() + WAIT_SECONDS, POLL_SECONDS[0]
        while True:
            now = self._clock()
            row = await self._database.run(_claim, hash_, fingerprint, token, now)
            if row.fingerprint != fingerprint:
                raise KeyReused("idempotency key: used for another request")
            if row.token == token:
                return True
            if row.done_at is not None:
                return False
            if time.monotonic() >= end:
                raise StillUnderWay("idempotency key: another attempt does not end")
            await asyncio.sleep(pause)
            pause = min(pause * 2, POLL_SECONDS[1])


def _claim(
    db: peewee.Database, hash_: str, fingerprint: str, token: str, now: float
) -> IdempotencyKey:
    """Claim the key if it is free or its claim has expired. Returns its row."""
    row: dict[Any, Any] = {
        IdempotencyKey.hash: hash_,
        IdempotencyKey.fingerprint: fingerprint,
        IdempotencyKey.token: token,
        IdempotencyKey.claimed_at: now,
        IdempotencyKey.done_at: None,
        IdempotencyKey.expires_at: now + KEEP_SECONDS,
    }
    over = IdempotencyKey.expires_at <= now
    gone = IdempotencyKey.done_at.is_null() & (
        (IdempotencyKey.claimed_at <= now - CLAIM_SECONDS)
        & (IdempotencyKey.fingerprint == fingerprint)
    )
    IdempotencyKey.insert(row).on_conflict(
        conflict_target=[IdempotencyKey.hash],
        update=row,
        where=over | gone,
    ).execute(db)
    return IdempotencyKey.select().where(IdempotencyKey.hash == hash_).get(db)


def _release(db: peewee.Database, hash_: str, token: str) -> None:
    mine = (IdempotencyKey.hash == hash_) & (IdempotencyKey.token == token)
    IdempotencyKey.delete().where(mine).execute(db)


def _finish(db: peewee.Database, hash_: str, token: str, now: float) -> None:
    mine = (IdempotencyKey.hash == hash_) & (IdempotencyKey.token == token)
    IdempotencyKey.update({IdempotencyKey.done_at: now}).where(mine).execute(db)
