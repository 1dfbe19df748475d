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
from services.rooms.rooms import USER, Rooms
from services.sockets.room_index import Entry, Here, RoomIndex
from services.sockets.session_pool import RENEW_BATCH
from services.websocket.protocol import Member, encode_event, encode_json

PEOPLE_AT_ONCE = 500
"""In one notice: ten thousand would be half a megabyte, and close whoever reads slowly."""
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
    came: bool


class PresenceChange(msgspec.Struct, frozen=True):
    """The event `presence`: who came into a room and who left it."""

    room: str
    joined: list[Member]
    left: list[Member]


def as_fit(people: list[Member], most: int, size: int = PEOPLE_BYTES) -> tuple[list[Member], int]:
    """The first people, `most` of them and in so many bytes of JSON; and what is left of these."""
    for count, member in enumerate(people[:most]):
        needs = len(encode_json(member)) + 1
        if needs > size:
            return people[:count], 0
        size -= needs
    return people[:most], size


_CHANGE = msgspec.json.Decoder(Change)


class _Picture:
    """One room's people as this node knows them."""

    __slots__ = ("complete", "counts", "entries", "looks", "notice", "own", "shown")

    def __init__(self) -> None:
        self.own: dict[str, Member] = {}
        """This node's sockets: whose each is."""
        self.counts: dict[str, int] = {}
        """This node's users: how many sockets each."""
        self.entries: dict[tuple[str, str], Here] = {}
        """By user and node."""
        self.shown: dict[str, Member] = {}
        """The presence that members were last notified of."""
        self.notice: asyncio.TimerHandle | None = None
        self.complete = False
        """Whether Redis was ever asked who else is there."""
        self.looks: list[set[tuple[str, str]]] = []
        """Of every question that is under way: what has changed since it was asked."""

    def people(self) -> dict[str, Member]:
        return {h.user_id: Member(h.user_id, h.name) for h in self.entries.values()}


class Presence:
    """Presence in the rooms of this node. A room of one user (`user:…`) has none.

    Args:
        node: id of this process.
    """

    def __init__(
        self, store: Store, rooms: Rooms, node: str, clock: Callable[[], float] = time.time
    ) -> None:
        self._index, self._rooms, self._node = RoomIndex(store, clock), rooms, node
        self._pictures: dict[str, _Picture] = {}
        self._looks: set[asyncio.Task[None]] = set()
        rooms.on_ephemeral(EPHEMERAL, self._heard)

    # ---- this node's people ----------------------------------------------------------------

    def came(self, room: str, member: Member, session_id: str) -> None:
        """A socket of a user entered a room here."""
        if room.startswith(USER):
            return
        picture = self._pictures.get(room)
        if picture is None:
            picture = self._pictures[room] = _Picture()
            self._look_soon(room)
        picture.own[session_id] = member
        self._index.write(room, [self._entry(session_id, member)])
        sockets = picture.counts[member.id] = picture.counts.get(member.id, 0) + 1
        if sockets == 1:
            here = Here(member.id, self._node, member.name)
            self._tell(room, picture, Change(here, came=True))

    def went(self, room: str, session_id: str) -> None:
        """A socket of a user left a room here."""
        picture = self._pictures.get(room)
        member = None if picture is None else picture.own.pop(session_id, None)
        if picture is None or member is None:
            return
        self._index.remove(room, self._entry(session_id, member))
        picture.counts[member.id] -= 1
        if picture.counts[member.id]:
            return
        del picture.counts[member.id]
        here = Here(member.id, self._node, member.name)
        self._tell(room, picture, Change(here, came=False))
        if not picture.own:  # nobody here wants to know any more
            del self._pictures[room]
            if picture.notice is not None:
                picture.notice.cancel()

    def _entry(self, session_id: str, member: Member) -> Entry:
        return Entry(member.id, self._node, member.name, session_id)

    async def people(self, room: str) -> list[Member]:
        """Who is in a room, on every node.

        Raises:
            StoreUnavailable: it was not known before, and Redis is away.
        """
        picture = self._pictures.get(room)
        if picture is not None and not picture.complete:
            await self._look(room)  # somebody has only just come in here
            picture = self._pictures.get(room)
        if picture is not None:
            return list(picture.people().values())
        here = {entry.user_id: entry for entry in await self._index.read(room)}
        return [Member(user_id, each.name) for user_id, each in here.items()]

    # ---- telling ---------------------------------------------------------------------------

    def _tell(self, room: str, picture: _Picture, change: Change) -> None:
        self._apply(room, picture, change)
        self._rooms.send_ephemeral(room, EPHEMERAL, msgspec.json.encode(change))

    def _heard(self, room: str, body: bytes) -> None:
        picture = self._pictures.get(room)
        if picture is None:
            return
        try:
            change = _CHANGE.decode(body)
        except msgspec.DecodeError:
            return  # a node of another version; Redis tells who is there
        if change.here.node != self._node:
            self._apply(room, picture, change)

    def _apply(self, room: str, picture: _Picture, change: Change) -> None:
        key = change.here.user_id, change.here.node
        if change.came:
            picture.entries[key] = change.here
        else:
            picture.entries.pop(key, None)
        for changed in picture.looks:
            changed.add(key)
        self._notice_soon(room, picture)

    def _notice_soon(self, room: str, picture: _Picture) -> None:
        """Gather changes: a thousand people coming at once must not be a thousand frames each."""
        if picture.notice is None:
            members = len(self._rooms.members(room))
            delay = max(QUICKEST_SECONDS, members / NOTICES_PER_SECOND)
            loop = asyncio.get_running_loop()
            picture.notice = loop.call_later(delay, self._notice, room, picture)

    def _notice(self, room: str, picture: _Picture) -> None:
        picture.notice = None
        shown, now = picture.shown, picture.people()
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
            self._notice_soon(room, picture)

    # ---- leases ----------------------------------------------------------------------------

    async def renew(self) -> None:
        """Renew this node's entries and look at everybody else's. To be called every few seconds.

        Raises:
            StoreUnavailable: Redis is away; who is known stays known.
        """
        rooms = list(self._pictures)
        for start in range(0, len(rooms), ROOMS_AT_ONCE):
            await asyncio.gather(*map(self._renew, rooms[start : start + ROOMS_AT_ONCE]))

    async def _renew(self, room: str) -> None:
        picture = self._pictures.get(room)
        if picture is None:
            return
        # Drawn batch by batch: who leaves meanwhile must not come back.
        waiting = (
            self._entry(session_id, member)
            for session_id, member in tuple(picture.own.items())
            if session_id in picture.own
        )
        while batch := list(islice(waiting, RENEW_BATCH)):
            written = self._index.write(room, batch)
            if len(batch) == RENEW_BATCH:
                await written  # else on its way together with the look
        await self._look(room)

    def _look_soon(self, room: str) -> None:
        task = asyncio.get_running_loop().create_task(self._look_quietly(room))
        self._looks.add(task)
        task.add_done_callback(self._looks.discard)

    async def _look_quietly(self, room: str) -> None:
        with suppress(StoreUnavailable):  # the next renewal looks again
            await self._look(room)

    async def _look(self, room: str) -> None:
        """Make the picture of a room what Redis says, but for this node's own people and for
        what was told after Redis was asked."""
        picture = self._pictures.get(room)
        if picture is None:
            return
        changed = set[tuple[str, str]]()
        picture.looks.append(changed)
        try:
            found = {(h.user_id, h.node): h for h in await self._index.read(room)}
        finally:
            picture.looks.remove(changed)
        kept = {
            key: here
            for key, here in picture.entries.items()
            if here.node == self._node or key in changed
        }
        others = {
            key: here
            for key, here in found.items()
            if here.node != self._node and key not in changed
        }
        picture.entries, picture.complete = kept | others, True
        if self._pictures.get(room) is picture:
            self._notice_soon(room, picture)
