"""Who may do what in a channel, and since when: the rules, and the queries that apply them.

A right comes from several sources: being the owner, an administrator, a member, of a role that
the channel lets in, or anybody at all where the channel is public. The highest right counts;
`since` is the earliest source that still holds, so nobody is shown what was said before.

All functions here are plain Peewee code, for use within a transaction (`Database.run`).
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple, cast, get_args

import msgspec
import peewee

from models.channel import Channel, ChannelMember, ChannelRole
from models.user import User
from services.claims import Role

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


class OpenChannel(NamedTuple):
    """A channel, as far as it is open to many. `roles`: right and since, by role."""

    id: str
    created_at: float
    public_since: float | None
    roles: Mapping[str, tuple[str, float]]

    @property
    def is_open(self) -> bool:
        """Whether there is a role that it lets in, or it lets in everybody."""
        return bool(self.roles) or self.public_since is not None


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
    """The channels that a user is joined to, `MAX_ROOMS` at most: all that may be read, or else as
    many as fit. Whatever does not fit can be joined by name.

    Those that the user owns come first; then those that the user is a member of, the oldest
    membership first: whatever others add later, or open to everybody, pushes out none of these.
    """
    reader = reader_of(db, user_id)
    if reader is None:
        return {}
    found = _owned_or_member_of(db, reader)
    if len(found) < MAX_ROOMS:
        known = {channel.id for channel in found}
        found += [c for c in _newest_open_to(db, reader) if c.id not in known]
    return _granted(found[:MAX_ROOMS], reader)


def personal_grants(db: peewee.Database, user_id: str) -> tuple[Reader, dict[str, Grant]]:
    """The same without what is open to everybody of a role, or to everybody: see `merge`."""
    reader = reader_of(db, user_id)
    if reader is None:
        return Reader(user_id, "", 0.0, 0.0), {}
    found = _owned_or_member_of(db, reader)
    if reader.role == "admin" and len(found) < MAX_ROOMS:
        known = {channel.id for channel in found}
        found += [c for c in _newest_open_to(db, reader) if c.id not in known]
    alone = [c._replace(public_since=None, role_right=None) for c in found[:MAX_ROOMS]]
    return reader, _granted(alone, reader)


def grants_among(db: peewee.Database, user_id: str, channel_ids: Iterable[str]) -> dict[str, Grant]:
    """What a user may do in these channels; those that may not be read are left out."""
    reader = reader_of(db, user_id)
    if reader is None:
        return {}
    ids, granted = list(dict.fromkeys(channel_ids)), dict[str, Grant]()
    for start in range(0, len(ids), USERS_AT_ONCE):
        some = ids[start : start + USERS_AT_ONCE]
        granted |= _granted(find_channels(db, reader, Channel.id.in_(some), len(some)), reader)
    return granted


def _granted(found: Iterable[Found], reader: Reader) -> dict[str, Grant]:
    granted = ((channel.id, grant(channel, reader)) for channel in found)
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


def _owned_or_member_of(db: peewee.Database, reader: Reader) -> list[Found]:
    found = _newest(db, reader, Channel.owner == reader.id)
    here = (ChannelMember.user == reader.id) & Channel.id.in_(_member_of(reader))
    oldest = (ChannelMember.since, Channel.id)
    members = find_channels(db, reader, here, MAX_ROOMS, oldest)
    known = {channel.id for channel in found}
    return [*found, *(c for c in members if c.id not in known)][:MAX_ROOMS]


def _member_of(reader: Reader) -> Any:
    return ChannelMember.select(ChannelMember.channel).where(ChannelMember.user == reader.id)


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


def find_channels(
    db: peewee.Database,
    reader: Reader,
    condition: Any,
    limit: int,
    order: tuple[Any, ...] = (Channel.created_at.desc(), Channel.id.desc()),
) -> list[Found]:
    """Channels that meet a condition, with what they say of the reader; newest first."""
    member = (ChannelMember.channel == Channel.id) & (ChannelMember.user == reader.id)
    role = (ChannelRole.channel == Channel.id) & (ChannelRole.role == reader.role)
    query: Any = (
        Channel.select(*_CHANNEL, *_MEMBER, ChannelRole.right, ChannelRole.since)
        .join(ChannelMember, peewee.JOIN.LEFT_OUTER, on=member)
        .switch(Channel)
        .join(ChannelRole, peewee.JOIN.LEFT_OUTER, on=role)
        .where(condition)
        .order_by(*order)
        .limit(limit)
    )
    return [Found(*row) for row in query.tuples().execute(db)]


# ---- open to many --------------------------------------------------------------------------


def open_channels(db: peewee.Database) -> dict[str, OpenChannel]:
    """The newest channels that are open to everybody, and to each role: `MAX_ROOMS` of each."""
    rows: dict[str, Any] = {}
    conditions: list[Any] = [Channel.public_since.is_null(False)]
    for role in get_args(Role):
        of_role = ChannelRole.select(ChannelRole.channel).where(ChannelRole.role == role)
        conditions.append(Channel.id.in_(of_role))
    for condition in conditions:
        query: Any = (
            Channel.select(*_OPEN)
            .where(condition)
            .order_by(Channel.created_at.desc(), Channel.id.desc())
            .limit(MAX_ROOMS)
        )
        rows.update((row[0], row) for row in query.tuples().execute(db))
    roles = _roles_of_many(db, list(rows))
    return {i: OpenChannel(i, row[1], row[2], roles.get(i, {})) for i, row in rows.items()}


def _roles_of_many(
    db: peewee.Database, channel_ids: list[str]
) -> dict[str, dict[str, tuple[str, float]]]:
    roles: dict[str, dict[str, tuple[str, float]]] = {}
    for start in range(0, len(channel_ids), USERS_AT_ONCE):
        some = channel_ids[start : start + USERS_AT_ONCE]
        for row in ChannelRole.select().where(ChannelRole.channel.in_(some)).execute(db):
            roles.setdefault(row.channel_id, {})[row.role] = row.right, row.since
    return roles


def open_channel(db: peewee.Database, channel_id: str) -> OpenChannel | None:
    """How far a channel is open to many; None where there is none."""
    query: Any = Channel.select(*_OPEN).where(Channel.id == channel_id)
    row = query.tuples().get_or_none(db)
    return None if row is None else OpenChannel(row[0], row[1], row[2], roles_of(db, channel_id))


def merge(
    reader: Reader, personal: Mapping[str, Grant], shared: Iterable[OpenChannel]
) -> dict[str, Grant]:
    """What somebody may do by themselves, and as one of many; `MAX_ROOMS` channels at most."""
    granted = dict(personal)
    others = []
    for channel in shared:
        had = granted.get(channel.id)
        also = _as_one_of_many(channel, reader)
        if also is None:
            continue
        if had is not None:
            granted[channel.id] = Grant(max(had.right, also.right), min(had.since, also.since))
        else:
            others.append((channel.created_at, channel.id, also))
    others.sort(key=lambda one: one[:2], reverse=True)
    granted.update((c, also) for _, c, also in others[: max(0, MAX_ROOMS - len(granted))])
    return granted


def _as_one_of_many(channel: OpenChannel, reader: Reader) -> Grant | None:
    right, since = channel.roles.get(reader.role, (None, None))
    shown = (channel.id, "", False, None, channel.created_at, channel.public_since)
    if right is None and channel.public_since is None:
        return None
    return grant(Found(*shown, None, None, right, since), reader)


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
_OPEN = (Channel.id, Channel.created_at, Channel.public_since)
_MEMBER = (ChannelMember.right, ChannelMember.since)
