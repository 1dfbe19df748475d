"""Channels that are open to a role or to everybody, held in memory by each node.

Channels that a user owns or is a member of are read per user and stored in the login cache. Open
channels are the same for all users, so each node reads a change once instead of at every join. Only
the newest of each kind are held; others can be joined by name.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from services.errors import Unavailable
from services.grants.queries import open_channel, open_channels
from services.grants.rules import MAX_ROOMS, Grant, OpenChannel, Reader, merge
from services.storage.database import Database


class SharedGrants:
    """The open channels, as known to this node.

    Args:
        life: seconds that the login cache may hold the grants of a deleted channel.
    """

    def __init__(
        self, database: Database, life: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._database, self._life, self._clock = database, life, clock
        self._open: dict[str, OpenChannel] = {}
        self._gone: dict[str, float] = {}
        self._guarded: dict[str, tuple[bool, float]] = {}
        """Whether a channel asks for a step-up, where that changed lately, and when it did."""
        self._full = False
        self.version = 0
        """Increases before each look-up: results of earlier look-ups may be stale."""

    async def load(self) -> None:
        """Read all open channels. Call it before the first join.

        Raises:
            DatabaseUnavailable: the database cannot be read.
        """
        self._take(await self._database.run(open_channels))

    async def refresh(self, channel_id: str) -> bool:
        """Read one channel again after a change.

        Returns:
            Whether the change may affect any user: the channel was or is open, or was not known
            for a while.

        Raises:
            Unavailable: the channel cannot be read. Until then, it admits no user.
        """
        self.version += 1
        before = channel_id in self._open or channel_id in self._gone
        try:
            found = await self._database.run(open_channel, channel_id)
            if self._full and channel_id in self._open and (found is None or not found.is_open):
                self._take(await self._database.run(open_channels))  # the next one moves up
        except Unavailable:
            self._forget(channel_id)
            raise
        if found is None:
            self._forget(channel_id)
            return before
        self._gone.pop(channel_id, None)
        self._note_guard(channel_id, found.step_up)
        if found.is_open:
            self._open[channel_id] = found
        else:
            self._open.pop(channel_id, None)
        return before or found.is_open

    def merged(self, reader: Reader, personal: Mapping[str, Grant]) -> dict[str, Grant]:
        """Merge a user's personal grants with open channels, up to `MAX_ROOMS`; personal first."""
        if not (self._open or self._gone or self._guarded):
            return dict(personal)
        own = {c: had for c, had in personal.items() if c not in self._gone}
        for channel_id in self._guarded.keys() & own.keys():
            had = own[channel_id]
            own[channel_id] = Grant(had.right, had.since, self._guarded[channel_id][0])
        return merge(reader, own, self._open.values())

    def _take(self, found: dict[str, OpenChannel]) -> None:
        self._open = found
        self._full = len(found) >= MAX_ROOMS

    def _note_guard(self, channel_id: str, step_up: bool) -> None:
        """Remember it for as long as the login cache may contain the earlier state."""
        now = self._clock()
        self._guarded = {c: on for c, on in self._guarded.items() if on[1] > now - self._life}
        if step_up or channel_id in self._guarded:
            self._guarded[channel_id] = step_up, now

    def _forget(self, channel_id: str) -> None:
        now = self._clock()
        self._open.pop(channel_id, None)
        self._gone = {c: at for c, at in self._gone.items() if at > now - self._life}
        self._gone[channel_id] = now
