"""Reads and writes rows of channels within a transaction, and describes channels to clients."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec
import peewee

from models.channel import Channel, ChannelMember, ChannelRole
from models.user import User
from services.claims import Role
from services.errors import BadRequest, Forbidden, NotFound
from services.grants.queries import find_channels, readable_by, reader_of, roles_of
from services.grants.rules import BACKEND, Found, Grant, Right, RightName, grant
from services.storage.row_locks import locked_one
from services.storage.text_search import contains

MAX_MEMBERS_PAGE = 1000
"""Members that one call lists."""
_CURSOR = re.compile(r"([0-9]{1,12}\.[0-9]{1,9})~([A-Za-z0-9_-]{1,64})", re.ASCII)


class ChannelItem(msgspec.Struct, frozen=True, kw_only=True):
    """A channel, as shown to a user who may read it.

    Attributes:
        owner_id: None once the owner's account is deleted.
        right: the caller's right.
        created_at: epoch seconds.
        step_up: its room is entered only with a fresh proof of who the user is.
    """

    id: str
    name: str
    private: bool
    owner_id: str | None
    right: RightName
    created_at: float
    step_up: bool = False


class Membership(msgspec.Struct, frozen=True):
    """A member of a channel. `since`: when the member was added, epoch seconds."""

    id: str
    name: str
    right: RightName
    since: float


class ChannelDetails(ChannelItem, frozen=True, kw_only=True):
    """A channel, with its members and roles if the caller manages it.

    Attributes:
        members: at most 1,000, by id; the owner is not among them.
        members_next: pass it as `members_after` for the next page; absent on the last page.
        roles: the right of each role listed. Administrators manage every channel anyway.
    """

    members: list[Membership] | msgspec.UnsetType = msgspec.UNSET
    members_next: str | msgspec.UnsetType = msgspec.UNSET
    roles: dict[Role, RightName] | msgspec.UnsetType = msgspec.UNSET


# ---- reading -------------------------------------------------------------------------------


def older_than(cursor: str) -> Any:
    """The condition that a channel comes after a page's cursor; "" for the first page.

    Raises:
        BadRequest: the cursor is malformed.
    """
    if not cursor:
        return Channel.id.is_null(False)
    match = _CURSOR.fullmatch(cursor)
    if match is None:
        raise BadRequest("channels: cursor", detail="after: as `next` of the page before")
    at = float(match[1])
    same_moment = (Channel.created_at == at) & (Channel.id < match[2])
    return (Channel.created_at < at) | same_moment


def cursor_of(item: ChannelItem) -> str:
    """The cursor of the page that follows this channel."""
    return f"{item.created_at!r}~{item.id}"


def list_channels(
    db: peewee.Database, user_id: str, condition: Any, limit: int, words: str = ""
) -> list[ChannelItem]:
    """Channels that meet a condition and that a user may read, newest first.

    Args:
        words: only channels with this in their name.
    """
    if words:
        condition &= contains(db, Channel.name, words)
    reader = reader_of(db, user_id)
    if reader is None:
        return []
    rows = find_channels(db, reader, readable_by(reader) & condition, limit)
    granted = ((row, grant(row, reader)) for row in rows)
    return [ChannelItem(**_shown(row, had.right)) for row, had in granted if had is not None]


def readable(db: peewee.Database, user_id: str, channel_id: str) -> tuple[Found, Grant]:
    """A channel that a user may read, and the user's right.

    Raises:
        NotFound: the channel does not exist, or this user may not read it; both look the same.
    """
    reader = reader_of(db, user_id)
    rows = find_channels(db, reader, Channel.id == channel_id, 1) if reader else []
    had = grant(rows[0], reader) if reader and rows else None
    if had is None:
        raise NotFound("no such channel, or no right to read it")
    return rows[0], had


def details(
    db: peewee.Database, channel: Found, right: Right, members_after: str = ""
) -> ChannelDetails:
    """A channel, as shown to a user with this right."""
    shown = _shown(channel, right)
    if right < Right.MANAGE:
        return ChannelDetails(**shown)
    members = list_members(db, channel.id, members_after)
    here = members[:MAX_MEMBERS_PAGE]
    more = len(members) > MAX_MEMBERS_PAGE
    roles: Any = {role: word for role, (word, _) in roles_of(db, channel.id).items()}
    return ChannelDetails(
        **shown,
        members=here,
        members_next=here[-1].id if more else msgspec.UNSET,
        roles=roles,
    )


def _shown(channel: Found, right: Right) -> dict[str, Any]:
    return {
        "id": channel.id,
        "name": channel.name,
        "private": channel.private,
        "owner_id": channel.owner_id,
        "right": right.word,
        "created_at": channel.created_at,
        "step_up": channel.step_up,
    }


def list_members(db: peewee.Database, channel_id: str, after: str) -> list[Membership]:
    """Members after `after`, by id: one more than a page holds, to detect the last page."""
    query: Any = (
        ChannelMember.select(
            ChannelMember.user, User.name, ChannelMember.right, ChannelMember.since
        )
        .join(User)
        .where((ChannelMember.channel == channel_id) & (ChannelMember.user > after))
        .order_by(ChannelMember.user)
        .limit(MAX_MEMBERS_PAGE + 1)
    )
    return [Membership(*row) for row in query.tuples().execute(db)]


# ---- changing ------------------------------------------------------------------------------


def lock_for(db: peewee.Database, user_id: str, channel_id: str, needed: Right) -> Found:
    """A channel that a user may change, locked until the commit, so that changes are serialised.

    The right is read under the lock, so a user who lost it in the previous change is refused.

    Raises:
        NotFound: as `readable`.
        Forbidden: the user may read the channel, but not change it.
    """
    locked_one(Channel.select(Channel.id).where(Channel.id == channel_id), db)
    channel, had = readable(db, user_id, channel_id)
    if had.right < needed:
        raise Forbidden("the channel may be read but not managed")
    return channel


def set_roles(
    db: peewee.Database, channel_id: str, roles: Mapping[Role, RightName], now: float
) -> bool:
    """Set the roles that may enter. Returns whether anything changed.

    A role that remains keeps its `since`, even if its right changes.
    """
    before = {role: word for role, (word, _) in roles_of(db, channel_id).items()}
    here = ChannelRole.channel == channel_id
    for role in before.keys() - roles.keys():
        ChannelRole.delete().where(here & (ChannelRole.role == role)).execute(db)
    for role, word in roles.items():
        if role not in before:
            row = {"channel": channel_id, "role": role, "right": word, "since": now}
            ChannelRole.insert(row).execute(db)
        elif before[role] != word:
            same = here & (ChannelRole.role == role)
            ChannelRole.update({ChannelRole.right: word}).where(same).execute(db)
    return before != dict(roles)


def is_member(db: peewee.Database, channel_id: str, user_id: str) -> bool:
    """Whether a user is already a member."""
    here = (ChannelMember.channel == channel_id) & (ChannelMember.user == user_id)
    return bool(ChannelMember.select().where(here).exists(db))


def set_member(
    db: peewee.Database, channel_id: str, user_id: str, right: Right, now: float, added_by: str
) -> tuple[Membership, bool]:
    """Add a member, or change a member's right.

    Returns:
        The member, and whether anything changed.

    Raises:
        NotFound: the user does not exist.
        peewee.IntegrityError: the user is being deleted concurrently.
    """
    user = User.select(User.name).where(User.id == user_id).get_or_none(db)
    if user is None:
        raise NotFound("no such account")
    here = (ChannelMember.channel == channel_id) & (ChannelMember.user == user_id)
    row = ChannelMember.select().where(here).get_or_none(db)
    if row is None:
        values = {"channel": channel_id, "user": user_id, "right": right.word, "since": now}
        giver = None if added_by == BACKEND else added_by
        ChannelMember.insert(values | {"added_by": giver}).execute(db)
    elif row.right != right.word:
        ChannelMember.update({ChannelMember.right: right.word}).where(here).execute(db)
    since = now if row is None else row.since
    changed = row is None or row.right != right.word
    return Membership(user_id, user.name, right.word, since), changed
