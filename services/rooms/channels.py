"""Channels: every user can create them, and users with the right `manage` administer them.

Changes to one channel are serialised, and each checks the caller's right under the lock. A change
of rights writes a row of kind "access" in the same transaction. The nodes apply it after the
commit, as they do with revocations.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import msgspec
import peewee

from models.channel import Channel, ChannelMember
from services.accounts.display_names import checked_text
from services.claims import Role
from services.errors import NotFound, OwnerStays, Unauthenticated
from services.grants.many import grants_of_pairs
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
from services.rooms.room_names import channel_room
from services.rooms.shares import (
    UNLIMITED,
    Shares,
    check_new_channel,
    check_new_member,
    check_opened,
    note_opened,
)
from services.sessions.control import Revocation
from services.sessions.revocations import Revocations
from services.storage.batched_reads import BatchedReads
from services.storage.database import Database

__all__ = ["EVERYBODY", "MAX_PAGE", "Channels", "Grant", "Right"]

MAX_NAME_LENGTH = 80
MAX_PAGE = 100
"""Channels that one call lists."""
EVERYBODY = "*"
"""In an "access" row: the right of any user may have changed."""


class Channels:
    """Creates, reads, changes and deletes channels and their members.

    Methods for one channel raise NotFound if the channel does not exist or the caller may not
    read it, so that a private channel cannot be detected. They raise Forbidden if the caller may
    read the channel but not manage it.
    """

    def __init__(
        self,
        database: Database,
        revocations: Revocations,
        clock: Callable[[], float] = time.time,
        shares: Shares = UNLIMITED,
        outbox: Outbox = NO_OUTBOX,
        forget: Callable[[str, Collection[str]], None] = lambda _room, _senders: None,
    ) -> None:
        self._outbox, self._forget = outbox, forget
        self._shares = shares
        self._database, self._revocations, self._clock = database, revocations, clock
        self._rights = BatchedReads(database, grants_of_pairs, "rights")

    # ---- who may -----------------------------------------------------------------------------

    async def grants_of(self, user_id: str, joined: Iterable[str] = ()) -> dict[str, Grant]:
        """The channels that a user's sockets join by themselves, see `queries.grants_of`.

        Args:
            joined: the open ones among them, if the user may read them.

        Raises:
            DatabaseUnavailable: the database cannot be read.
        """
        return await self._database.run(grants_of, user_id, list(joined))

    async def grants_in(self, channel_id: str, user_ids: Iterable[str]) -> dict[str, Grant]:
        """The rights of these users in a channel, without users who have none.

        Raises:
            DatabaseUnavailable: the database cannot be read.
        """
        ids, granted = list(dict.fromkeys(user_ids)), dict[str, Grant]()
        # Many short transactions: SQLite runs one at a time, and each has its own timeout.
        for start in range(0, len(ids), USERS_AT_ONCE):
            some = ids[start : start + USERS_AT_ONCE]
            granted |= await self._database.run(grants_in, channel_id, some)
        return granted

    async def grant_of(self, user_id: str, channel_id: str) -> Grant | None:
        """A user's right in a channel now; None without one. Many are looked up together.

        Raises:
            DatabaseUnavailable: the database cannot be read.
            Busy: too many wait.
        """
        return await self._rights.of((user_id, channel_id))

    async def close(self) -> None:
        """Stop looking rights up. Those who wait are refused."""
        await self._rights.close()

    async def grants_among(self, user_id: str, channel_ids: Iterable[str]) -> dict[str, Grant]:
        """A user's rights in these channels, without channels that the user may not read.

        Raises:
            DatabaseUnavailable: the database cannot be read.
        """
        return await self._database.run(grants_among, user_id, list(channel_ids))

    # ---- reading -----------------------------------------------------------------------------

    async def page(
        self, user_id: str, after: str, limit: int, words: str = ""
    ) -> tuple[list[ChannelItem], str | None]:
        """A page of the channels that a user may read, newest first, and the next page's cursor.

        Args:
            after: the cursor that the previous page returned; "" for the first page.
            words: only channels with this in their name.

        Raises:
            BadRequest: `after` is not such a cursor.
        """
        # One more than requested shows whether this is the last page.
        wanted = older_than(after)
        items = await self._database.run(list_channels, user_id, wanted, limit + 1, words)
        page = items[:limit]
        return page, cursor_of(page[-1]) if len(items) > limit else None

    async def get(self, user_id: str, channel_id: str, members_after: str = "") -> ChannelDetails:
        """One channel, with its members and roles if the caller manages it.

        Raises:
            NotFound: see the class.
        """

        def read(db: peewee.Database) -> ChannelDetails:
            channel, had = readable(db, user_id, channel_id)
            return details(db, channel, had.right, members_after)

        return await self._database.run(read)

    # ---- changing ----------------------------------------------------------------------------

    async def create(
        self, owner_id: str | None, name: str, private: bool = True, step_up: bool = False
    ) -> ChannelItem:
        """Create a channel.

        Args:
            owner_id: the user who creates it, or who created the API key that does; None for a
                channel without an owner.
            step_up: whether its room needs a fresh proof of who a user is.

        Raises:
            BadRequest: the name is invalid.
            Unauthenticated: the owner's account is deleted.
            TooManyChannels: the owner already has the maximum number of channels, or of open ones.
        """
        now = self._clock()
        opened = ChannelItem(
            id=secrets.token_urlsafe(16),
            name=checked_text(name, "name", MAX_NAME_LENGTH),
            private=private,
            owner_id=owner_id,
            right="manage",
            created_at=now,
            step_up=step_up,
        )

        def insert(db: peewee.Database) -> list[Revocation]:
            if owner_id is not None:
                check_new_channel(db, self._shares, owner_id)
                if not private:
                    check_opened(db, self._shares, owner_id, opened.id)
            Channel.insert(
                id=opened.id,
                name=opened.name,
                private=private,
                owner=owner_id,
                created_at=now,
                public_since=None if private else now,
                step_up=step_up,
            ).execute(db)
            if not private:
                note_opened(db, opened.id, owner_id, owner_id)
            self._write_event(db, opened, "created")
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
        step_up: bool | None = None,
    ) -> ChannelDetails:
        """Rename a channel, make it public or private, set the roles that may enter, or whether
        its room needs a step-up.

        Args:
            roles: the complete list; a role that is not in it loses its right.

        Returns:
            The changed channel, even if the change took away the caller's right to read it.

        Raises:
            BadRequest: the name is invalid.
            NotFound, Forbidden: see the class.
            TooManyChannels: its owner has the maximum number of open channels.
        """
        shown = None if name is None else checked_text(name, "name", MAX_NAME_LENGTH)

        def change(db: peewee.Database) -> tuple[ChannelDetails, list[Revocation]]:
            channel = lock_for(db, user_id, channel_id, Right.MANAGE)
            now = self._clock()
            if (private is False or roles) and channel.owner_id is not None:
                check_opened(db, self._shares, channel.owner_id, channel_id)
            changes: dict[str, Any] = {} if shown is None else {"name": shown}
            turned = private is not None and private != channel.private
            if turned:
                changes |= {"private": private, "public_since": None if private else now}
            if step_up is not None and step_up != channel.step_up:
                changes["step_up"], turned = step_up, True
            if changes:
                Channel.update(changes).where(Channel.id == channel_id).execute(db)
            others = roles is not None and set_roles(db, channel_id, roles, now)
            says_open = private is False
            moved = note_opened(db, channel_id, channel.owner_id, user_id, says_open=says_open)
            now_is = channel._replace(**changes)
            after = details(db, now_is, Right.MANAGE)
            if changes or others:
                self._write_event(db, now_is, "updated")
            if not (turned or others or moved):
                return after, []
            return after, [self._record(db, channel_id, EVERYBODY, "channel_changed")]

        after, changed = await self._database.run(change)
        await self._revocations.publish(changed)
        return after

    async def delete(self, user_id: str, channel_id: str) -> None:
        """Delete a channel, and the history of its room: otherwise one channel after the other
        could fill the memory of Redis.

        Raises:
            NotFound, Forbidden: see the class.
        """
        senders: list[str] = []

        def delete(db: peewee.Database) -> list[Revocation]:
            channel = lock_for(db, user_id, channel_id, Right.MANAGE)
            members: Any = ChannelMember.select(ChannelMember.user).where(
                ChannelMember.channel == channel_id
            )
            senders[:] = [row[0] for row in members.tuples().execute(db)]
            if channel.owner_id is not None:
                senders.append(channel.owner_id)
            Channel.delete().where(Channel.id == channel_id).execute(db)
            self._write_event(db, channel, "deleted")
            return [self._record(db, channel_id, EVERYBODY, "channel_deleted")]

        await self._revocations.publish(await self._database.run(delete))
        self._forget(channel_room(channel_id), senders)

    # ---- members -----------------------------------------------------------------------------

    async def require_manager(self, caller_id: str, channel_id: str) -> None:
        """Check that the caller manages a channel, before anything is looked up for them.

        Raises:
            NotFound, Forbidden: see the class.
        """
        await self._database.run(lock_for, caller_id, channel_id, Right.MANAGE)

    async def put_member(
        self, caller_id: str, channel_id: str, user_id: str, right: Right = Right.WRITE
    ) -> Membership:
        """Add a member, or change a member's right.

        Raises:
            NotFound, Forbidden: see the class; NotFound also for an unknown user.
            OwnerStays: the user owns the channel.
            TooManyChannels: the caller has given the maximum number of memberships, to this user
                or in total.
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
            self._write_event(db, channel, "member_set", EventMember(user_id, right.word))
            return member, [self._record(db, channel_id, user_id, "member_changed")]

        try:
            member, changed = await self._database.run(put)
        except peewee.IntegrityError as error:
            raise NotFound("the account was deleted meanwhile") from error
        await self._revocations.publish(changed)
        return member

    async def remove_member(self, caller_id: str, channel_id: str, user_id: str) -> None:
        """Remove a member. Members may remove themselves without managing the channel.

        Raises:
            NotFound, Forbidden: see the class; NotFound also if the user is not a member.
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
            self._write_event(db, channel, reason, EventMember(user_id))
            return [self._record(db, channel_id, user_id, reason)]

        await self._revocations.publish(await self._database.run(remove))

    def _record(
        self, db: peewee.Database, channel_id: str, user_id: str, reason: str
    ) -> Revocation:
        return self._revocations.record(db, "access", channel_id, user_id, reason)

    def _write_event(
        self,
        db: peewee.Database,
        channel: Found | ChannelItem,
        change: ChannelChange,
        member: EventMember | msgspec.UnsetType = msgspec.UNSET,
    ) -> None:
        """Write an event about a channel, with its current state, or its last one if deleted."""
        data = ChannelEvent(
            channel.id, channel.name, channel.private, channel.owner_id, change, member
        )
        event = OutgoingEvent("channel.changed", channel_subject(channel.id), data)
        self._outbox.add(db, [event])
