"""Rows of the outbox: inserting, claiming, finishing.

A mail is never sent twice. An attempt writes a random claim, and just before the text goes to the
mail server it marks the row as handed, which succeeds only while the claim is its own. If a claim
stays unchanged for too long, its node is dead. If the row was not handed, another node sends the
mail. If it was handed, the mail is dropped, because the mail server may have accepted it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import msgspec
import peewee

from models.mail import OutgoingMail as M
from services.storage.row_locks import locked_one

DELAYS = (10.0, 30.0, 120.0, 600.0, 1800.0)
"""Seconds from each refusal of a mail to the next attempt; the last one from then on."""
JITTER = 0.25
CLOCK_SLACK_SECONDS = 60.0
"""How far the clocks of two nodes may differ."""
MAX_DELAY_SECONDS = DELAYS[-1] * (1 + JITTER)
MAX_ROWS = 20_000
MAX_ASKED_ROWS = MAX_ROWS // 2
"""Limit of the rows that unauthenticated clients cause. The others are for mails to users."""


class ClaimedMail(msgspec.Struct, frozen=True):
    """A claimed row. `attempts`: the number of previous refusals."""

    id: int
    kind: str
    sealed: str
    attempts: int
    claim: str
    expires_at: float


def insert(
    db: peewee.Database, kind: str, sealed: str, is_asked: bool, now: float, seconds: float
) -> bool:
    """Insert a mail. Returns False, and inserts nothing, if too many are waiting."""
    share = M.select(M.id).where(M.is_asked == is_asked)
    limit = MAX_ASKED_ROWS if is_asked else MAX_ROWS
    if share.order_by(M.id).offset(limit - 1).limit(1).exists(db):
        return False
    M.insert(
        kind=kind, is_asked=is_asked, sealed=sealed, created_at=now, expires_at=now + seconds
    ).execute(db)
    return True


def is_any_due(db: peewee.Database, now: float) -> bool:
    """Whether a mail is due, or waits for a time that a wrong clock wrote."""
    return bool(M.select(M.id).where(_due(now)).limit(1).exists(db))


def claim(db: peewee.Database, now: float, token: str) -> ClaimedMail | None:
    """Claim the mail that has been due for the longest; None if none is due. Requests of
    unauthenticated clients come last, as there may be many."""
    order = M.is_asked, M.due_at, M.id
    first: Any = M.select().where(_due(now)).order_by(*order).limit(1)
    row = locked_one(first, db)
    if row is None:
        return None
    free = (M.id == row.id) & M.claim.is_null()
    if not M.update({M.claim: token}).where(free).execute(db):
        return None
    return ClaimedMail(row.id, row.kind, row.sealed, row.attempts, token, row.expires_at)


def become(
    db: peewee.Database, one: ClaimedMail, kind: str, sealed: str, expires_at: float
) -> ClaimedMail:
    """Replace a request by the mail that was decided on, under the same claim."""
    changes: dict[Any, Any] = {M.kind: kind, M.sealed: sealed, M.expires_at: expires_at}
    M.update(changes).where(_is_ours(one)).execute(db)
    return msgspec.structs.replace(one, kind=kind, sealed=sealed, expires_at=expires_at)


def holds(db: peewee.Database, one: ClaimedMail) -> bool:
    """Whether this node still holds the claim; locks the row until the commit."""
    return locked_one(M.select().where(_is_ours(one)), db) is not None


def hand(db: peewee.Database, one: ClaimedMail, now: float) -> bool:
    """Mark a mail as handed to the mail server. Returns False if another node has taken over the
    claim, or the mail has expired."""
    mine = _is_ours(one) & (M.is_handed == False) & (M.expires_at > now)  # noqa: E712
    return bool(M.update({M.is_handed: True}).where(mine).execute(db))


def done(db: peewee.Database, one: ClaimedMail) -> None:
    """Delete a mail that was sent, was refused permanently, or must not be sent."""
    M.delete().where(_is_ours(one)).execute(db)


def release(db: peewee.Database, one: ClaimedMail) -> None:
    """Release the claim on a mail that was certainly not sent, because the mail server failed."""
    M.update({M.claim: None, M.is_handed: False}).where(_is_ours(one)).execute(db)


def put_off(db: peewee.Database, one: ClaimedMail, now: float) -> None:
    """Postpone a mail that the mail server refused temporarily."""
    delay = DELAYS[min(one.attempts, len(DELAYS) - 1)]
    delay *= random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - no secret
    changes: dict[Any, Any] = {
        M.claim: None,
        M.is_handed: False,
        M.attempts: one.attempts + 1,
        M.due_at: now + delay,
    }
    M.update(changes).where(_is_ours(one)).execute(db)


def claims(db: peewee.Database) -> dict[int, str]:
    """The claims of all nodes, by row."""
    query: Any = M.select(M.id, M.claim).where(M.claim.is_null(False))
    return dict(query.tuples().execute(db))


def take_over(db: peewee.Database, stale: Mapping[int, str]) -> tuple[int, int]:
    """Remove claims that are unchanged. Returns how many mails another node sends now, and how many
    were dropped because they may have been sent."""
    released = dropped = 0
    for id_, token in sorted(stale.items()):
        same = (M.id == id_) & (M.claim == token)
        dropped += int(M.delete().where(same & (M.is_handed == True)).execute(db))  # noqa: E712
        released += int(M.update({M.claim: None}).where(same).execute(db))
    return released, dropped


def delete_expired(db: peewee.Database, now: float) -> int:
    """Delete expired mails. Returns their number."""
    old = (M.expires_at <= now) & M.claim.is_null()
    return int(M.delete().where(old).execute(db))


def count(db: peewee.Database) -> int:
    """Number of waiting mails."""
    return int(M.select().count(db))


def _due(now: float) -> Any:
    wrong = M.due_at > now + MAX_DELAY_SECONDS + CLOCK_SLACK_SECONDS  # the clock was set back
    return ((M.due_at <= now) | wrong) & M.claim.is_null()


def _is_ours(one: ClaimedMail) -> Any:
    return (M.id == one.id) & (M.claim == one.claim)
