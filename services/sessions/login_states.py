"""Reads login sessions from the database for joins that Redis knows nothing about.

After Redis was emptied, all clients reconnect at once. Their sessions are read together, see
services/storage/batched_reads.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import peewee

from services.claims import Claims
from services.sessions import session_rows
from services.sessions.login_cache import LoginState
from services.storage.batched_reads import MAX_WAITING, BatchedReads
from services.storage.database import Database


class LoginStates:
    """Answers look-ups, many in one read.

    Args:
        clock: epoch seconds.
    """

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._reads = BatchedReads(database, self._states_of, "joins", MAX_WAITING)

    async def of(self, claims: Claims) -> LoginState | None:
        """The state of a token's login session in the database; None if it has ended, or if the
        token is revoked.

        Raises:
            DatabaseUnavailable: the database cannot be read.
            Busy: too many look-ups are waiting.
        """
        return await self._reads.of(claims)

    async def close(self) -> None:
        """Stop reading. Look-ups in progress are refused."""
        await self._reads.close()

    def _states_of(self, db: peewee.Database, asked: list[Claims]) -> list[LoginState | None]:
        return session_rows.states_of(db, asked, self._clock())
