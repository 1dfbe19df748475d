"""Reads the grants of users and channels from the database.

All functions here are plain Peewee code, for use within a transaction (`Database.run`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import peewee

from models.channel import Channel, ChannelMember, ChannelRole
from models.user import User
from services.grants.rules import BACKEND, MAX_ROOMS, Found, Grant, Reader, grant

NEWEST_FOR_ADMINISTRATORS = 50
"""Channels of others, beside the open ones, that the sockets of administrators join by
themselves."""
USERS_AT_ONCE = 500
"""Users asked for in one query: databases take a bounded number of parameters."""


# ---- of one user ---------------------------------------------------------------------------


def grants_of(db: peewee.Database, user_id: str, joined: Sequence[str] = ()) -> dict[str, Grant]:
    """The channels that a user's sockets join by themselves, up to `MAX_ROOMS`. All others that the
    user may read can be joined by name.

    Owned channels come first, then memberships, the oldest first. So memberships that others add
    later and open channels do not displace these.

    Args:
        joined: open channels that the sockets of the user's role join, see `open_channels.py`.
    """
    reader = reader_of(db, user_id)
    if reader is None:
        return {}
    found = _own_and_newest(db, reader)
    known = {channel.id for channel in found}
    more = [channel_id for channel_id in joined if channel_id not in known]
    granted = grants_from(found, reader)
    return granted | _grants_among(db, reader, more[: max(0, MAX_ROOMS - len(granted))])


def personal_grants(db: peewee.Database, user_id: str) -> tuple[Reader, dict[str, Grant]]:
    """Like `grants_of`, without channels that are open to a role or to everybody: see `merge`."""
    reader = reader_of(db, user_id)
    if reader is None:
        return Reader(user_id, "", 0.0, 0.0), {}
    found = _own_and_newest(db, reader)
    alone = [c._replace(public_since=None, role_right=None) for c in found]
    return reader, grants_from(alone, reader)


def grants_among(db: peewee.Database, user_id: str, channel_ids: Iterable[str]) -> dict[str, Grant]:
    """A user's rights in these channels, without channels that the user may not read."""
    reader = reader_of(db, user_id)
    return {} if reader is None else _grants_among(db, reader, list(dict.fromkeys(channel_ids)))


def _grants_among(db: peewee.Database, reader: Reader, ids: list[str]) -> dict[str, Grant]:
    granted = dict[str, Grant]()
    for start in range(0, len(ids), USERS_AT_ONCE):
        some = ids[start : start + USERS_AT_ONCE]
        granted |= grants_from(find_channels(db, reader, Channel.id.in_(some), len(some)), reader)
    return granted


def grants_from(found: Iterable[Found], reader: Reader) -> dict[str, Grant]:
    """A reader's grants by channel id, without channels that the reader may not read."""
    granted = ((channel.id, grant(channel, reader)) for channel in found)
    return {channel_id: had for channel_id, had in granted if had is not None}


def reader_of(db: peewee.Database, user_id: str) -> Reader | None:
    """The properties of a user that rights depend on; None if there is no such user. BACKEND has
    every right."""
    if user_id == BACKEND:
        return Reader(BACKEND, "admin", 0.0, 0.0)
    query: Any = User.select(*_READER).where(User.id == user_id)
    row = query.tuples().get_or_none(db)
    return None if row is None else Reader(*row)


def readers_of(db: peewee.Database, user_ids: list[str]) -> dict[str, Reader]:
    """The same of several users, by id, without those who don't exist; one query."""
    query: Any = User.select(*_READER).where(User.id.in_(user_ids))
    return {row[0]: Reader(*row) for row in query.tuples().execute(db)}


def readable_by(reader: Reader) -> Any:
    """The condition that a channel may be read."""
    if reader.role == "admin":
        return Channel.id.is_null(False)
    public = Channel.alias("public")
    anybody = public.select(public.id).where(public.public_since.is_null(False))
    # A union of indexed look-ups: with OR, the database would read every channel.
    return Channel.id.in_(_personal(reader) | _of_role(reader) | anybody)


def _personal(reader: Reader) -> Any:
    owned = Channel.alias("owned")
    mine = owned.select(owned.id).where(owned.owner == reader.id)
    return mine | ChannelMember.select(ChannelMember.channel).where(ChannelMember.user == reader.id)


def _own_and_newest(db: peewee.Database, reader: Reader) -> list[Found]:
    """Channels that a reader owns or is a member of, and for administrators the newest others: they
    may read every channel, and others make any number."""
    found = _owned_or_member_of(db, reader)
    if reader.role == "admin" and len(found) < MAX_ROOMS:
        known = {channel.id for channel in found}
        newest = find_channels(db, reader, Channel.id.is_null(False), NEWEST_FOR_ADMINISTRATORS)
        found += [channel for channel in newest if channel.id not in known]
    return found[:MAX_ROOMS]


def _owned_or_member_of(db: peewee.Database, reader: Reader) -> list[Found]:
    found = find_channels(db, reader, Channel.owner == reader.id, MAX_ROOMS)
    here = (ChannelMember.user == reader.id) & Channel.id.in_(_member_of(reader))
    oldest = (ChannelMember.since, Channel.id)
    members = find_channels(db, reader, here, MAX_ROOMS, oldest)
    known = {channel.id for channel in found}
    return [*found, *(c for c in members if c.id not in known)][:MAX_ROOMS]


def _member_of(reader: Reader) -> Any:
    return ChannelMember.select(ChannelMember.channel).where(ChannelMember.user == reader.id)


def _of_role(reader: Reader) -> Any:
    return ChannelRole.select(ChannelRole.channel).where(ChannelRole.role == reader.role)


def find_channels(
    db: peewee.Database,
    reader: Reader,
    condition: Any,
    limit: int,
    order: tuple[Any, ...] = (Channel.created_at.desc(), Channel.id.desc()),
) -> list[Found]:
    """Channels that meet a condition, with the rows about the reader; newest first."""
    member = (ChannelMember.channel == Channel.id) & (ChannelMember.user == reader.id)
    role = (ChannelRole.channel == Channel.id) & (ChannelRole.role == reader.role)
    query: Any = (
        Channel.select(*CHANNEL_COLUMNS, *MEMBER_COLUMNS, ChannelRole.right, ChannelRole.since)
        .join(ChannelMember, peewee.JOIN.LEFT_OUTER, on=member)
        .switch(Channel)
        .join(ChannelRole, peewee.JOIN.LEFT_OUTER, on=role)
        .where(condition)
        .order_by(*order)
        .limit(limit)
    )
    return [Found(*row) for row in query.tuples().execute(db)]


def roles_of_many(
    db: peewee.Database, channel_ids: list[str]
) -> dict[str, dict[str, tuple[str, float]]]:
    """The rights that channels give by role, by channel id: right and since."""
    roles: dict[str, dict[str, tuple[str, float]]] = {}
    for start in range(0, len(channel_ids), USERS_AT_ONCE):
        some = channel_ids[start : start + USERS_AT_ONCE]
        for row in ChannelRole.select().where(ChannelRole.channel.in_(some)).execute(db):
            roles.setdefault(row.channel_id, {})[row.role] = row.right, row.since
    return roles


# ---- in one channel ------------------------------------------------------------------------


def grants_in(db: peewee.Database, channel_id: str, user_ids: Iterable[str]) -> dict[str, Grant]:
    """The rights of these users in a channel, without users who have none.

    Takes any number of users, in queries of a bounded size.
    """
    query: Any = Channel.select(*CHANNEL_COLUMNS).where(Channel.id == channel_id)
    channel = query.tuples().get_or_none(db)
    if channel is None:
        return {}
    roles = roles_of(db, channel_id)
    ids, granted = list(dict.fromkeys(user_ids)), {}
    for start in range(0, len(ids), USERS_AT_ONCE):
        for reader, member in _readers(db, channel_id, ids[start : start + USERS_AT_ONCE]):
            role = roles.get(reader.role, (None, None))
            if (had := grant(Found._make((*channel, *member, *role)), reader)) is not None:
                granted[reader.id] = had
    return granted


def roles_of(db: peewee.Database, channel_id: str) -> dict[str, tuple[str, float]]:
    """The rights that a channel gives by role: right and since."""
    rows = ChannelRole.select().where(ChannelRole.channel == channel_id).execute(db)
    return {row.role: (row.right, row.since) for row in rows}


def _readers(
    db: peewee.Database, channel_id: str, user_ids: list[str]
) -> Iterator[tuple[Reader, tuple[str | None, float | None]]]:
    member = (ChannelMember.user == User.id) & (ChannelMember.channel == channel_id)
    query: Any = (
        User.select(*_READER, *MEMBER_COLUMNS)
        .join(ChannelMember, peewee.JOIN.LEFT_OUTER, on=member)
        .where(User.id.in_(user_ids))
    )
    for row in query.tuples().execute(db):
        yield Reader(*row[:4]), (row[4], row[5])


_READER = (
    User.id,
    User.role,
    peewee.fn.COALESCE(User.role_since, User.created_at),
    User.created_at,
)
CHANNEL_COLUMNS = (
    Channel.id,
    Channel.name,
    Channel.private,
    Channel.owner,
    Channel.created_at,
    Channel.public_since,
    Channel.step_up,
)
MEMBER_COLUMNS = (ChannelMember.right, ChannelMember.since)
