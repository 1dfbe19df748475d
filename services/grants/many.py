"""Reads the grants of many users with a constant number of queries.

For users who join at the same time, and who read the history then. The results are what
`queries.personal_grants` and `queries.grants_in` give for each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import peewee

from models.channel import Channel, ChannelMember
from services.grants.personal import both, found_of
from services.grants.queries import (
    CHANNEL_COLUMNS,
    MEMBER_COLUMNS,
    grants_from,
    personal_grants,
    readers_of,
    roles_of_many,
)
from services.grants.rules import MAX_ROOMS, Found, Grant, Reader, grant

MAX_ROWS = 10_000
"""Rows of one query. Users with more between them are counted first, and read in several parts."""


def personal_grants_of_many(
    db: peewee.Database, readers: Sequence[Reader]
) -> dict[str, dict[str, Grant]]:
    """The personal grants of users, by user id.

    Args:
        readers: users who exist. Administrators cost queries of their own: they may read every
            channel.
    """
    found = {reader.id: personal_grants(db, reader.id)[1] for reader in _administrators(readers)}
    others = [reader for reader in readers if reader.id not in found]
    ids = list({reader.id for reader in others})
    owned = _owned(db, ids)
    member = None if owned is None else _member_of(db, ids)
    if owned is None or member is None:
        for part in _parts(others, _rows_of(db, ids)):
            if len(part) > 1:
                found |= personal_grants_of_many(db, part)
            else:  # up to `MAX_ROOMS`, however many there are
                found[part[0].id] = personal_grants(db, part[0].id)[1]
        return found
    for reader in others:
        own, joined = owned.get(reader.id, []), member.get(reader.id, [])
        found[reader.id] = grants_from(both(own[:MAX_ROOMS], joined[:MAX_ROOMS]), reader)
    return found


def _rows_of(db: peewee.Database, user_ids: list[str]) -> Counter[str]:
    """How many rows there are for each user: of channels that they own, and of memberships."""
    counted: Counter[str] = Counter()
    for column in (Channel.owner, ChannelMember.user):
        query: Any = (
            column.model.select(column, peewee.fn.COUNT(column)).where(column.in_(user_ids))
        ).group_by(column)
        counted.update(dict(query.tuples().execute(db)))
    return counted


def _parts(readers: Sequence[Reader], rows: Mapping[str, int]) -> Iterator[list[Reader]]:
    """Readers who are read together: with no more than `MAX_ROWS` between them, or one alone."""
    part: list[Reader] = []
    size = 0
    for reader in sorted(readers, key=lambda each: rows.get(each.id, 0)):
        count = rows.get(reader.id, 0)
        if part and (size + count > MAX_ROWS or count > MAX_ROOMS):
            yield part
            part, size = [], 0
        part.append(reader)
        size += count
    if part:
        yield part


def grants_of_pairs(db: peewee.Database, asked: Sequence[tuple[str, str]]) -> list[Grant | None]:
    """The right of a user in a channel, for each pair of their ids, in this order; None if the user
    has none. Four queries, however many are asked.

    Args:
        asked: half as many as a query may have parameters for.
    """
    user_ids, channel_ids = list({pair[0] for pair in asked}), list({pair[1] for pair in asked})
    channels: Any = Channel.select(*CHANNEL_COLUMNS).where(Channel.id.in_(channel_ids))
    members: Any = ChannelMember.select(
        ChannelMember.user, ChannelMember.channel, *MEMBER_COLUMNS
    ).where(_is_one_of(asked))
    known = {row[0]: tuple(row) for row in channels.tuples().execute(db)}
    rights = {(row[0], row[1]): tuple(row[2:]) for row in members.tuples().execute(db)}
    readers, roles = readers_of(db, user_ids), roles_of_many(db, channel_ids)
    found: list[Grant | None] = []
    for user_id, channel_id in asked:
        reader, channel = readers.get(user_id), known.get(channel_id)
        if reader is None or channel is None:
            found.append(None)
            continue
        member = rights.get((user_id, channel_id), (None, None))
        role = roles.get(channel_id, {}).get(reader.role, (None, None))
        found.append(grant(Found._make((*channel, *member, *role)), reader))
    return found


def _is_one_of(pairs: Sequence[tuple[str, str]]) -> Any:
    """The condition that a membership is of one of these users and channels: not of each user in
    each channel, which may be 62,500 rows."""
    one = peewee.Tuple(ChannelMember.user, ChannelMember.channel)
    return one.in_(peewee.ValuesList(set(pairs)))


def _administrators(readers: Iterable[Reader]) -> list[Reader]:
    return [reader for reader in readers if reader.role == "admin"]


def _owned(db: peewee.Database, user_ids: list[str]) -> dict[str, list[Found]] | None:
    """The channels that users own, newest first; None if there are too many."""
    own_row = (ChannelMember.channel == Channel.id) & (ChannelMember.user == Channel.owner)
    query: Any = (
        Channel.select(Channel.owner, *CHANNEL_COLUMNS, *MEMBER_COLUMNS)
        .join(ChannelMember, peewee.JOIN.LEFT_OUTER, on=own_row)
        .where(Channel.owner.in_(user_ids))
        .order_by(Channel.created_at.desc(), Channel.id.desc())
    )
    return _by_user(db, query)


def _member_of(db: peewee.Database, user_ids: list[str]) -> dict[str, list[Found]] | None:
    """The channels that users are members of, oldest membership first; None if too many."""
    query: Any = (
        ChannelMember.select(ChannelMember.user, *CHANNEL_COLUMNS, *MEMBER_COLUMNS)
        .join(Channel)
        .where(ChannelMember.user.in_(user_ids))
        .order_by(ChannelMember.since, Channel.id)
    )
    return _by_user(db, query)


def _by_user(db: peewee.Database, query: Any) -> dict[str, list[Found]] | None:
    rows = list(query.limit(MAX_ROWS + 1).tuples().execute(db))
    if len(rows) > MAX_ROWS:
        return None
    by_user: dict[str, list[Found]] = {}
    for user_id, *columns in rows:
        by_user.setdefault(user_id, []).append(found_of(columns))
    return by_user
