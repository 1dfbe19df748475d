"""Who is in a room, on every node.

Each node says in Redis who of a room is on it (a sorted set per room, scored by the end of a
lease) and tells the other nodes in passing. Each node with a member holds the whole picture of
that room, so asking costs nothing; now and then it is compared with Redis, which heals lost
messages and lets the people of a dead node go when their lease ends.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

import msgspec

from services.errors import StoreUnavailable
from services.protocol import Member, encode_event
from services.rooms import USER, Rooms
from services.session_pool import LEASE_MS, LEASE_SECONDS, RENEW_SECONDS
from services.store import Command, Store

HERE_SECONDS = LEASE_SECONDS - RENEW_SECONDS
"""Lease of an entry. The others look once in `RENEW_SECONDS`: who was on a dead node is gone for
them, too, within the 30 s of the contract."""
PEOPLE_AT_ONCE = 500
"""In one notice: ten thousand would be half a megabyte, and close whoever reads slowly."""
QUICKEST_SECONDS = 0.05
NOTICES_PER_SECOND = 5000
"""Presence frames a room may cost a node: a room of 10,000 gets news every two seconds."""
ROOMS_AT_ONCE = 200
PASSING = b"h"


class Here(msgspec.Struct, frozen=True, array_like=True):
    """One user on one node, as it lies in Redis."""

    user_id: str
    node: str
    name: str


class Change(msgspec.Struct, frozen=True, array_like=True):
    """What nodes tell each other in passing."""

    here: Here
    came: bool


class PresenceChange(msgspec.Struct, frozen=True):
    """The event `presence`: who came into a room and who left it."""

    room: str
    joined: list[Member]
    left: list[Member]


_HERE, _CHANGE = msgspec.json.Decoder(Here), msgspec.json.Decoder(Change)


def presence_key(room: str) -> str:
    """Who is in a room, on which node, until when."""
    return f"usher:{{{room}}}:here"


class _Picture:
    """One room's people as this node knows them."""

    __slots__ = ("complete", "entries", "looks", "notice", "own", "shown")

    def __init__(self) -> None:
        self.own: dict[str, int] = {}
        """This node's users: how many sockets each."""
        self.entries: dict[tuple[str, str], Here] = {}
        """By user and node."""
        self.shown: dict[str, Member] = {}
        """What the members were last told."""
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
        self._store, self._rooms, self._node, self._clock = store, rooms, node, clock
        self._pictures: dict[str, _Picture] = {}
        self._looks: set[asyncio.Task[None]] = set()
        rooms.on_passing(PASSING, self._heard)

    # ---- this node's people ----------------------------------------------------------------

    def came(self, room: str, member: Member) -> None:
        """A socket of a user entered a room here."""
        if room.startswith(USER):
            return
        picture = self._pictures.get(room)
        if picture is None:
            picture = self._pictures[room] = _Picture()
            self._look_soon(room)
        sockets = picture.own[member.id] = picture.own.get(member.id, 0) + 1
        if sockets == 1:
            here = Here(member.id, self._node, member.name)
            self._store.call(*self._writing(room, [here]))
            self._tell(room, picture, Change(here, came=True))

    def went(self, room: str, member: Member) -> None:
        """A socket of a user left a room here."""
        picture = self._pictures.get(room)
        if picture is None or member.id not in picture.own:
            return
        picture.own[member.id] -= 1
        if picture.own[member.id]:
            return
        del picture.own[member.id]
        # As it was written: the same user may have come by another name since.
        here = picture.entries[member.id, self._node]
        self._store.call(("ZREM", presence_key(room), msgspec.json.encode(here)))
        self._tell(room, picture, Change(here, came=False))
        if not picture.own:  # nobody here wants to know any more
            del self._pictures[room]
            if picture.notice is not None:
                picture.notice.cancel()

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
        here = {here.user_id: here for here in await self._found(room)}
        return [Member(user_id, each.name) for user_id, each in here.items()]

    # ---- telling ---------------------------------------------------------------------------

    def _tell(self, room: str, picture: _Picture, change: Change) -> None:
        self._apply(room, picture, change)
        self._rooms.send_passing(room, PASSING, msgspec.json.encode(change))

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
        more = len(joined) + len(left) > PEOPLE_AT_ONCE
        joined, left = joined[:PEOPLE_AT_ONCE], left[: max(0, PEOPLE_AT_ONCE - len(joined))]
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
            for room in rooms[start : start + ROOMS_AT_ONCE]:
                if (picture := self._pictures.get(room)) is not None:
                    own = [h for h in picture.entries.values() if h.node == self._node]
                    if own:
                        self._store.call(*self._writing(room, own))
            await asyncio.gather(*map(self._look, rooms[start : start + ROOMS_AT_ONCE]))

    def _writing(self, room: str, people: Iterable[Here]) -> tuple[Command, ...]:
        key, end = presence_key(room), self._clock() + HERE_SECONDS
        scored = (part for here in people for part in (end, msgspec.json.encode(here)))
        return ("ZADD", key, *scored), ("PEXPIRE", key, LEASE_MS)

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
            found = {(h.user_id, h.node): h for h in await self._found(room)}
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

    async def _found(self, room: str) -> list[Here]:
        key, now = presence_key(room), self._clock()
        _, found = await self._store.call(
            ("ZREMRANGEBYSCORE", key, "-inf", now), ("ZRANGEBYSCORE", key, now, "+inf")
        )
        return [here for entry in found if (here := _read(entry)) is not None]


def _read(entry: bytes) -> Here | None:
    try:
        return _HERE.decode(entry)
    except msgspec.DecodeError:
        return None  # of a node of another version
