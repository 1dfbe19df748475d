"""The rooms of this node: their members, and delivery of messages to them.

A room is subscribed on the bus from its first local member to its last. An incoming message is
encoded once, and the same bytes are sent to every member. Logged messages arrive in the order of
the room's log. After a gap in the subscription, missed_messages.py reads the log.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable, Collection, Iterable
from contextlib import suppress

from services.bus.bus import MAX_NUMBER, Bus, LoggedMessage
from services.errors import StoreUnavailable
from services.event_loop.loop_watch import never_stalled
from services.rooms.local_room import LocalRoom, RoomMember
from services.rooms.missed_messages import MissedMessages
from services.rooms.room_names import CHANNEL, channel_room
from services.sessions.control import CONTROL_ROOM
from services.websocket.frames import Perishable, encode_text

FLUSH_BYTES = 64 * 1024
"""Gathered for a room at most, in one iteration of the loop."""


class Rooms:
    """The rooms of this node. It is the listener of the bus.

    Args:
        as_event: returns the text of the event for a logged message.
        as_gap: returns the text of the event that reports lost messages of a room.
        stalled: checked before a room's messages are sent, see `WebSocketConnection`.
        proof_clock: the clock of `Freshness`.
    """

    def __init__(
        self,
        bus: Bus,
        as_event: Callable[[LoggedMessage], bytes],
        clock: Callable[[], float] = time.time,
        stalled: Callable[[], bool] = never_stalled,
        as_gap: Callable[[str], bytes] | None = None,
        proof_clock: Callable[[], float] = time.time,
    ) -> None:
        self._stalled, self.proof_clock = stalled, proof_clock
        self._bus, self._as_event, self.clock = bus, as_event, clock
        self._rooms: dict[str, LocalRoom] = {}
        self.channels = 0
        """How many of them are channels."""
        self._missed = MissedMessages(
            bus,
            as_event,
            as_gap,
            self._deliver,
            self._flush,
            self._send_to,
            lambda name, room: self._rooms.get(name) is room,
            clock,
        )
        self._on_control: Callable[[bytes], None] | None = None
        self._on_ephemeral: dict[bytes, Callable[[str, bytes], None]] = {b"e": self._relay}
        bus.listen(self)

    # ---- other uses of the bus -------------------------------------------------------------

    async def receive_from_nodes(self, on_message: Callable[[bytes], None]) -> None:
        """Subscribe to the room of messages between nodes, now or once Redis is available."""
        self._on_control = on_message
        await self.wait_subscribed(self.subscribe((CONTROL_ROOM,)))
        with suppress(StoreUnavailable):  # the log's clock, not ours: it is compared with ids
            here = self._rooms[CONTROL_ROOM]
            behind_all = f"{MAX_NUMBER}-{MAX_NUMBER}"
            window = await self._bus.read_behind(CONTROL_ROOM, behind_all, 1)
            here.since = min(here.since, window.now)

    async def read_missed_from_nodes(self) -> bool:
        """Read messages between nodes that the subscription did not deliver.

        Returns:
            False if messages may be lost, because the log has no entry for the last one received.

        Raises:
            StoreUnavailable: the log cannot be read.
        """
        here = self._rooms[CONTROL_ROOM]
        complete = True
        if here.last != (0, 0):
            last = f"{here.last[0]}-{here.last[1]}"
            complete = (await self._bus.read(CONTROL_ROOM, last, 1)).complete
        await self._missed.read(CONTROL_ROOM, here)
        return complete

    def on_ephemeral(self, kind: bytes, act: Callable[[str, bytes], None]) -> None:
        """Register the receiver of ephemeral messages of a kind (one byte)."""
        self._on_ephemeral[kind] = act

    # ---- membership ------------------------------------------------------------------------

    def subscribe(self, names: Iterable[str]) -> list[asyncio.Future[None]]:
        """Subscribe to rooms before a socket enters them, so that no later message is missed.

        Every name must be released with `unsubscribe`.

        Returns:
            The subscriptions that are not confirmed yet, for `wait_subscribed`.
        """
        fresh: list[asyncio.Future[None]] = []
        for name in names:
            room = self._rooms.get(name)
            if room is None:
                room = self._rooms[name] = LocalRoom(name, self.clock(), self._bus.epoch)
                self.channels += name.startswith(CHANNEL)
            room.held += 1
            subscribed = self._bus.subscribe(name)
            if subscribed is not None:
                fresh.append(subscribed)
        return fresh

    async def wait_subscribed(self, held: Collection[asyncio.Future[None]]) -> None:
        """Wait until rooms are subscribed or the connection is lost: joins work without Redis.

        It needs no timeout, because the bus closes an unresponsive connection by itself.
        """
        for future in held:
            if not future.done():
                await asyncio.shield(future)  # others wait for it too

    def unsubscribe(self, names: Iterable[str]) -> None:
        """Release rooms that were subscribed."""
        for name in names:
            if (room := self._rooms.get(name)) is not None:
                room.held -= 1
                self._forget_if_empty(name, room)

    def enter(self, member: RoomMember, name: str, at: float | None = None) -> str:
        """Add a socket to a room that is subscribed for it.

        Args:
            at: when, by this node's clock, if it is known: rooms entered at once share it.

        Returns:
            The name, in a string that all members of the room share.
        """
        room = self._rooms[name]
        self._flush(room)  # earlier messages must not reach the new member
        room.members.setdefault(member, self.clock() if at is None else at)
        return room.name

    def shared_id(self, channel_id: str) -> str:
        """The id of a channel, while its room is subscribed in a string that all members share.
        Not `sys.intern`: CPython 3.12 never frees what was interned, and anybody can make channels.
        """
        room = self._rooms.get(channel_room(channel_id))
        return channel_id if room is None else room.channel_id

    def leave(self, member: RoomMember, name: str) -> None:
        """Remove a socket from a room."""
        room = self._rooms.get(name)
        if room is None or member not in room.members:
            return
        self._flush(room)
        room.members.pop(member, None)
        self._unguard(room, member)
        self._forget_if_empty(name, room)

    def guard(self, member: RoomMember, name: str, ends_at: float | None) -> None:
        """Let nothing of a room out to one of its members from a moment on.

        Args:
            ends_at: by `proof_clock`; None for no such moment.
        """
        room = self._rooms.get(name)
        if room is None or member not in room.members:
            return
        if ends_at is None:
            self._unguard(room, member)
            return
        if room.until is None:
            room.until = {}
        room.until[member] = ends_at

    @staticmethod
    def _unguard(room: LocalRoom, member: RoomMember) -> None:
        if room.until is not None:
            room.until.pop(member, None)
            if not room.until:
                room.until = None

    def members(self, name: str) -> list[RoomMember]:
        """The sockets of a room on this node."""
        room = self._rooms.get(name)
        return [] if room is None else list(room.members)

    def names(self) -> list[str]:
        """The rooms that have a member on this node."""
        return [name for name, room in self._rooms.items() if room.members]

    def _forget_if_empty(self, name: str, room: LocalRoom) -> None:
        if not room.members and not room.held:
            del self._rooms[name]
            self.channels -= name.startswith(CHANNEL)
            self._bus.unsubscribe(name)
            if room.catching_up is not None:
                room.catching_up.cancel()

    # ---- publishing ------------------------------------------------------------------------

    def send_frame(self, name: str, text: bytes, but: str = "") -> None:
        """Send a frame's text to every member on every node, except one socket session."""
        self._bus.send(name, b"e%b %b" % (but.encode(), text))

    async def publish(self, name: str, text: bytes) -> None:
        """Send a frame's text to every member on every node.

        Raises:
            StoreUnavailable: it could not be sent to the other nodes.
        """
        await self._bus.send(name, b"e " + text)

    def keep(self, name: str, body: bytes, sender: str) -> Awaitable[str]:
        """Append a message to the room's log and send it to every member on every node. Issued
        when called; the result is an awaitable of the message's id.

        Raises:
            StoreUnavailable: when awaited.
        """
        return self._bus.keep(name, body, sender)

    def send_ephemeral(self, name: str, kind: bytes, body: bytes) -> None:
        """Send an ephemeral message to every node. `kind`: one byte, see `on_ephemeral`."""
        self._bus.send(name, kind + body)

    def send_here(self, name: str, text: bytes) -> None:
        """Send a frame's text to the members on this node."""
        self._to_members(name, encode_text(text))

    # ---- messages from the bus -------------------------------------------------------------

    def logged(self, room: str, message: LoggedMessage) -> None:
        """Deliver a message of the room's log."""
        here = self._rooms.get(room)
        if here is None:
            return
        if here.catching_up is not None:
            self._missed.defer(here, message)  # delivered after the missed messages
        elif message.order > here.last:
            here.last = message.order
            self._deliver(room, message)
        elif not self._bus.in_time:  # else it was delivered already
            self._missed.gap(room, here)

    def ephemeral(self, room: str, body: bytes) -> None:
        """Deliver an ephemeral message."""
        act = self._on_ephemeral.get(body[:1])
        if act is not None:
            act(room, body[1:])

    def gap(self, room: str) -> None:
        """The subscription was interrupted: read the log from where delivery stopped."""
        here = self._rooms.get(room)
        if here is not None:
            self._missed.gap(room, here)

    def _deliver(self, name: str, message: LoggedMessage) -> None:
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
        if but:
            self._flush(room)
            self._stalled()
            for member in tuple(room.members):
                if member.session_id == but:
                    continue
                if room.until is None:
                    member.connection.send_frame(frame)
                else:
                    self._send_to(room, member, frame)
            return
        if room.unsent is None:
            asyncio.get_running_loop().call_soon(self._flush, room)
            room.unsent = []
        room.unsent.append(frame)
        room.unsent_bytes += len(frame)
        if room.unsent_bytes > FLUSH_BYTES:
            self._flush(room)

    def _flush(self, room: LocalRoom) -> None:
        """Send the messages of this iteration of the event loop, with one system call for each
        member instead of one for each message."""
        frames = room.unsent
        if frames is None:
            return
        room.unsent, room.unsent_bytes = None, 0
        self._stalled()
        if room.until is not None:
            for member in tuple(room.members):
                for frame in frames:
                    self._send_to(room, member, frame)
            return
        joined = frames[0] if len(frames) == 1 else b"".join(frames)
        # A copy, because a member that is too slow is closed here and leaves.
        for member in tuple(room.members):
            member.connection.send_frames(frames, joined)

    def _send_to(self, room: LocalRoom, member: RoomMember, frame: bytes) -> None:
        """Send a frame to one member, unless the member's proof is over, or ends before the frame
        leaves."""
        if room.until is None or (ends_at := room.until.get(member)) is None:
            member.connection.send_frame(frame)
        elif self.proof_clock() < ends_at:
            is_over = functools.partial(_is_over, self.proof_clock, ends_at)
            member.connection.send_perishable(Perishable.of(frame, is_over))


def _is_over(clock: Callable[[], float], ends_at: float) -> bool:
    return clock() >= ends_at
