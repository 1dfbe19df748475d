"""Who may do what in a channel, and since when: the rules, and the queries that apply them.

A right comes from several sources: being the owner, an administrator, a member, of a role that
the channel lets in, or anybody at all where the channel is public. The highest right counts;
`since` is the earliest source that still holds, so nobody is shown what was said before.

All functions here are plain Peewee code, for use within a transaction (`Database.run`).
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple, cast

import msgspec
import peewee

from models.channel import Channel, ChannelMember, ChannelRole
from models.user import User

RightName = Literal["read", "write", "manage"]

MAX_ROOMS = 1000
"""Channels that `grants_of` gives: a socket is joined to no more of them by itself."""
USERS_AT_ONCE = 500
"""Users asked for in one query: databases take a bounded number of parameters."""


class Right(enum.IntEnum):
    """What somebody may do in a channel; each right holds those before it."""

    READ = 1
    WRITE = 2
    MANAGE = 3

    @property
    def word(self) -> RightName:
        """As the wire and the rows have it."""
        return cast("RightName", self.name.lower())

    @classmethod
    def of(cls, word: str) -> Right:
        """The right that a word of the wire or of a row names."""
        return cls[word.upper()]


class Grant(msgspec.Struct, frozen=True):
    """A right in one channel.

    Attributes:
        since: epoch seconds from which it has been possible to read without a break.
    """

    right: Right
    since: float


class Reader(NamedTuple):
    """Whose rights are asked for."""

    id: str
    role: str
    role_since: float
    created_at: float


class Found(NamedTuple):
    """A channel beside the rows that say something of one reader."""

    id: str
    name: str
    private: bool
    owner_id: str | None
    created_at: float
    public_since: float | None
    member_right: str | None
    member_since: float | None
    role_right: str | None
    role_since: float | None


def grant(channel: Found, reader: Reader) -> Grant | None:
    """The right of a reader in a channel, None where there is none."""
    sources = list(_sources(channel, reader))
    if not sources:
        return None
    return Grant(max(s.right for s in sources), min(s.since for s in sources))


def _sources(channel: Found, reader: Reader) -> Iterator[Grant]:
    if channel.owner_id == reader.id:
        yield Grant(Right.MANAGE, channel.created_at)
    if reader.role == "admin":
        yield Grant(Right.MANAGE, max(channel.created_at, reader.role_since))
    if channel.member_right is not None and channel.member_since is not None:
        yield Grant(Right.of(channel.member_right), channel.member_since)
    if channel.role_right is not None and channel.role_since is not None:
        # Who took on the role later has had the right no longer than the role.
        yield Grant(Right.of(channel.role_right), max(channel.role_since, reader.role_since))
    if channel.public_since is not None:
        yield Grant(Right.WRITE, max(channel.public_since, reader.created_at))


# ---- of one user ---------------------------------------------------------------------------


def grants_of(db: peewee.Database, user_id: str) -> dict[str, Grant]:
    """Every channel that a user may read, at most `MAX_ROOMS`.

    Where there are more, those that the user owns or is a member of come first, so that no
    number of public channels can push them out; then the rest. Newest first in each.
    """
    reader = reader_of(db, user_id)
    if reader is None:
        return {}
    found = _newest(db, reader, Channel.id.in_(_personal(reader)))
    if len(found) < MAX_ROOMS:
        known = {channel.id for channel in found}
        found += [c for c in _newest_open_to(db, reader) if c.id not in known]
    granted = ((channel.id, grant(channel, reader)) for channel in found[:MAX_ROOMS])
    return {channel_id: had for channel_id, had in granted if had is not None}


def reader_of(db: peewee.Database, user_id: str) -> Reader | None:
    """What counts of a user; None if there is no such user."""
    query: Any = User.select(*_READER).where(User.id == user_id)
    row = query.tuples().get_or_none(db)
    return None if row is None else Reader(*row)


def readable_by(reader: Reader) -> Any:
    """The condition that a channel may be read."""
    if reader.role == "admin":
        return Channel.id.is_null(False)
    public = Channel.alias("public")
    anybody = public.select(public.id).where(public.public_since.is_null(False))
    # A union of indexed look-ups: OR between them would read every channel there is.
    return Channel.id.in_(_personal(reader) | _of_role(reader) | anybody)


def _personal(reader: Reader) -> Any:
    owned = Channel.alias("owned")
    mine = owned.select(owned.id).where(owned.owner == reader.id)
    return mine | ChannelMember.select(ChannelMember.channel).where(ChannelMember.user == reader.id)


def _of_role(reader: Reader) -> Any:
    return ChannelRole.select(ChannelRole.channel).where(ChannelRole.role == reader.role)


def _newest_open_to(db: peewee.Database, reader: Reader) -> list[Found]:
    """The newest channels that are open to many. Never reads all there are: anybody opens some."""
    if reader.role == "admin":
        return _newest(db, reader, Channel.id.is_null(False))
    either = _newest(db, reader, Channel.id.in_(_of_role(reader)))
    either += _newest(db, reader, Channel.public_since.is_null(False))
    distinct = {channel.id: channel for channel in either}
    return sorted(distinct.values(), key=lambda c: (c.created_at, c.id), reverse=True)


def _newest(db: peewee.Database, reader: Reader, condition: Any) -> list[Found]:
    return find_channels(db, reader, condition, MAX_ROOMS)


def find_channels(db: peewee.Database, reader: Reader, condition: Any, limit: int) -> list[Found]:
    """Channels that meet a condition, with what they say of the reader; newest first."""
    member = (ChannelMember.channel == Channel.id) & (ChannelMember.user == reader.id)
    role = (ChannelRole.channel == Channel.id) & (ChannelRole.role == reader.role)
    query: Any = (
        Channel.select(*_CHANNEL, *_MEMBER, ChannelRole.right, ChannelRole.since)
        .join(ChannelMember, peewee.JOIN.LEFT_OUTER, on=member)
        .switch(Channel)
        .join(ChannelRole, peewee.JOIN.LEFT_OUTER, on=role)
        .where(condition)
        .order_by(Channel.created_at.desc(), Channel.id.desc())
        .limit(limit)
    )
    return [Found(*row) for row in query.tuples().execute(db)]


# ---- in one channel ------------------------------------------------------------------------


def grants_in(db: peewee.Database, channel_id: str, user_ids: Iterable[str]) -> dict[str, Grant]:
    """The rights of these users in a channel; who has none is left out.

    Takes any number of users, in queries of a bounded size.
    """
    query: Any = Channel.select(*_CHANNEL).where(Channel.id == channel_id)
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
        User.select(*_READER, *_MEMBER)
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
_CHANNEL = (
    Channel.id,
    Channel.name,
    Channel.private,
    Channel.owner,
    Channel.created_at,
    Channel.public_since,
)
_MEMBER = (ChannelMember.right, ChannelMember.since)
