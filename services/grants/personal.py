"""Reads the personal grants of one user with two statements whose SQL is built once.

For refreshes and sign-ins. The result is what `queries.personal_grants` gives.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import peewee

from models.channel import Channel, ChannelMember
from services.grants.queries import CHANNEL_COLUMNS, MEMBER_COLUMNS, grants_from, personal_grants
from services.grants.rules import MAX_ROOMS, Found, Grant, Reader
from services.storage.statements import Statement


class PersonalGrants:
    """Reads what users own, and what they are members of."""

    def __init__(self) -> None:
        self._owned = Statement(_owned, 1)
        self._joined = Statement(_joined, 1)

    def of(self, db: peewee.Database, reader: Reader) -> dict[str, Grant]:
        """The grants of a user who exists, without channels that are open to a role or to
        everybody. Administrators cost more statements: they may read every channel."""
        if reader.role == "admin":
            return personal_grants(db, reader.id)[1]
        owned = [_found(row) for row in self._owned.rows(db, reader.id)]
        joined = [_found(row) for row in self._joined.rows(db, reader.id)]
        return grants_from(both(owned, joined), reader)


def both(owned: Sequence[Found], joined: Iterable[Found]) -> list[Found]:
    """The channels that a user owns, then the others that the user is a member of."""
    known = {channel.id for channel in owned}
    return [*owned, *(channel for channel in joined if channel.id not in known)][:MAX_ROOMS]


def found_of(columns: Sequence[Any]) -> Found:
    """A channel from its columns and a member's, without what is open to roles or everybody: that
    is shared, see `rules.merge`."""
    return Found._make((*columns, None, None))._replace(public_since=None)


def _found(row: Sequence[Any]) -> Found:
    found = found_of(row)
    return found._replace(private=bool(found.private), step_up=bool(found.step_up))


def _owned(_: peewee.Database, user_id: Any) -> Any:
    own_row = (ChannelMember.channel == Channel.id) & (ChannelMember.user == Channel.owner)
    return (
        Channel.select(*CHANNEL_COLUMNS, *MEMBER_COLUMNS)
        .join(ChannelMember, peewee.JOIN.LEFT_OUTER, on=own_row)
        .where(Channel.owner == user_id)
        .order_by(Channel.created_at.desc(), Channel.id.desc())
        .limit(MAX_ROOMS)
    )


def _joined(_: peewee.Database, user_id: Any) -> Any:
    return (
        ChannelMember.select(*CHANNEL_COLUMNS, *MEMBER_COLUMNS)
        .join(Channel)
        .where(ChannelMember.user == user_id)
        .order_by(ChannelMember.since, Channel.id)
        .limit(MAX_ROOMS)
    )
