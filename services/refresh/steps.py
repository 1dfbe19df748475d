"""Decides whether a refresh token of a login session may be used, within the caller's transaction.

The tokens of a session are numbered in steps. The first has step 1, and each use issues one of the
next step. The session records the newest step that was used. These tokens are accepted:

- A token of the next step: the newest.
- A token of the current step, the one before the newest. The response with the newest may have been
  lost, as long as nothing shows that it arrived. Issuing another response invalidates the unused
  tokens of the first one.
- Any token for a short grace period after its first use, because the tabs of one browser refresh
  concurrently.

Any other token was copied (RFC 9700 section 4.14.2). A thief and the owner cannot both continue:
one of them presents a token that the other's use has passed or invalidated, and the session ends.

The grace period does not rely on a wall clock alone. A counter in the database is advanced every
few seconds by one of the nodes, and at every start of a node by more than a grace period. So a
clock that was set back, or a restart, never makes an old use look recent.
"""

from __future__ import annotations

from typing import NamedTuple

import peewee

from models.installation import Installation
from models.login_session import RefreshToken
from services.storage.database import Database
from services.storage.row_locks import locked_one

REFRESH_GRACE_SECONDS = 10.0
"""Parallel tabs send the same cookie; each of them gets 200 this long."""
CLOCK_SKEW_SECONDS = 2.0
"""Accepted difference of the nodes' clocks. A first use further in the future was recorded before a
clock was set back: its age is unknown, so there is no grace period. When the clock reaches that
time again, the counter shows that time has passed."""

TICK_KEY = "refresh_tick"
TICK_SECONDS = 5.0
"""The loops of all nodes together advance the counter once in about this time."""
GRACE_TICKS = 3
"""The most ticks within the grace period of ten seconds."""


class Moment(NamedTuple):
    """The current time, or the time of a first use.

    Attributes:
        at: epoch seconds, of a clock that is never set back within its process.
        tick: the value of the counter in the database.
    """

    at: float | None
    tick: int | None

    def is_recent(self, now: Moment) -> bool:
        """Whether it is within the grace period, by the clock and by the counter."""
        if self.at is None or self.tick is None or now.at is None or now.tick is None:
            return False
        passed = now.at - self.at
        few_ticks = now.tick - self.tick <= GRACE_TICKS
        return few_ticks and -CLOCK_SKEW_SECONDS <= passed <= REFRESH_GRACE_SECONDS


class TokenStep(NamedTuple):
    """A refresh token, as read under the lock of its session.

    Attributes:
        used: its first use.
        replaced: whether another was issued instead before it was used.
    """

    hash: str
    step: int
    used: Moment
    replaced: bool

    @property
    def is_used(self) -> bool:
        """Whether it was presented before."""
        return self.used.at is not None


class SessionStep(NamedTuple):
    """A locked login session. `step`: the newest step that was used; `used`: its first use."""

    id: str
    step: int
    used: Moment


class Used(NamedTuple):
    """The changes by the use of a token.

    Attributes:
        next_step: the step of the token that replaces it.
        is_first: whether the token was not used before.
        is_newest_step: whether its session's newest step is now the token's.
        replaces: whether unused tokens of the next step become invalid.
    """

    next_step: int
    is_first: bool
    is_newest_step: bool
    replaces: bool


def use(session: SessionStep, token: TokenStep, now: Moment) -> Used | None:
    """Decide what the use of a token changes. Returns None if the token was copied.

    Args:
        session: the token's login session, locked and active.
        token: as read under that lock, not expired.
    """
    racing = token.used.is_recent(now)
    if not (racing or _is_newest(session, token) or _is_before_newest(session, token)):
        return None
    first = not token.is_used
    if token.step > session.step:
        return Used(token.step + 1, first, is_newest_step=True, replaces=False)
    replaces = not racing and not session.used.is_recent(now)
    return Used(session.step + 1, first, is_newest_step=False, replaces=replaces)


def _is_newest(session: SessionStep, token: TokenStep) -> bool:
    # Also one of the session's current step: the unused token of an earlier response.
    return not token.is_used and token.step >= session.step and not token.replaced


def _is_before_newest(session: SessionStep, token: TokenStep) -> bool:
    return token.is_used and token.step == session.step


def replace(db: peewee.Database, session: SessionStep) -> None:
    """Invalidate the tokens of a previous response that was lost or went to a thief."""
    unused = (
        (RefreshToken.session == session.id)
        & (RefreshToken.step == session.step + 1)
        & RefreshToken.rotated_at.is_null()
    )
    RefreshToken.update({RefreshToken.replaced: True}).where(unused).execute(db)


# ---- the counter ---------------------------------------------------------------------------


class RefreshTicks:
    """Advances the counter."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._seen: int | None = None

    async def tick(self) -> None:
        """Advance by one, unless another node has done so since the last call.

        The first call advances past the grace period: no use before this start is recent.

        Raises:
            DatabaseUnavailable: retry later.
        """
        by = GRACE_TICKS + 1 if self._seen is None else 1
        self._seen = await self._database.run(_advance, by, self._seen)


def current_tick(db: peewee.Database) -> int:
    """The counter, within the caller's transaction."""
    row = Installation.select().where(Installation.key == TICK_KEY).get_or_none(db)
    return 0 if row is None else int(row.value)


def _advance(db: peewee.Database, by: int, seen: int | None) -> int:
    """Advance the counter, unless another node has done so. Returns the new value."""
    row = locked_one(Installation.select().where(Installation.key == TICK_KEY), db)
    if row is None:
        first = Installation.insert(key=TICK_KEY, value=str(by))
        first.on_conflict_ignore().execute(db)  # another node starts at the same time
        return by
    now = int(row.value)
    if seen is not None and now != seen:
        return now
    change = {Installation.value: str(now + by)}
    Installation.update(change).where(Installation.key == TICK_KEY).execute(db)
    return now + by
