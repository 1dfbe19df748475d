"""Whether a user has authenticated recently, for calls and rooms that require it (RFC 9470).

A token says when its user last authenticated (`auth_time`), by the clock of the node that issued
it. That proof is fresh for STEP_UP_SECONDS. A clock that is set back must not make an old proof
fresh again, so this does not rely on wall clocks going forward:

- Within a process the time is a `SteadyClock`, which never goes back.
- The newest time of all nodes is a row, written every few seconds. A node that starts with a clock
  behind it increments the epoch. From then on, no proof of an earlier epoch is fresh.

The epoch of a proof is in the row of its login session, and so in the login cache: the check needs
no query and no further round trip.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import peewee

from models.installation import Installation
from services.claims import Claims
from services.storage.database import Database
from services.storage.row_locks import locked_one

TICK_SECONDS = 5.0
"""How often the newest time is written."""
CLOCK_SKEW_SECONDS = 5.0
"""Accepted difference of the nodes' clocks, as for `iat`. A proof from further in the future was
made before a clock was set back, and is not fresh."""
KEY = "proof_clock"


class _Known(NamedTuple):
    """The row: the epoch, and the newest time of any node, epoch seconds."""

    epoch: int
    newest: float


class Freshness:
    """Decides whether a proof is fresh.

    Args:
        seconds: STEP_UP_SECONDS.
        clock: epoch seconds that never go back within the process.
    """

    def __init__(self, database: Database, seconds: float, clock: Callable[[], float]) -> None:
        self._database = database
        self.seconds, self.clock = seconds, clock
        self.epoch = 0
        """The epoch of the proofs that are made now."""
        self._is_started = False

    def ends_at(self, claims: Claims, epoch: int) -> float:
        """When the proof in a token expires, by `clock`; minus infinity if it is never fresh.

        Args:
            epoch: the epoch of the proof of the token's login session.
        """
        if epoch < self.epoch or claims.auth_time > self.clock() + CLOCK_SKEW_SECONDS:
            return float("-inf")
        return claims.auth_time + self.seconds

    def is_fresh(self, claims: Claims, epoch: int) -> bool:
        """Whether the proof in a token is fresh."""
        return self.clock() < self.ends_at(claims, epoch)

    async def tick(self) -> None:
        """Write the newest time, and read the epoch. Call it at the start and every `TICK_SECONDS`.

        Raises:
            DatabaseUnavailable: retry later.
        """
        is_start = not self._is_started
        self.epoch = await self._database.run(_advance, self.clock(), is_start)
        self._is_started = True


def _advance(db: peewee.Database, now: float, is_start: bool) -> int:
    """Store the newest time. If the clock was set back since the last start, begin a new epoch."""
    row = locked_one(Installation.select().where(Installation.key == KEY), db)
    if row is None:
        first = Installation.insert(key=KEY, value=_text(_Known(0, now)))
        first.on_conflict_ignore().execute(db)  # of several nodes that start at once
        return 0
    known = _read(str(row.value))
    if is_start and now < known.newest - CLOCK_SKEW_SECONDS:
        known = _Known(known.epoch + 1, now)
    elif now <= known.newest:
        return known.epoch
    change = {Installation.value: _text(known._replace(newest=now))}
    Installation.update(change).where(Installation.key == KEY).execute(db)
    return known.epoch


def _text(known: _Known) -> str:
    return f"{known.epoch} {known.newest:.3f}"


def _read(text: str) -> _Known:
    epoch, _, newest = text.partition(" ")
    return _Known(int(epoch), float(newest))
