"""Counts accounts, channels and login sessions.

A count reads an index from end to end: about 10 ms for 100,000 login sessions. It is repeated at
most every ten seconds, and only while somebody asks.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import msgspec
import peewee

from models.channel import Channel
from models.login_session import LoginSession
from models.user import User
from services.storage.database import Database

FRESH_SECONDS = 10.0


class Counted(msgspec.Struct, frozen=True):
    """How many rows there are."""

    users: int
    channels: int
    sessions: int


class Totals:
    """The counts of an installation.

    Args:
        clock: epoch seconds.
        steady: monotonic seconds.
    """

    def __init__(
        self,
        database: Database,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database, self._clock, self._steady = database, clock, steady
        self._known: Counted | None = None
        self._until = 0.0
        self._counting = asyncio.Lock()

    async def read(self) -> Counted:
        """The counts, at most ten seconds old. Callers at the same time share one count.

        Raises:
            DatabaseUnavailable, Busy: the rows cannot be read.
        """
        async with self._counting:
            if self._known is None or self._steady() >= self._until:
                self._known = await self._database.run(_count, self._clock())
                self._until = self._steady() + FRESH_SECONDS
            return self._known


def _count(db: peewee.Database, now: float) -> Counted:
    # Sessions of a user that were all ended at once get `ended_at` within a minute; a join with the
    # user of each, which would tell them apart, takes ten times as long.
    active = LoginSession.ended_at.is_null() & (LoginSession.expires_at > now)
    return Counted(
        User.select().count(db),
        Channel.select().count(db),
        LoginSession.select().where(active).count(db),
    )
