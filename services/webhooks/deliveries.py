"""Rows of deliveries: claiming those that are due, and recording results.

A delivery is claimed with its row: an attempt writes a random claim, and its result is recorded
only while that claim is unchanged. If a claim does not change for CLAIM_SECONDS, by the monotonic
clock of the node that watches it, it is removed: its node is dead, or the attempt has timed out. So
no wall clock decides which node delivers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
import peewee

from models.webhook import WebhookDelivery as D
from services.storage.row_locks import locked

DELAYS = (1.0, 5.0, 30.0, *(60.0 * 2**n for n in range(10)), 24_984.0)
"""Seconds from each failed attempt to the next: 24 hours together."""
GIVE_UP_SECONDS = 86_400.0
LEAST_ATTEMPTS = 4
"""The attempts of an event that has waited for 24 hours behind others of its subject."""
CLAIM_SECONDS = 20.0
"""Longer than an attempt with the writing of its outcome."""
CANDIDATES = 50
"""Rows of a webhook that are read in one transaction."""
SOON_SECONDS, LATER_SECONDS = 5.0, 300.0
"""When a row is looked at again that waits behind another of its subject: one under way, one that
has failed. It is delivered at once when the other is done; this is for the case that the news of
that came to nothing."""
CLOCK_SLACK_SECONDS = 60.0
"""How far the clocks of two nodes may differ."""
TEST_EVENT = "webhook.test"

State = Literal["pending", "delivered", "failed"]


class Claimed(msgspec.Struct, frozen=True):
    """A claimed delivery. `attempts`: the number of previous attempts."""

    id: int
    webhook_id: str
    event_id: str
    type: str
    subject: str
    body: str
    attempts: int
    created_at: float
    claim: str


class Outcome(msgspec.Struct, frozen=True):
    """The result of an attempt: an HTTP `status`, or an `error`; both for an error status."""

    status: int | None = None
    error: str | None = None


# ---- claiming ------------------------------------------------------------------------------


def is_any_due(db: peewee.Database, webhook_ids: Sequence[str], now: float) -> bool:
    """Whether a delivery of one of these webhooks is due."""
    for webhook_id in webhook_ids:
        due = (D.webhook_id == webhook_id) & (D.due_at <= now) & D.claim.is_null()
        if D.select(D.id).where(due).exists(db):
            return True
    return False


def claim(
    db: peewee.Database, places: Mapping[str, int], now: float, token: str
) -> tuple[list[Claimed], bool]:
    """Claim due deliveries.

    Args:
        places: the most deliveries of each webhook.
        now: epoch seconds.
        token: the random claim.

    Returns:
        The claimed deliveries, and whether there may be more.
    """
    claimed: list[Claimed] = []
    more = False
    for webhook_id, most in sorted(places.items()):  # as every node does
        rows = _candidates(db, webhook_id, now)
        more = more or len(rows) == CANDIDATES
        ready = [id_ for id_, _, head in rows if id_ == head]
        _postpone(db, [row for row in rows if row[0] != row[2]], now)
        if ready:
            claimed += _take(db, ready[:most], token)
    claimed.sort(key=lambda one: one.id)
    return claimed, more


def _candidates(db: peewee.Database, webhook_id: str, now: float) -> list[tuple[int, str, int]]:
    """Rows that are due: the id, the queue, and the id of the first in that queue."""
    due = (D.webhook_id == webhook_id) & (D.due_at <= now) & D.claim.is_null()
    query: Any = D.select(D.id).where(due).order_by(D.due_at, D.id).limit(CANDIDATES)
    ids = [row.id for row in query.execute(db)]
    if db.for_update:  # another node claims at the same time: one after the other, in one order
        first: Any = D.select(D.id).where(D.id.in_(ids)).order_by(D.id)
        list(locked(first, db).execute(db))
    return _with_heads(db, ids, now)


def _with_heads(db: peewee.Database, ids: Sequence[int], now: float) -> list[tuple[int, str, int]]:
    row, before = _aliases()
    head = before.select(peewee.fn.MIN(before.id)).where(
        (before.webhook_id == row.webhook_id) & (before.queue == row.queue)
    )
    due = row.id.in_(ids) & (row.due_at <= now) & row.claim.is_null()
    query = row.select(row.id, row.queue, head).where(due).order_by(row.due_at, row.id)
    # Peewee takes the subquery for a text.
    return [(id_, queue, int(first)) for id_, queue, first in query.tuples().execute(db)]


def _aliases() -> tuple[Any, Any]:
    return D.alias("d"), D.alias("before")


def _take(db: peewee.Database, ids: Sequence[int], token: str) -> list[Claimed]:
    free = D.id.in_(ids) & D.claim.is_null() & D.queue.is_null(False)
    update: Any = D.update({D.claim: token}).where(free).returning(D)
    return [
        Claimed(
            row.id,
            row.webhook_id,
            row.event_id,
            row.type,
            row.subject,
            row.body,
            row.attempts,
            row.created_at,
            token,
        )
        for row in update.execute(db)
    ]


def _postpone(db: peewee.Database, blocked: Sequence[tuple[int, str, int]], now: float) -> None:
    """Postpone rows that wait for earlier ones of their subject, so that they hide no due rows."""
    if not blocked:
        return
    heads: Any = D.select(D.id, D.claim, D.due_at).where(
        D.id.in_(list({head for _, _, head in blocked}))
    )
    times = {
        id_: now + SOON_SECONDS
        if claim_ is not None or due_at <= now
        else min(due_at, now + LATER_SECONDS)
        for id_, claim_, due_at in heads.tuples().execute(db)
        if due_at is not None  # else it is done by now, and the next is not to be put off
    }
    by_time: dict[float, list[int]] = {}
    for id_, _, head in blocked:
        if head in times:
            by_time.setdefault(times[head], []).append(id_)
    for at, ids in by_time.items():
        same = D.id.in_(ids) & (D.due_at <= now) & D.claim.is_null()
        D.update({D.due_at: at}).where(same).execute(db)


def claims(db: peewee.Database) -> dict[int, str]:
    """The claims of all nodes, by delivery."""
    query: Any = D.select(D.id, D.claim).where(D.claim.is_null(False))
    return dict(query.tuples().execute(db))


def release(db: peewee.Database, stale: Mapping[int, str]) -> int:
    """Remove claims that are unchanged. Returns their number."""
    done = 0
    for id_, token in sorted(stale.items()):
        same = (D.id == id_) & (D.claim == token)
        done += int(D.update({D.claim: None, D.due_at: 0.0}).where(same).execute(db))
    return done


# ---- what became of an attempt -------------------------------------------------------------


def finish(db: peewee.Database, one: Claimed, outcome: Outcome, now: float) -> State | None:
    """Record the result of an attempt. Returns None if its claim was removed meanwhile."""
    attempts = one.attempts + 1
    changes: dict[Any, Any] = {
        D.attempts: attempts,
        D.attempted_at: now,
        D.status: outcome.status,
        D.error: outcome.error,
        D.claim: None,
    }
    state: State = "delivered"
    if outcome.error is not None:
        state = "failed" if _gives_up(one, attempts, now) else "pending"
    if state == "pending":
        changes[D.due_at] = now + DELAYS[attempts - 1]
    else:
        changes |= {D.state: state, D.due_at: None, D.queue: None, D.done_at: now}
    same = (D.id == one.id) & (D.claim == one.claim)
    if not D.update(changes).where(same).execute(db):
        return None
    if state != "pending":
        _promote(db, one)
    return state


def _gives_up(one: Claimed, attempts: int, now: float) -> bool:
    if one.type == TEST_EVENT or attempts > len(DELAYS):
        return True
    return attempts >= LEAST_ATTEMPTS and now - one.created_at >= GIVE_UP_SECONDS


def _promote(db: peewee.Database, one: Claimed) -> None:
    """Make the next delivery of the subject due."""
    waiting = (D.webhook_id == one.webhook_id) & (D.queue == one.subject)
    first: Any = D.select(peewee.fn.MIN(D.id)).where(waiting).scalar(db)
    if first is not None:
        D.update({D.due_at: 0.0}).where((D.id == first) & D.claim.is_null()).execute(db)


def heal_times(db: peewee.Database, webhook_ids: Sequence[str], now: float) -> int:
    """Make deliveries due whose retry time is too far ahead. Returns their number.

    Such a time was written by a clock that was ahead and has been set back since.
    """
    ahead = now + CLOCK_SLACK_SECONDS
    wrong = (D.attempted_at > ahead) | (
        D.attempted_at.is_null() & (D.due_at > ahead + LATER_SECONDS)
    )
    done = 0
    for webhook_id in webhook_ids:
        those = (D.webhook_id == webhook_id) & (D.due_at > ahead) & wrong
        changes: dict[Any, Any] = {D.due_at: 0.0, D.attempted_at: None}
        done += int(D.update(changes).where(those).execute(db))
    return done
