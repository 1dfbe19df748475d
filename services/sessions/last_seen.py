"""Records when login sessions were last used, and writes them to the database in batches."""

from __future__ import annotations

import time
from collections.abc import Callable

from services.sessions.login_sessions import LoginSessions

WRITE_SECONDS = 10.0
BATCH = 500
MAX_WAITING = 50_000
"""Entries beyond this are dropped while the database is unavailable."""


class LastSeen:
    """Records without waiting; a background loop writes to the database."""

    def __init__(
        self, login_sessions: LoginSessions, clock: Callable[[], float] = time.time
    ) -> None:
        self._sessions, self._clock = login_sessions, clock
        self._waiting: dict[str, float] = {}

    def record(self, login_session_id: str) -> None:
        """Record that a login session is in use now."""
        if len(self._waiting) < MAX_WAITING:
            self._waiting[login_session_id] = self._clock()

    async def write(self) -> None:
        """Write the recorded times.

        Raises:
            DatabaseUnavailable: the rest stays in memory.
        """
        while self._waiting:
            batch = dict(list(self._waiting.items())[:BATCH])
            await self._sessions.touch(batch)
            for sid, at in batch.items():
                if self._waiting.get(sid) == at:
                    del self._waiting[sid]
