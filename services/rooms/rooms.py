"""The rooms of this node: their members, and delivery of messages to them.

A room is subscribed on the bus from its first local member to its last. An incoming message is
encoded once, and the same bytes are sent to every member. Logged messages arrive in the order of
the room's log. After a gap in the subscription, the log is read from where delivery stopped.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Iterable
from contextlib import suppress
from typing import Protocol

import msgspec

from services.bus.bus import MAX_NUMBER, Bus, LoggedMessage, Window
from services.errors import StoreUnavailable
from services.loop_watch import never_stalled
from services.sessions.control import CONTROL_ROOM
from services.websocket.connection import Connection
from services.websocket.frames import encode_text

USER, CHANNEL = "user:", "channel:"
GAP_PAGE = 200
FLUSH_BYTES = 64 * 1024
"""Gathered for a room at most, in one iteration of the loop."""
GAPS_AT_ONCE = 200
"""Logs read at one time after a gap: all rooms at once would leave the store no place for joins."""
GAP_AGAIN_SECONDS = 0.25
MAX_WAITING = 1000
"""Messages that wait in a room behind those that were missed. The log has them, too."""

log = logging.getLogger("usher.rooms")


def user_room(user_id: str) -> str:
    """The room that all sockets of a user share."""
    return USER + user_id


def channel_room(channel_id: str) -> str:
    """The room of a channel."""
    return CHANNEL + channel_id


class RoomMember(Protocol):
    """The interface of a socket that rooms use."""

    session_id: str
    connection: Connection


class _Room:
    """One room that is subscribed on this node."""

    __slots__ = (
        "behind",
        "catching_up",
        "epoch",
        "gap_sent",
        "held",
        "last",
        "lost_at",
        "members",
        "since",
        "unsent",
        "unsent_bytes",
        "waiting",
    )

    def __init__(self, since: float, epoch: str) -> None:
        self.members: dict[RoomMember, float] = {}
        """When each came in, epoch seconds by this node's clock; the last is the newest."""
        self.held = 0
        self.last = self.gap_sent = (0, 0)
        self.since, self.epoch = since, epoch
        self.behind, self.lost_at = False, since
        self.catching_up: asyncio.Task[None] | None = None
        self.waiting: list[LoggedMessage] = []
        self.unsent: list[bytes] = []
        self.unsent_bytes = 0


class Rooms:
    """The rooms of this node. It is the listener of the bus.

    Args:
        as_event: returns the text of the event for a logged message.
        as_gap: returns the text of the event that reports lost messages of a room.
        stalled: checked before a room's messages are sent, see `WebSocketConnection`.
    """

    def __init__(
        self,
        bus: Bus,
        as_event: Callable[[LoggedMessage], bytes],
        clock: Callable[[], float] = time.time,
        stalled: Callable[[], bool] = never_stalled,
        as_gap: Callable[[str], bytes] | None = None,
    ) -> None:
        self._stalled, self._as_gap = stalled, as_gap
        self._bus, self._as_event, self._clock = bus, as_event, clock
        self._rooms: dict[str, _Room] = {}
        self._gaps = asyncio.Semaphore(GAPS_AT_ONCE)
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

    async def read_news(self) -> bool:
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
        await self._read_missed(CONTROL_ROOM, here)
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
                room = self._rooms[name] = _Room(self._clock(), self._bus.epoch)
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

    def enter(self, member: RoomMember, name: str) -> None:
        """Add a socket to a room that is subscribed for it."""
        room = self._rooms[name]
        self._flush(room)  # earlier messages must not reach the new member
        room.members.setdefault(member, self._clock())

    def leave(self, member: RoomMember, name: str) -> None:
        """Remove a socket from a room."""
        room = self._rooms.get(name)
        if room is None or member not in room.members:
            return
        self._flush(room)
        room.members.pop(member, None)
        self._forget_if_empty(name, room)

    def members(self, name: str) -> list[RoomMember]:
        """The sockets of a room on this node."""
        room = self._rooms.get(name)
        return [] if room is None else list(room.members)

    def names(self) -> list[str]:
        """The rooms that have a member on this node."""
        return [name for name, room in self._rooms.items() if room.members]

    def _forget_if_empty(self, name: str, room: _Room) -> None:
        if not room.members and not room.held:
            del self._rooms[name]
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
            self._defer(here, message)  # delivered after the missed messages
        elif message.order > here.last:
            here.last = message.order
            self._deliver(room, message)
        elif not self._bus.in_time:  # else it was delivered already
            self.gap(room)

    def ephemeral(self, room: str, body: bytes) -> None:
        """Deliver an ephemeral message."""
        act = self._on_ephemeral.get(body[:1])
        if act is not None:
            act(room, body[1:])

    @staticmethod
    def _defer(room: _Room, message: LoggedMessage) -> None:
        if len(room.waiting) < MAX_WAITING:
            room.waiting.append(message)
        else:
            room.waiting, room.behind = [], True  # read with the others

    def gap(self, room: str) -> None:
        """The subscription was interrupted: read the log from where delivery stopped."""
        here = self._rooms.get(room)
        if here is None:
            return
        here.lost_at = self._clock()
        here.behind = True  # also if it is interrupted again while the log is being read
        if here.catching_up is None:
            task = asyncio.get_running_loop().create_task(self._catch_up(room, here))
            here.catching_up = task

    async def _catch_up(self, name: str, room: _Room) -> None:
        ahead: float | None = 0.0
        try:
            while room.behind:
                room.behind = False
                try:
                    async with self._gaps:
                        ahead = await self._read_missed(name, room)
                except StoreUnavailable as error:  # it comes back later than the line, often
                    log.debug("room log not read after a gap yet: %s", error.evidence)
                    room.behind = True
                    await asyncio.sleep(GAP_AGAIN_SECONDS)
        finally:
            waiting, room.waiting, room.catching_up = room.waiting, [], None
            if self._rooms.get(name) is room:  # else it was left meanwhile
                for message in waiting:
                    self._deliver_late(name, room, message, ahead)

    async def _read_missed(self, name: str, room: _Room) -> float | None:
        """Deliver the log's messages after the last delivered one.

        Returns:
            Seconds by which the log's clock is ahead of ours. It is estimated a little too low,
            so that no member misses a message sent after it entered. None if the ids do not tell
            when messages were sent.
        """
        # If nothing was delivered yet, read from the time of the subscription.
        # The start id is exclusive, and the first id of a millisecond has the number 0.
        first = room.last if room.last != (0, 0) else (int(room.since * 1000) - 1, MAX_NUMBER)
        after = f"{first[0]}-{first[1]}"
        window = await self._bus.read_behind(name, after, GAP_PAGE)
        if self._is_lost(room, window):
            room.gap_sent = room.last
            self._send_gap(name, room)
        if self._started_again(room, window):
            # After a restart of the log, all of its messages are new, whatever their ids are.
            room.last = room.gap_sent = (0, 0)
            after = "0-0"
            window = await self._bus.read_behind(name, after, GAP_PAGE)
            window = msgspec.structs.replace(window, in_time=False)
        room.epoch = window.epoch or room.epoch
        while True:
            ahead = window.now - self._clock() if window.in_time else None
            for message in window.messages:
                self._deliver_late(name, room, message, ahead)
            if not window.more:
                return ahead
            after = window.messages[-1].id
            window = await self._bus.read_behind(name, after, GAP_PAGE)

    @staticmethod
    def _is_lost(room: _Room, window: Window) -> bool:
        """Whether messages may be missing from the log that no `gap` was sent for yet."""
        if Rooms._started_again(room, window):
            return True
        return room.last != room.gap_sent and not window.complete

    @staticmethod
    def _started_again(room: _Room, window: Window) -> bool:
        """Whether the log was lost and started again since the last delivery. A log that was
        emptied while the subscription stood does not count: it holds the last delivered message."""
        is_same = window.known and window.in_time
        return bool(room.epoch) and window.epoch not in {"", room.epoch} and not is_same

    def _send_gap(self, name: str, room: _Room) -> None:
        if self._as_gap is None or name == CONTROL_ROOM:
            return
        self._flush(room)
        frame = encode_text(self._as_gap(name))
        for member, came in tuple(room.members.items()):
            if came <= room.lost_at:
                member.connection.send_frame(frame)

    def _deliver_late(
        self, name: str, room: _Room, message: LoggedMessage, ahead: float | None
    ) -> None:
        """Deliver a missed message to the members who had entered before it was sent. Later members
        may have had no right to it, and can read the history."""
        if message.order <= room.last:
            return
        room.last = message.order
        said_ms, offset = message.order[0], ahead or 0.0
        if ahead is None:  # to those who were in when the line was back
            said_ms = int(room.lost_at * 1000)
        newest = next(reversed(room.members.values()), 0.0)
        if int((newest + offset) * 1000) <= said_ms:
            self._deliver(name, message)
            return
        self._flush(room)
        frame = encode_text(self._as_event(message))
        for member, came in tuple(room.members.items()):
            if int((came + offset) * 1000) <= said_ms:
                member.connection.send_frame(frame)

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
                if member.session_id != but:
                    member.connection.send_frame(frame)
            return
        if not room.unsent:
            asyncio.get_running_loop().call_soon(self._flush, room)
        room.unsent.append(frame)
        room.unsent_bytes += len(frame)
        if room.unsent_bytes > FLUSH_BYTES:
            self._flush(room)

    def _flush(self, room: _Room) -> None:
        """Send the messages of this iteration of the event loop, with one system call for each
        member instead of one for each message."""
        frames, room.unsent, room.unsent_bytes = room.unsent, [], 0
        if not frames:
            return
        self._stalled()
        joined = frames[0] if len(frames) == 1 else b"".join(frames)
        # A copy, because a member that is too slow is closed here and leaves.
        for member in tuple(room.members):
            member.connection.send_frames(frames, joined)
