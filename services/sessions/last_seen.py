"""Records when login sessions were last used, and writes them to the database in batches."""

from __future__ import annotations

import time
from collections.abc import Callable

from services.sessions.login_sessions import LoginSessions

WRITE_SECONDS = 10.0
BATCH = 500
MAX_WAITING = 50_000
"""Notes beyond this are dropped while the database is away: a courtesy, not a record."""


class LastSeen:
    """Notes without waiting; a background loop writes them."""

    def __init__(
        self, login_sessions: LoginSessions, clock: Callable[[], float] = time.time
    ) -> None:
        self._sessions, self._clock = login_sessions, clock
        self._waiting: dict[str, float] = {}

    def record(self, login_session_id: str) -> None:
        """This login session is being used now."""
        if len(self._waiting) < MAX_WAITING:
            self._waiting[login_session_id] = self._clock()

    async def write(self) -> None:
        """Write what was noted.

        Raises:
            DatabaseUnavailable: the rest stays noted.
        """
        while self._waiting:
            batch = dict(list(self._waiting.items())[:BATCH])
            await self._sessions.touch(batch)
            for sid, at in batch.items():
                if self._waiting.get(sid) == at:
                    del self._waiting[sid]
