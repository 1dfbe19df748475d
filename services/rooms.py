"""Rooms on this node: who is in them, and what is said in them, written once and sent to all.

A room is heard through the bus from its first member here to its last. What comes in is
encoded once and the same bytes go to every member. Kept messages arrive in the order of the
room's log; after a gap in the line the log is read from where delivery stopped.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable
from typing import Protocol

from services.bus import Bus, Kept
from services.errors import StoreUnavailable
from services.frames import encode_text
from services.wire import Wire

USER, CHANNEL = "user:", "channel:"
CONTROL_ROOM = "nodes"
"""What nodes tell each other; no client's room has this name."""
GAP_PAGE = 200
SUBSCRIBE_SECONDS = 1.0

log = logging.getLogger("usher.rooms")


def user_room(user_id: str) -> str:
    """The room that all sockets of a user share."""
    return USER + user_id


def channel_room(channel_id: str) -> str:
    """The room of a channel."""
    return CHANNEL + channel_id


class RoomMember(Protocol):
    """A socket, as its rooms see it."""

    session_id: str
    wire: Wire


class _Room:
    """One room that is heard here."""

    __slots__ = ("catching_up", "held", "last", "members", "since", "waiting")

    def __init__(self, since: float) -> None:
        self.members: dict[str, RoomMember] = {}
        self.held = 0
        self.last = (0, 0)
        self.since = since
        self.catching_up: asyncio.Task[None] | None = None
        self.waiting: list[Kept] = []


class Rooms:
    """The rooms of this node. Listens to the bus.

    Args:
        as_event: the text of the event that a kept message becomes.
    """

    def __init__(
        self,
        bus: Bus,
        as_event: Callable[[Kept], bytes],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._bus, self._as_event, self._clock = bus, as_event, clock
        self._rooms: dict[str, _Room] = {}
        self._on_control: Callable[[bytes], None] | None = None
        self._on_passing: dict[bytes, Callable[[str, bytes], None]] = {b"e": self._relay}
        bus.listen(self)

    # ---- other parts that use the line -----------------------------------------------------

    async def hear_nodes(self, on_message: Callable[[bytes], None]) -> None:
        """Hear what nodes tell each other. The line may still be down: it is heard then on."""
        self._on_control = on_message
        await self.certain(self.hold((CONTROL_ROOM,)))

    def on_passing(self, kind: bytes, act: Callable[[str, bytes], None]) -> None:
        """Hand passing messages of a kind (one byte) to another part."""
        self._on_passing[kind] = act

    # ---- membership ------------------------------------------------------------------------

    def hold(self, names: Iterable[str]) -> list[asyncio.Future[None]]:
        """Hear rooms before somebody enters them, so that nothing said after is missed.

        Every name that is held must be let go of by `release`. Gives what is not certain yet:
        wait for it with `certain`.
        """
        fresh: list[asyncio.Future[None]] = []
        for name in names:
            room = self._rooms.get(name)
            if room is None:
                room = self._rooms[name] = _Room(self._clock())
            room.held += 1
            subscribed = self._bus.subscribe(name)
            if subscribed is not None:
                fresh.append(subscribed)
        return fresh

    async def certain(self, held: Collection[asyncio.Future[None]]) -> None:
        """Wait until held rooms are heard, but not for long: without Redis one joins too."""
        if held:
            await asyncio.wait(held, timeout=SUBSCRIBE_SECONDS)

    def release(self, names: Iterable[str]) -> None:
        """Let go of rooms that were held."""
        for name in names:
            if (room := self._rooms.get(name)) is not None:
                room.held -= 1
                self._forget_if_empty(name, room)

    def enter(self, member: RoomMember, name: str) -> None:
        """Put a socket into a room that is held for it."""
        self._rooms[name].members[member.session_id] = member

    def leave(self, member: RoomMember, name: str) -> None:
        """Take a socket out of a room."""
        room = self._rooms.get(name)
        if room is not None and room.members.pop(member.session_id, None) is not None:
            self._forget_if_empty(name, room)

    def members(self, name: str) -> list[RoomMember]:
        """The sockets of a room on this node."""
        room = self._rooms.get(name)
        return [] if room is None else list(room.members.values())

    def names(self) -> list[str]:
        """The rooms that have a member here."""
        return [name for name, room in self._rooms.items() if room.members]

    def _forget_if_empty(self, name: str, room: _Room) -> None:
        if not room.members and not room.held:
            del self._rooms[name]
            self._bus.unsubscribe(name)
            if room.catching_up is not None:
                room.catching_up.cancel()

    # ---- saying something ------------------------------------------------------------------

    def send_frame(self, name: str, text: bytes, but: str = "") -> None:
        """Send a frame's text to every member on every node, except one socket session."""
        self._bus.send(name, b"e%b %b" % (but.encode(), text))

    async def publish(self, name: str, text: bytes) -> None:
        """Send a frame's text to every member on every node.

        Raises:
            StoreUnavailable: it could not be sent to the other nodes.
        """
        await self._bus.send(name, b"e " + text)

    def send_passing(self, name: str, kind: bytes, body: bytes) -> None:
        """Send something to the same part on every node. `kind`: one byte, see `on_passing`."""
        self._bus.send(name, kind + body)

    def send_here(self, name: str, text: bytes) -> None:
        """Send a frame's text to the members on this node."""
        self._to_members(name, encode_text(text))

    # ---- what the bus tells ----------------------------------------------------------------

    def kept(self, room: str, message: Kept) -> None:
        """A message of the room's log."""
        here = self._rooms.get(room)
        if here is None:
            return
        if here.catching_up is not None:
            here.waiting.append(message)  # its turn is behind what was missed
        elif message.order > here.last:
            here.last = message.order
            self._deliver(room, message)

    def passing(self, room: str, body: bytes) -> None:
        """Something said in passing."""
        act = self._on_passing.get(body[:1])
        if act is not None:
            act(room, body[1:])

    def gap(self, room: str) -> None:
        """The line was lost for a while: read the log from where delivery stopped."""
        here = self._rooms.get(room)
        if here is not None and here.catching_up is None:
            task = asyncio.get_running_loop().create_task(self._catch_up(room, here))
            here.catching_up = task

    async def _catch_up(self, name: str, room: _Room) -> None:
        try:
            await self._read_missed(name, room)
        except StoreUnavailable:
            log.info("room log not read after a gap; another try with the next line")
        finally:
            waiting, room.waiting, room.catching_up = room.waiting, [], None
            for message in waiting:
                self.kept(name, message)

    async def _read_missed(self, name: str, room: _Room) -> None:
        # Where nothing was delivered yet, what came after the room was first heard counts.
        first = room.last if room.last != (0, 0) else (int(room.since * 1000), 0)
        after = f"{first[0]}-{first[1]}"
        more = True
        while more:
            window = await self._bus.read_behind(name, after, GAP_PAGE)
            for message in window.messages:
                room.last = max(room.last, message.order)
                self._deliver(name, message)
            after = window.messages[-1].id if window.messages else after
            more = window.more

    def _deliver(self, name: str, message: Kept) -> None:
        if name == CONTROL_ROOM:
            if self._on_control is not None:
                self._on_control(message.body)
            return
        self._to_members(name, encode_text(self._as_event(message)))

    def _relay(self, room: str, body: bytes) -> None:
        but, _, text = body.partition(b" ")
        self._to_members(room, encode_text(text), but.decode())

    def _to_members(self, name: str, frame: bytes, but: str = "") -> None:
        room = self._rooms.get(name)
        if room is None:
            return
        # A copy: a member that is too slow is closed by this, and leaves.
        for session_id, member in tuple(room.members.items()):
            if session_id != but:
                member.wire.send_frame(frame)
