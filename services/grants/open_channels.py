"""Reads the channels that are open to a role or to everybody, and which of them sockets join.

Every user can open channels, and a join costs more with each that the socket enters. So sockets
join by themselves what administrators and backends have opened, and a bounded number of the others:
the first one of each share, then the second ones, and so on, the oldest first within a round. Many
accounts displace only what has a later turn, and nothing of administrators. The order depends on
rows that a user cannot choose and that do not change while a channel is open, so all nodes agree.

All functions here are plain Peewee code, for use within a transaction (`Database.run`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, get_args

import peewee

from models.channel import Channel, ChannelRole
from services.claims import Role
from services.grants.queries import roles_of_many
from services.grants.rules import ADMINISTRATORS, MAX_ROOMS, OpenChannel

ROLES: frozenset[str] = frozenset(get_args(Role))
MAX_HELD = 10_000
"""Open channels whose rights a node holds. In a channel beyond this number, a member has no more
than the member's right until `join-channels` or `join`."""

Place = tuple[int, float, str]
"""When a channel has its turn: its number among the open ones of its share, when it was created,
and its id."""


class Joined(NamedTuple):
    """The open channels that the sockets of one role join by themselves.

    Attributes:
        channels: by id, in the order in which they are joined.
        last: the place of the last one, if the users' channels have no room for more.
    """

    channels: Mapping[str, OpenChannel] = {}
    last: Place | None = None


class Change(NamedTuple):
    """What was read after a change of one channel.

    Attributes:
        channel: None if it does not exist.
        joined: by role; None if the change does not affect what is joined.
    """

    channel: OpenChannel | None
    joined: dict[str, Joined] | None


def open_channels(db: peewee.Database) -> dict[str, OpenChannel]:
    """The newest open channels, up to `MAX_HELD`, by id."""
    query: Any = (
        Channel.select(*_COLUMNS)
        .where(Channel.opened_by.is_null(False))
        .order_by(Channel.created_at.desc(), Channel.id.desc())
        .limit(MAX_HELD)
    )
    rows = list(query.tuples().execute(db))
    return {channel.id: channel for channel in _with_roles(db, rows) if channel.is_open}


def joined_by_roles(db: peewee.Database, most: int) -> dict[str, Joined]:
    """What sockets join by themselves, by role.

    Args:
        most: channels that users have opened; what administrators have opened comes before them.
    """
    return {role: _joined_by(db, role, most) for role in ROLES}


def read_change(
    db: peewee.Database, channel_id: str, joined: Mapping[str, Joined], most: int
) -> Change:
    """Read one channel after a change, and what is joined if the change affects it.

    Args:
        joined: what was joined before.
    """
    query: Any = Channel.select(*_COLUMNS).where(Channel.id == channel_id)
    found = next(iter(_with_roles(db, list(query.tuples().execute(db)))), None)
    affects = any(
        channel_id in joined[role].channels or _has_a_turn(db, found, role, joined[role], most)
        for role in ROLES
    )
    return Change(found, joined_by_roles(db, most) if affects else None)


def _has_a_turn(
    db: peewee.Database, channel: OpenChannel | None, role: str, joined: Joined, most: int
) -> bool:
    """Whether a channel comes before the last one that is joined. If it does not, the others of its
    share do not either: it changes only the turns after its own."""
    if channel is None or channel.opened_by is None or not _is_open_to(channel, role):
        return False
    if channel.opened_by == ADMINISTRATORS:
        return True
    if joined.last is None or most == 0:
        return most > 0
    at, channel_id = channel.created_at, channel.id
    older = (Channel.created_at < at) | ((Channel.created_at == at) & (Channel.id < channel_id))
    before = (Channel.opened_by == channel.opened_by) & older & _open_to(role)
    turn = Channel.select().where(before).count(db) + 1
    return (turn, at, channel_id) < joined.last


def _joined_by(db: peewee.Database, role: str, most: int) -> Joined:
    oldest = (Channel.created_at, Channel.id)
    first: Any = (
        Channel.select(*_COLUMNS)
        .where((Channel.opened_by == ADMINISTRATORS) & _open_to(role))
        .order_by(*oldest)
        .limit(MAX_ROOMS)
    )
    turn = peewee.fn.ROW_NUMBER().over(partition_by=[Channel.opened_by], order_by=[*oldest])
    others: Any = (
        Channel.select(*_COLUMNS, turn.alias("turn"))
        .where((Channel.opened_by != ADMINISTRATORS) & _open_to(role))
        .order_by(peewee.SQL("turn"), *oldest)
        .limit(min(most, MAX_ROOMS))
    )
    rows = list(others.tuples().execute(db))
    found = {c.id: c for c in _with_roles(db, [*first.tuples().execute(db), *rows])}
    last: Place | None = None
    if rows and len(rows) >= min(most, MAX_ROOMS):
        last = rows[-1][-1], rows[-1][1], rows[-1][0]
    return Joined(found, last)


def _open_to(role: str) -> Any:
    """The condition that a channel, which is open to anybody, is open to a role. Administrators
    read every channel."""
    admitted = ChannelRole.channel == Channel.id
    if role != "admin":
        admitted &= ChannelRole.role == role
    by_role = peewee.fn.EXISTS(ChannelRole.select(ChannelRole.channel).where(admitted))
    return Channel.public_since.is_null(False) | by_role


def _is_open_to(channel: OpenChannel, role: str) -> bool:
    return channel.is_open and (
        channel.public_since is not None or role == "admin" or role in channel.roles
    )


def _with_roles(db: peewee.Database, rows: list[Any]) -> list[OpenChannel]:
    roles = roles_of_many(db, [row[0] for row in rows])
    return [
        OpenChannel(i, created_at, public_since, roles.get(i, {}), step_up, opened_by)
        for i, created_at, public_since, step_up, opened_by, *_ in rows
    ]


_COLUMNS = (
    Channel.id,
    Channel.created_at,
    Channel.public_since,
    Channel.step_up,
    Channel.opened_by,
)
