"""Limits on the channels that a user may own and the memberships that a user may give.

They keep one user from filling the channel lists of others, and from making the joins of others
slow: sockets join channels that are open to everybody. Administrators and their API keys
are not limited. All functions are plain Peewee code, for use within a transaction (`Database.run`).
"""

from __future__ import annotations

import sys
from typing import Any

import msgspec
import peewee

from models.channel import Channel, ChannelMember, ChannelRole
from models.user import User
from services.errors import TooManyChannels, Unauthenticated
from services.grants.queries import reader_of
from services.grants.rules import ADMINISTRATORS, BACKEND


class Shares(msgspec.Struct, frozen=True):
    """The limits of one user who is not an administrator.

    Attributes:
        channels: channels owned.
        given: current memberships that the user has given.
        given_to_one: current memberships given to the same user.
        opened: channels owned that are open to everybody or to a role.
    """

    channels: int
    given: int
    given_to_one: int
    opened: int = sys.maxsize


UNLIMITED = Shares(sys.maxsize, sys.maxsize, sys.maxsize)


def check_new_channel(db: peewee.Database, shares: Shares, owner_id: str) -> None:
    """Check that a user may own one more channel. Concurrent checks of one user are serialised.

    Raises:
        TooManyChannels: the limit is reached.
        Unauthenticated: the account is deleted.
    """
    if _is_limited(db, owner_id):
        owned = Channel.select().where(Channel.owner == owner_id)
        _check(owned.count(db), shares.channels, "channels owned")


def check_opened(db: peewee.Database, shares: Shares, owner_id: str, channel_id: str) -> None:
    """Check that a channel of a user may be open to everybody or to a role; one that is already
    open may stay so. Concurrent checks of one user are serialised.

    Args:
        channel_id: the channel, which may not exist yet.

    Raises:
        TooManyChannels: the owner has the maximum number of open channels.
        Unauthenticated: the account is deleted.
    """
    if _is_limited(db, owner_id):
        by_role = ChannelRole.select(ChannelRole.channel)
        is_open = Channel.public_since.is_null(False) | Channel.id.in_(by_role)
        query: Any = Channel.select(Channel.id).where((Channel.owner == owner_id) & is_open)
        opened = {row[0] for row in query.tuples().execute(db)}
        if channel_id not in opened:
            _check(len(opened), shares.opened, "open channels owned")


def note_opened(
    db: peewee.Database,
    channel_id: str,
    owner_id: str | None,
    caller_id: str | None,
    *,
    says_open: bool = False,
) -> bool:
    """Note in whose share a channel counts, after it was created or changed.

    It counts in its owner's, or in that of administrators if one of them or a backend opened it.
    While it is open that stays, unless an administrator opens it to everybody once more.

    Args:
        caller_id: None for a backend.
        says_open: whether the caller says that it is open to everybody.

    Returns:
        Whether that changed.
    """
    query: Any = Channel.select(Channel.public_since, Channel.opened_by)
    public_since, before = query.where(Channel.id == channel_id).tuples().get(db)
    by_role = ChannelRole.select().where(ChannelRole.channel == channel_id)
    now = before
    if public_since is None and not by_role.exists(db):
        now = None
    elif before is None or says_open:
        caller = reader_of(db, BACKEND if caller_id is None else caller_id)
        if caller is not None and caller.role == "admin":
            now = ADMINISTRATORS
        elif before is None:
            now = owner_id or caller_id
    if now != before:
        Channel.update({Channel.opened_by: now}).where(Channel.id == channel_id).execute(db)
    return bool(now != before)


def check_new_member(db: peewee.Database, shares: Shares, giver_id: str, user_id: str) -> None:
    """Check that a user may give one more membership. Concurrent checks are serialised.

    Raises:
        TooManyChannels: the limit is reached, in total or for this member.
        Unauthenticated: the account is deleted.
    """
    if _is_limited(db, giver_id):
        given = ChannelMember.select().where(ChannelMember.added_by == giver_id)
        to_one = given.where(ChannelMember.user == user_id)
        _check(to_one.count(db), shares.given_to_one, "memberships given to one user")
        _check(given.count(db), shares.given, "memberships given")


def _is_limited(db: peewee.Database, user_id: str) -> bool:
    query: Any = User.select(User.role).where(User.id == user_id)
    if db.for_update:
        # Not FOR UPDATE: a foreign key to this user, in a transaction that waits for this one's
        # foreign key to its own user, would be a deadlock.
        query = query.for_update("FOR NO KEY UPDATE")
    user = next(iter(query.execute(db)), None)
    if user is None:
        raise Unauthenticated("channels: the account is gone")
    return bool(user.role != "admin")


def _check(count: int, most: int, what: str) -> None:
    if count >= most:
        raise TooManyChannels(f"{what}: {most}", detail=f"{what}: {most} at most")
