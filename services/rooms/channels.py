"""Channels: anybody can create them, and users with the right `manage` administer them.

Changes of one channel run one after the other, and each checks then whether the caller may make
it. A change of rights writes a row of kind "access" in the same transaction. The nodes act upon it
after the commit, as they do on revocations.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec
import peewee

from models.channel import Channel, ChannelMember
from services.accounts.display_names import checked_text
from services.claims import Role
from services.errors import NotFound, OwnerStays, Unauthenticated
from services.grants.queries import USERS_AT_ONCE, grants_among, grants_in, grants_of
from services.grants.rules import BACKEND, Found, Grant, Right, RightName
from services.outbox import (
    NO_OUTBOX,
    ChannelChange,
    ChannelEvent,
    EventMember,
    Outbox,
    OutgoingEvent,
    channel_subject,
)
from services.rooms.channel_rows import (
    ChannelDetails,
    ChannelItem,
    Membership,
    cursor_of,
    details,
    is_member,
    list_channels,
    lock_for,
    older_than,
    readable,
    set_member,
    set_roles,
)
from services.rooms.shares import UNLIMITED, Shares, check_new_channel, check_new_member
from services.sessions.control import Revocation
from services.sessions.revocations import Revocations
from services.storage.database import Database

__all__ = ["EVERYBODY", "MAX_PAGE", "Channels", "Grant", "Right"]

MAX_NAME_LENGTH = 80
MAX_PAGE = 100
"""Channels that one call lists."""
EVERYBODY = "*"
"""In an "access" row: anybody's right may have changed."""


class Channels:
    """Which channels there are, and who may do what in them.

    Methods for one channel raise NotFound also where the caller may not read it: a stranger
    cannot tell a private channel from none. Forbidden: it may be read, but not managed.
    """

    def __init__(
        self,
        database: Database,
        revocations: Revocations,
        clock: Callable[[], float] = time.time,
        shares: Shares = UNLIMITED,
        outbox: Outbox = NO_OUTBOX,
    ) -> None:
        self._outbox = outbox
        self._shares = shares
        self._database, self._revocations, self._clock = database, revocations, clock

    # ---- who may -----------------------------------------------------------------------------

    async def grants_of(self, user_id: str) -> dict[str, Grant]:
        """Every channel that a user may read; see `grants_of` for the bound.

        Raises:
            DatabaseUnavailable: the database can't be asked.
        """
        return await self._database.run(grants_of, user_id)

    async def grants_in(self, channel_id: str, user_ids: Iterable[str]) -> dict[str, Grant]:
        """The rights of these users in a channel; who has none is left out.

        Raises:
            DatabaseUnavailable: the database can't be asked.
        """
        ids, granted = list(dict.fromkeys(user_ids)), dict[str, Grant]()
        # Many short transactions: SQLite has one at a time, and each has its own time limit.
        for start in range(0, len(ids), USERS_AT_ONCE):
            some = ids[start : start + USERS_AT_ONCE]
            granted |= await self._database.run(grants_in, channel_id, some)
        return granted

    async def grants_among(self, user_id: str, channel_ids: Iterable[str]) -> dict[str, Grant]:
        """What a user may do in these channels; those that may not be read are left out.

        Raises:
            DatabaseUnavailable: the database can't be asked.
        """
        return await self._database.run(grants_among, user_id, list(channel_ids))

    # ---- reading -----------------------------------------------------------------------------

    async def page(
        self, user_id: str, after: str, limit: int
    ) -> tuple[list[ChannelItem], str | None]:
        """Channels that a user may read, newest first, and where the next page begins.

        Args:
            after: where the page before said that this one begins; "" for the first.

        Raises:
            BadRequest: `after` is nothing that a page gave.
        """
        # One more than asked for tells whether this is the last page.
        items = await self._database.run(list_channels, user_id, older_than(after), limit + 1)
        page = items[:limit]
        return page, cursor_of(page[-1]) if len(items) > limit else None

    async def get(self, user_id: str, channel_id: str, members_after: str = "") -> ChannelDetails:
        """One channel. Members and roles are shown to who manages it.

        Raises:
            NotFound: see the class.
        """

        def read(db: peewee.Database) -> ChannelDetails:
            channel, had = readable(db, user_id, channel_id)
            return details(db, channel, had.right, members_after)

        return await self._database.run(read)

    # ---- changing ----------------------------------------------------------------------------

    async def create(self, owner_id: str | None, name: str, private: bool = True) -> ChannelItem:
        """Open a channel.

        Args:
            owner_id: who opens it, or who made the API key that does; None: it is nobody's.

        Raises:
            BadRequest: the name can't be one.
            Unauthenticated: the account is gone.
            TooManyChannels: the caller owns as many as one may.
        """
        now = self._clock()
        opened = ChannelItem(
            id=secrets.token_urlsafe(16),
            name=checked_text(name, "name", MAX_NAME_LENGTH),
            private=private,
            owner_id=owner_id,
            right="manage",
            created_at=now,
        )

        def insert(db: peewee.Database) -> list[Revocation]:
            if owner_id is not None:
                check_new_channel(db, self._shares, owner_id)
            Channel.insert(
                id=opened.id,
                name=opened.name,
                private=private,
                owner=owner_id,
                created_at=now,
                public_since=None if private else now,
            ).execute(db)
            self._tell(db, opened, "created")
            whose = [] if owner_id is None else [owner_id]
            if not private:
                whose.append(EVERYBODY)
            return [self._record(db, opened.id, who, "channel_opened") for who in whose]

        try:
            changed = await self._database.run(insert)
        except peewee.IntegrityError as error:
            raise Unauthenticated("channel: its owner's account is gone") from error
        await self._revocations.publish(changed)
        return opened

    async def update(
        self,
        user_id: str,
        channel_id: str,
        *,
        name: str | None = None,
        private: bool | None = None,
        roles: Mapping[Role, RightName] | None = None,
    ) -> ChannelDetails:
        """Rename a channel, open or close it to everybody, or say which roles may enter.

        Args:
            roles: all of them; one that is left out loses its right.

        Returns:
            The channel as the caller left it, who may have lost the right to it by that.

        Raises:
            BadRequest: the name can't be one.
            NotFound, Forbidden: see the class.
        """
        shown = None if name is None else checked_text(name, "name", MAX_NAME_LENGTH)

        def change(db: peewee.Database) -> tuple[ChannelDetails, list[Revocation]]:
            channel = lock_for(db, user_id, channel_id, Right.MANAGE)
            now = self._clock()
            changes: dict[str, Any] = {} if shown is None else {"name": shown}
            turned = private is not None and private != channel.private
            if turned:
                changes |= {"private": private, "public_since": None if private else now}
            if changes:
                Channel.update(changes).where(Channel.id == channel_id).execute(db)
            others = roles is not None and set_roles(db, channel_id, roles, now)
            now_is = channel._replace(**changes)
            after = details(db, now_is, Right.MANAGE)
            if changes or others:
                self._tell(db, now_is, "updated")
            if not (turned or others):
                return after, []
            return after, [self._record(db, channel_id, EVERYBODY, "channel_changed")]

        after, changed = await self._database.run(change)
        await self._revocations.publish(changed)
        return after

    async def delete(self, user_id: str, channel_id: str) -> None:
        """Delete a channel.

        Raises:
            NotFound, Forbidden: see the class.
        """

        def delete(db: peewee.Database) -> list[Revocation]:
            channel = lock_for(db, user_id, channel_id, Right.MANAGE)
            Channel.delete().where(Channel.id == channel_id).execute(db)
            self._tell(db, channel, "deleted")
            return [self._record(db, channel_id, EVERYBODY, "channel_deleted")]

        await self._revocations.publish(await self._database.run(delete))

    # ---- members -----------------------------------------------------------------------------

    async def put_member(
        self, caller_id: str, channel_id: str, user_id: str, right: Right = Right.WRITE
    ) -> Membership:
        """Let a user in, or give a member another right.

        Raises:
            NotFound, Forbidden: see the class; NotFound also for an unknown user.
            OwnerStays: the user owns the channel.
            TooManyChannels: the caller has let this user, or all, into as many as one may.
        """

        def put(db: peewee.Database) -> tuple[Membership, list[Revocation]]:
            channel = lock_for(db, caller_id, channel_id, Right.MANAGE)
            if channel.owner_id == user_id:
                raise OwnerStays("the owner needs no member's right")
            if caller_id != BACKEND and not is_member(db, channel_id, user_id):
                check_new_member(db, self._shares, caller_id, user_id)
            now = self._clock()
            member, other = set_member(db, channel_id, user_id, right, now, caller_id)
            if not other:
                return member, []
            self._tell(db, channel, "member_set", EventMember(user_id, right.word))
            return member, [self._record(db, channel_id, user_id, "member_changed")]

        try:
            member, changed = await self._database.run(put)
        except peewee.IntegrityError as error:
            raise NotFound("the account was deleted meanwhile") from error
        await self._revocations.publish(changed)
        return member

    async def remove_member(self, caller_id: str, channel_id: str, user_id: str) -> None:
        """Take a member's right away; a member may leave without managing the channel.

        Raises:
            NotFound, Forbidden: see the class; NotFound also for who is no member.
            OwnerStays: the user owns the channel.
        """
        leaves = caller_id == user_id
        needed = Right.READ if leaves else Right.MANAGE
        here = (ChannelMember.channel == channel_id) & (ChannelMember.user == user_id)

        def remove(db: peewee.Database) -> list[Revocation]:
            channel = lock_for(db, caller_id, channel_id, needed)
            if channel.owner_id == user_id:
                raise OwnerStays("the owner can't be removed")
            if not ChannelMember.delete().where(here).execute(db):
                raise NotFound("no such member")
            reason: ChannelChange = "member_left" if leaves else "member_removed"
            self._tell(db, channel, reason, EventMember(user_id))
            return [self._record(db, channel_id, user_id, reason)]

        await self._revocations.publish(await self._database.run(remove))

    def _record(
        self, db: peewee.Database, channel_id: str, user_id: str, reason: str
    ) -> Revocation:
        return self._revocations.record(db, "access", channel_id, user_id, reason)

    def _tell(
        self,
        db: peewee.Database,
        channel: Found | ChannelItem,
        change: ChannelChange,
        member: EventMember | msgspec.UnsetType = msgspec.UNSET,
    ) -> None:
        """Write an event about a channel, as it is now, or was before it went."""
        data = ChannelEvent(
            channel.id, channel.name, channel.private, channel.owner_id, change, member
        )
        event = OutgoingEvent("channel.changed", channel_subject(channel.id), data)
        self._outbox.add(db, [event])
