"""Inserts, finds and deletes rows of invitations, within the caller's transaction."""

from __future__ import annotations

from typing import Any

import peewee

from models.invitation import Invitation
from models.user import User

CLOCK_SKEW_SECONDS = 60.0
"""Accepted difference of the nodes' clocks. An invitation from further in the future is refused: a
clock was set back, and its age is unknown."""


def insert(db: peewee.Database, values: dict[str, object]) -> None:
    """Insert an invitation."""
    Invitation.insert(values).execute(db)


def is_valid(db: peewee.Database, hash_: str, now: float) -> bool:
    """Whether an invitation can be used by some address. Does not use it."""
    return _active(now).where(Invitation.hash == hash_).exists(db)


def take(db: peewee.Database, hash_: str, address: str, now: float) -> Invitation | None:
    """Use an invitation up. Of concurrent callers, only one succeeds.

    Args:
        address: the normalised address of the new account.
    """
    for_it = Invitation.email.is_null() | (Invitation.email == address)
    found = _active(now).where((Invitation.hash == hash_) & for_it).get_or_none(db)
    if found is None:
        return None
    # A concurrent delete waits for the other's commit, and then deletes nothing.
    done = Invitation.delete().where(Invitation.hash == hash_).execute(db)
    return found if done else None


def active(db: peewee.Database, after: str, limit: int, now: float) -> list[Invitation]:
    """Invitations that can be used, newest first, beginning after the one with the id `after`."""
    query = _active(now)
    if after:
        last = Invitation.select().where(Invitation.id == after).get_or_none(db)
        if last is None:  # used or revoked meanwhile, so its position is unknown
            return []
        same_time = (Invitation.created_at == last.created_at) & (Invitation.id > last.id)
        query = query.where((Invitation.created_at < last.created_at) | same_time)
    order = Invitation.created_at.desc(), Invitation.id
    return list(query.order_by(*order).limit(limit).execute(db))


def delete(db: peewee.Database, invitation_id: str) -> bool:
    """Delete an invitation. Returns False if there is none."""
    return bool(Invitation.delete().where(Invitation.id == invitation_id).execute(db))


def count_of(db: peewee.Database, now: float) -> int:
    """Number of invitations that can be used."""
    return int(_active(now).count(db))


def _active(now: float) -> peewee.ModelSelect[Invitation]:
    maker: Any = User.select(User.id).where((User.role == "admin") & User.disabled_at.is_null())
    in_time = (Invitation.created_at - CLOCK_SKEW_SECONDS <= now) & (Invitation.expires_at > now)
    may = Invitation.made_by_command | Invitation.created_by.in_(maker)
    return Invitation.select().where(in_time & may)
