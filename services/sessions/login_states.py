"""Reads login sessions from the database for joins that Redis knows nothing about.

After Redis was emptied, all clients reconnect at once. Callers that arrive while a read is in
progress waits for the next one, which asks for all of them with the same few queries. So a crowd
costs the database one connection and a constant number of queries for each `MOST_AT_ONCE` of them,
and other requests do not wait behind it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable

import peewee

from services.claims import Claims
from services.errors import Busy, DatabaseUnavailable, UsherError
from services.event_loop.tasks import end_tasks
from services.sessions import session_rows
from services.sessions.login_cache import LoginState
from services.storage.database import Database

MOST_AT_ONCE = 250
"""Sessions in one read: what others of the database wait for, at most. Older SQLite takes 999
parameters."""
MAX_WAITING = 20_000
"""Joins that wait for the database. More than a node has sockets that have not joined."""

log = logging.getLogger("usher.sessions")

Asked = tuple[Claims, "asyncio.Future[LoginState | None]"]


class LoginStates:
    """Answers look-ups, many in one read.

    Args:
        clock: epoch seconds.
    """

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database, self._clock = database, clock
        self._waiting: deque[Asked] = deque()
        self._reading: asyncio.Task[None] | None = None

    async def of(self, claims: Claims) -> LoginState | None:
        """The state of a token's login session in the database; None if it has ended, or if the
        token is revoked.

        Raises:
            DatabaseUnavailable: the database cannot be read.
            Busy: too many look-ups are waiting.
        """
        if len(self._waiting) >= MAX_WAITING:
            raise Busy("too many joins wait for the database")
        answer: asyncio.Future[LoginState | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((claims, answer))
        if self._reading is None:
            self._reading = asyncio.get_running_loop().create_task(self._read_all())
        return await answer

    async def close(self) -> None:
        """Stop reading. Look-ups in progress are refused."""
        await end_tasks(self._reading)
        self._reading = None  # a task that was cancelled before it began has not done it
        self._refuse(self._waiting, "reading was stopped")
        self._waiting.clear()

    async def _read_all(self) -> None:
        # In no single user's name. All who wait have presented a genuine token.
        self._database.callers.enter("users", "joins")
        try:
            while self._waiting:
                await self._read_some()
        finally:
            self._reading = None

    async def _read_some(self) -> None:
        count = min(MOST_AT_ONCE, len(self._waiting))
        some = [self._waiting.popleft() for _ in range(count)]
        some = [(claims, answer) for claims, answer in some if not answer.done()]
        asked = [claims for claims, _ in some]
        try:
            states = await self._database.read(self._states_of, asked)
        except UsherError as error:
            # Callers that arrived meanwhile have waited for the same database: no second query.
            self._refuse([*some, *self._waiting], error.evidence)
            self._waiting.clear()
            return
        except Exception:  # an error of one read must not stop the others; it is logged whole
            log.exception("login sessions could not be read")
            self._refuse(some, "login sessions could not be read")
            return
        except asyncio.CancelledError:
            self._refuse(some, "reading was stopped")
            raise
        for (_, answer), state in zip(some, states, strict=True):
            if not answer.done():
                answer.set_result(state)

    def _states_of(self, db: peewee.Database, asked: list[Claims]) -> list[LoginState | None]:
        return session_rows.states_of(db, asked, self._clock())

    @staticmethod
    def _refuse(asked: Iterable[Asked], evidence: str) -> None:
        for _, answer in asked:
            if not answer.done():
                answer.set_exception(DatabaseUnavailable(evidence))
