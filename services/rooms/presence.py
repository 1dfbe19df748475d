"""Presence: who is in a room, on all nodes.

Each node records in Redis which sockets of a room it has (room_index.py), and notifies the other
nodes of joins and leaves with ephemeral messages. Each node with a member holds the full presence
of that room, so reading it costs nothing. It is compared with Redis periodically, which corrects
lost messages and removes the sockets of a dead node when their lease ends.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import islice

import msgspec

from services.errors import StoreUnavailable
from services.redis.store import Store
from services.rooms.room_names import USER
from services.rooms.rooms import Rooms
from services.sockets.room_index import Entry, Here, RoomIndex
from services.sockets.session_pool import RENEW_BATCH
from services.websocket.protocol import Member, encode_event, encode_json

PEOPLE_AT_ONCE = 500
"""Users in one notification: ten thousand would take half a megabyte and close slow readers."""
PEOPLE_BYTES = 63 * 1024
"""Of people in one frame: with what is around them it has 64 KiB, which many clients read."""
QUICKEST_SECONDS = 0.05
NOTICES_PER_SECOND = 5000
"""Presence frames of a room on a node: a room of 10,000 gets one every two seconds."""
ROOMS_AT_ONCE = 200
EPHEMERAL = b"h"


class Change(msgspec.Struct, frozen=True, array_like=True):
    """An ephemeral message between nodes: who joined and left."""

    here: Here
    on_enter: bool


class PresenceChange(msgspec.Struct, frozen=True):
    """The event `presence`: the users who entered and left a room."""

    room: str
    joined: list[Member]
    left: list[Member]


def as_fit(people: list[Member], most: int, size: int = PEOPLE_BYTES) -> tuple[list[Member], int]:
    """The first users, at most `most` and at most this many bytes of JSON; and the bytes left."""
    for count, member in enumerate(people[:most]):
        needs = len(encode_json(member)) + 1
        if needs > size:
            return people[:count], 0
        size -= needs
    return people[:most], size


_CHANGE = msgspec.json.Decoder(Change)


class _RoomPresence:
    """The users present in one room, as far as this node knows."""

    __slots__ = ("complete", "counts", "entries", "own", "pending_notification", "reads", "shown")

    def __init__(self) -> None:
        self.own: dict[str, Member] = {}
        """The user of each of this node's sockets."""
        self.counts: dict[str, int] = {}
        """The number of this node's sockets, by user id."""
        self.entries: dict[tuple[str, str], Here] = {}
        """By user and node, of the other nodes."""
        self.shown: dict[str, Member] = {}
        """The presence that members were last notified of."""
        self.pending_notification: asyncio.TimerHandle | None = None
        self.complete = False
        """Whether presence was read from Redis at least once."""
        self.reads: list[set[tuple[str, str]]] = []
        """For each read in progress: the entries that changed since it was issued."""

    def people(self) -> dict[str, Member]:
        # The same objects as in `own`: what is shown of them takes no memory of its own.
        people = {member.id: member for member in self.own.values()}
        for here in self.entries.values():
            if here.user_id not in people:
                people[here.user_id] = Member(here.user_id, here.name)
        return people


class Presence:
    """Presence in the rooms of this node. A user's own room (`user:…`) has none.

    Args:
        node: the id of this process.
    """

    def __init__(
        self, store: Store, rooms: Rooms, node: str, clock: Callable[[], float] = time.time
    ) -> None:
        self._index, self._rooms, self._node = RoomIndex(store, clock), rooms, node
        self._presence: dict[str, _RoomPresence] = {}
        self._looks: set[asyncio.Task[None]] = set()
        rooms.on_ephemeral(EPHEMERAL, self._on_change)

    # ---- sockets of this node --------------------------------------------------------------

    def on_enter(self, room: str, member: Member, session_id: str) -> None:
        """A socket of a user entered a room here."""
        if room.startswith(USER):
            return
        presence = self._presence.get(room)
        if presence is None:
            presence = self._presence[room] = _RoomPresence()
            self._read_soon(room)
        presence.own[session_id] = member
        self._index.write(room, [self._entry(session_id, member)])
        sockets = presence.counts[member.id] = presence.counts.get(member.id, 0) + 1
        if sockets == 1:
            here = Here(member.id, self._node, member.name)
            self._publish(room, presence, Change(here, on_enter=True))

    def on_leave(self, room: str, session_id: str) -> None:
        """A socket of a user left a room here."""
        presence = self._presence.get(room)
        member = None if presence is None else presence.own.pop(session_id, None)
        if presence is None or member is None:
            return
        self._index.remove(room, self._entry(session_id, member))
        presence.counts[member.id] -= 1
        if presence.counts[member.id]:
            return
        del presence.counts[member.id]
        here = Here(member.id, self._node, member.name)
        self._publish(room, presence, Change(here, on_enter=False))
        if not presence.own:  # no socket of this node is in the room any more
            del self._presence[room]
            if presence.pending_notification is not None:
                presence.pending_notification.cancel()

    def renamed(self, room: str, member: Member, session_id: str) -> None:
        """The user of a socket in a room here has a new name. Members are not notified; `presence`
        requests return it."""
        presence = self._presence.get(room)
        before = None if presence is None else presence.own.get(session_id)
        if presence is None or before is None or before == member:
            return
        presence.own[session_id] = member
        self._index.remove(room, self._entry(session_id, before))
        self._index.write(room, [self._entry(session_id, member)])
        here = Here(member.id, self._node, member.name)
        self._publish(room, presence, Change(here, on_enter=True))

    def _entry(self, session_id: str, member: Member) -> Entry:
        return Entry(member.id, self._node, member.name, session_id)

    async def people(self, room: str) -> list[Member]:
        """The users in a room, on all nodes.

        Raises:
            StoreUnavailable: presence has not been read yet, and Redis is unavailable.
        """
        presence = self._presence.get(room)
        if presence is not None and not presence.complete:
            await self._read(room)  # the first socket has just entered on this node
            presence = self._presence.get(room)
        if presence is not None:
            return list(presence.people().values())
        here = {entry.user_id: entry for entry in await self._index.read(room)}
        return [Member(user_id, each.name) for user_id, each in here.items()]

    # ---- notifications ---------------------------------------------------------------------

    def _publish(self, room: str, presence: _RoomPresence, change: Change) -> None:
        self._notify_soon(room, presence)
        self._rooms.send_ephemeral(room, EPHEMERAL, msgspec.json.encode(change))

    def _on_change(self, room: str, body: bytes) -> None:
        presence = self._presence.get(room)
        if presence is None:
            return
        try:
            change = _CHANGE.decode(body)
        except msgspec.DecodeError:
            return  # a node of another version; the next comparison with Redis corrects this
        if change.here.node != self._node:
            self._apply(room, presence, change)

    def _apply(self, room: str, presence: _RoomPresence, change: Change) -> None:
        key = change.here.user_id, change.here.node
        if change.on_enter:
            presence.entries[key] = change.here
        else:
            presence.entries.pop(key, None)
        for changed in presence.reads:
            changed.add(key)
        self._notify_soon(room, presence)

    def _notify_soon(self, room: str, presence: _RoomPresence) -> None:
        """Batch changes, so that a thousand users who enter at once do not cause a thousand frames
        for each socket."""
        if presence.pending_notification is None:
            members = len(self._rooms.members(room))
            delay = max(QUICKEST_SECONDS, members / NOTICES_PER_SECOND)
            loop = asyncio.get_running_loop()
            presence.pending_notification = loop.call_later(delay, self._notify, room, presence)

    def _notify(self, room: str, presence: _RoomPresence) -> None:
        presence.pending_notification = None
        shown, now = presence.shown, presence.people()
        joined = [member for user_id, member in now.items() if user_id not in shown]
        left = [member for user_id, member in shown.items() if user_id not in now]
        changes = len(joined) + len(left)
        joined, size = as_fit(joined, PEOPLE_AT_ONCE)
        left, _ = as_fit(left, PEOPLE_AT_ONCE - len(joined), size)
        more = len(joined) + len(left) < changes
        shown.update((member.id, member) for member in joined)
        for member in left:
            del shown[member.id]
        if joined or left:
            event = PresenceChange(room, joined, left)
            self._rooms.send_here(room, encode_event("presence", event))
        if more:
            self._notify_soon(room, presence)

    # ---- leases ----------------------------------------------------------------------------

    async def renew(self) -> None:
        """Renew this node's entries and read those of the others. Call it every few seconds.

        Raises:
            StoreUnavailable: Redis is unavailable; the known presence is kept.
        """
        rooms = list(self._presence)
        for start in range(0, len(rooms), ROOMS_AT_ONCE):
            await asyncio.gather(*map(self._renew, rooms[start : start + ROOMS_AT_ONCE]))

    async def _renew(self, room: str) -> None:
        presence = self._presence.get(room)
        if presence is None:
            return
        # Read batch by batch: a user who leaves meanwhile must not be added again.
        waiting = (
            self._entry(session_id, member)
            for session_id, member in tuple(presence.own.items())
            if session_id in presence.own
        )
        while batch := list(islice(waiting, RENEW_BATCH)):
            written = self._index.write(room, batch)
            if len(batch) == RENEW_BATCH:
                await written  # else on its way together with the look
        await self._read(room)

    def _read_soon(self, room: str) -> None:
        task = asyncio.get_running_loop().create_task(self._read_quietly(room))
        self._looks.add(task)
        task.add_done_callback(self._looks.discard)

    async def _read_quietly(self, room: str) -> None:
        with suppress(StoreUnavailable):  # the next renewal reads again
            await self._read(room)

    async def _read(self, room: str) -> None:
        """Update a room's presence from Redis, except for this node's own sockets and changes
        received after the read was issued."""
        presence = self._presence.get(room)
        if presence is None:
            return
        changed = set[tuple[str, str]]()
        presence.reads.append(changed)
        try:
            found = {(h.user_id, h.node): h for h in await self._index.read(room)}
        finally:
            presence.reads.remove(changed)
        kept = {key: here for key, here in presence.entries.items() if key in changed}
        others = {
            key: here
            for key, here in found.items()
            if here.node != self._node and key not in changed
        }
        presence.entries, presence.complete = kept | others, True
        if self._presence.get(room) is presence:
            self._notify_soon(room, presence)
