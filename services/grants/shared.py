"""Channels that are open to a role or to everybody, held in memory by each node.

Channels that a user owns or is a member of are read per user and stored in the login cache. Open
channels are the same for all users, so each node reads a change once instead of at every join.
Sockets join a bounded number of them by themselves (open_channels.py); others can be joined by
name. What others open does not move a socket out of a room that it is in.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from collections.abc import Set as AbstractSet

import peewee

from services.errors import Unavailable
from services.grants.open_channels import (
    MAX_HELD,
    ROLES,
    Joined,
    joined_by_roles,
    open_channels,
    read_change,
)
from services.grants.rules import ADMINISTRATORS, Grant, OpenChannel, Reader, merge
from services.storage.database import Database

DEFAULT_MOST = 50
_NONE = Joined()


class SharedGrants:
    """The open channels, as known to this node.

    Args:
        life: seconds that the login cache may hold the grants of a deleted channel.
        most: channels opened by users that a socket joins by itself.
    """

    def __init__(
        self,
        database: Database,
        life: float,
        clock: Callable[[], float] = time.time,
        most: int = DEFAULT_MOST,
    ) -> None:
        self._database, self._life, self._clock = database, life, clock
        self._most = most
        self._open: dict[str, OpenChannel] = {}
        self._joined: dict[str, Joined] = {}
        """By role."""
        self._gone: dict[str, float] = {}
        self._guarded: dict[str, tuple[bool, float]] = {}
        """Whether a channel asks for a step-up, where that changed lately, and when it did."""
        self.version = 0
        """Increases before each look-up: results of earlier look-ups may be stale."""

    async def load(self) -> None:
        """Read all open channels. Call it before the first join.

        Raises:
            DatabaseUnavailable: the database cannot be read.
        """

        def read(db: peewee.Database) -> tuple[dict[str, OpenChannel], dict[str, Joined]]:
            return open_channels(db), joined_by_roles(db, self._most)

        self._open, self._joined = await self._database.run(read)

    async def refresh(self, channel_id: str) -> AbstractSet[str]:
        """Read one channel again after a change. Call it for one change after the other.

        Returns:
            The roles of which the change may affect any user: their sockets join or joined the
            channel by themselves, or it was not known for a while. Other users are affected only
            if they have a right in the channel already.

        Raises:
            Unavailable: the channel cannot be read. Until then, it admits no user.
        """
        self.version += 1
        before = ROLES if channel_id in self._gone else self._roles_that_join(channel_id)
        try:
            found, joined = await self._database.run(
                read_change, channel_id, self._joined, self._most
            )
        except Unavailable:
            self._forget(channel_id)
            raise
        if joined is not None:
            self._joined = joined
        if found is None:
            self._forget(channel_id)
            return before
        self._gone.pop(channel_id, None)
        self._note_guard(channel_id, found.step_up)
        if not found.is_open:
            self._open.pop(channel_id, None)
        elif channel_id in self._open or len(self._open) < MAX_HELD:
            self._open[channel_id] = found
        return before | self._roles_that_join(channel_id)

    def joined_by(self, role: str, inside: Collection[str] = ()) -> list[str]:
        """The open channels that a socket of a role joins by itself, in this order.

        Args:
            inside: channels that it has not left, if it has joined already: they take places.
        """
        places = self._most - sum(map(self._is_of_a_user, inside))
        found = []
        for channel_id, channel in self._joined.get(role, _NONE).channels.items():
            if channel.opened_by != ADMINISTRATORS and channel_id not in inside:
                if places <= 0:
                    continue
                places -= 1
            found.append(channel_id)
        return found

    def has_place(self, channel_id: str, inside: Collection[str]) -> bool:
        """Whether a socket that has not left these channels joins another one that is opened now.
        Otherwise, opening and closing them in turn would gather any number in one socket."""
        opened = self._open.get(channel_id)
        if opened is None or opened.opened_by == ADMINISTRATORS or len(inside) < self._most:
            return True
        return sum(map(self._is_of_a_user, inside)) < self._most

    def _is_of_a_user(self, channel_id: str) -> bool:
        opened = self._open.get(channel_id)
        return opened is not None and opened.opened_by != ADMINISTRATORS

    def merged(self, reader: Reader, personal: Mapping[str, Grant]) -> dict[str, Grant]:
        """Merge a user's personal grants with the open channels that are joined, up to
        `MAX_ROOMS`; personal first."""
        if not (self._open or self._gone or self._guarded):
            return dict(personal)
        own = {c: had for c, had in personal.items() if c not in self._gone}
        for channel_id in self._guarded.keys() & own.keys():
            had = own[channel_id]
            own[channel_id] = Grant(had.right, had.since, self._guarded[channel_id][0])
        joined = self._joined.get(reader.role, _NONE).channels
        return merge(reader, own, self._open, joined)

    def _roles_that_join(self, channel_id: str) -> AbstractSet[str]:
        return frozenset(role for role, has in self._joined.items() if channel_id in has.channels)

    def _note_guard(self, channel_id: str, step_up: bool) -> None:
        """Remember it for as long as the login cache may contain the earlier state."""
        now = self._clock()
        self._guarded = {c: on for c, on in self._guarded.items() if on[1] > now - self._life}
        if step_up or channel_id in self._guarded:
            self._guarded[channel_id] = step_up, now

    def _forget(self, channel_id: str) -> None:
        now = self._clock()
        self._open.pop(channel_id, None)
        for role in self._roles_that_join(channel_id):
            channels = self._joined[role].channels
            others = {c: had for c, had in channels.items() if c != channel_id}
            self._joined[role] = Joined(others)  # with room for more: read at the next change
        self._gone = {c: at for c, at in self._gone.items() if at > now - self._life}
        self._gone[channel_id] = now
