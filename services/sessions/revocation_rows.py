"""Rows of revocations, within the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import peewee

from models.revocation import Revocation as Row
from services.sessions.control import Revocation

SWEEP_LIMIT = 1000
ROWS_AT_ONCE = 500
"""Written in one statement: databases take a bounded number of parameters."""


def insert(db: peewee.Database, made: Revocation, life: float) -> Revocation:
    """Write a revocation. Returns it with the id of its row.

    Args:
        life: seconds from `made.created_at` for which it may apply.
    """
    row_id = Row.insert(
        kind=made.kind,
        subject=made.subject,
        user_id=made.user_id,
        reason=made.reason,
        role=made.role,
        created_at=made.created_at,
        expires_at=made.created_at + life,
        generation=made.generation,
        exempt=made.exempt,
    ).execute(db)
    return msgspec.structs.replace(made, id=row_id)


def insert_sessions(
    db: peewee.Database, ended: Sequence[tuple[str, str]], reason: str, now: float, life: float
) -> list[Revocation]:
    """Write the revocations of several login sessions in a constant number of statements.

    Args:
        ended: their ids, each with its user's.
        now: epoch seconds.
        life: seconds from then for which they may apply.
    """
    written: list[Revocation] = []
    for start in range(0, len(ended), ROWS_AT_ONCE):
        rows = [
            {
                "kind": "session",
                "subject": sid,
                "user_id": user_id,
                "reason": reason,
                "created_at": now,
                "expires_at": now + life,
            }
            for sid, user_id in ended[start : start + ROWS_AT_ONCE]
        ]
        made = Row.insert_many(rows).returning(Row.id, Row.subject, Row.user_id).execute(db)
        written += [Revocation("session", r.subject, r.user_id, reason, now, r.id) for r in made]
    return written


def newer(db: peewee.Database, floor: int, now: float) -> list[Revocation]:
    """The rows above an id that still apply, in the order of their ids, at most `SWEEP_LIMIT`."""
    rows = (
        Row.select()
        .where((Row.id > floor) & (Row.expires_at > now))
        .order_by(Row.id)
        .limit(SWEEP_LIMIT)
    )
    return [_read(row) for row in rows.execute(db)]


def _read(row: Any) -> Revocation:
    return Revocation(
        row.kind,
        row.subject,
        row.user_id,
        row.reason,
        row.created_at,
        row.id,
        row.role,
        row.generation,
        row.exempt,
    )
