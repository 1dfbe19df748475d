"""Reads what a room of this node has missed while its subscription was interrupted.

The room's log is read from where delivery stopped. Messages that arrive meanwhile wait in the room,
and are delivered after those that were missed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import msgspec

from services.bus.bus import MAX_NUMBER, Bus, LoggedMessage, Window
from services.errors import StoreUnavailable
from services.rooms.local_room import LocalRoom, RoomMember
from services.sessions.control import CONTROL_ROOM
from services.websocket.frames import encode_text

GAP_PAGE = 200
GAPS_AT_ONCE = 200
"""Logs read at one time after a gap: all rooms at once would leave the store no place for joins."""
GAP_AGAIN_SECONDS = 0.25
MAX_WAITING = 1000
"""Messages that wait in a room behind those that were missed. The log has them, too."""

log = logging.getLogger("usher.rooms")


class MissedMessages:
    """Reads and delivers what rooms have missed.

    Args:
        as_event: returns the text of the event for a logged message.
        as_gap: returns the text of the event that reports lost messages of a room.
        deliver: delivers a message to all members of a room.
        flush: sends what is gathered for the members of a room.
        send: sends a frame to one member of a room.
        is_here: whether a room of a name is still the one that is subscribed.
    """

    def __init__(
        self,
        bus: Bus,
        as_event: Callable[[LoggedMessage], bytes],
        as_gap: Callable[[str], bytes] | None,
        deliver: Callable[[str, LoggedMessage], None],
        flush: Callable[[LocalRoom], None],
        send: Callable[[LocalRoom, RoomMember, bytes], None],
        is_here: Callable[[str, LocalRoom], bool],
        clock: Callable[[], float],
    ) -> None:
        self._bus, self._as_event, self._as_gap = bus, as_event, as_gap
        self._deliver, self._flush, self._send = deliver, flush, send
        self._is_here = is_here
        self._clock = clock
        self._gaps = asyncio.Semaphore(GAPS_AT_ONCE)

    def gap(self, name: str, room: LocalRoom) -> None:
        """The subscription was interrupted: read the log from where delivery stopped."""
        room.lost_at = self._clock()
        room.behind = True  # also if it is interrupted again while the log is being read
        if room.catching_up is None:
            task = asyncio.get_running_loop().create_task(self._catch_up(name, room))
            room.catching_up = task

    @staticmethod
    def defer(room: LocalRoom, message: LoggedMessage) -> None:
        """Keep a message until those that were missed are delivered."""
        if room.waiting is None:
            room.waiting = []
        if len(room.waiting) < MAX_WAITING:
            room.waiting.append(message)
        else:
            room.waiting, room.behind = None, True  # read with the others

    async def _catch_up(self, name: str, room: LocalRoom) -> None:
        ahead: float | None = 0.0
        try:
            while room.behind:
                room.behind = False
                try:
                    async with self._gaps:
                        ahead = await self.read(name, room)
                except StoreUnavailable as error:  # it comes back later than the line, often
                    log.debug("room log not read after a gap yet: %s", error.evidence)
                    room.behind = True
                    await asyncio.sleep(GAP_AGAIN_SECONDS)
        finally:
            waiting, room.waiting, room.catching_up = room.waiting, None, None
            if self._is_here(name, room):  # else it was left meanwhile
                for message in waiting or ():
                    self._deliver_late(name, room, message, ahead)

    async def read(self, name: str, room: LocalRoom) -> float | None:
        """Deliver the log's messages after the last delivered one.

        Returns:
            Seconds by which the log's clock is ahead of ours. It is estimated a little too low,
            so that no member misses a message sent after it entered. None if the ids do not show
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
            if not window.complete:  # the log only counted messages, or lost them meanwhile
                room.gap_sent = room.last
                self._send_gap(name, room)

    @staticmethod
    def _is_lost(room: LocalRoom, window: Window) -> bool:
        """Whether messages may be missing from the log that no `gap` was sent for yet."""
        if MissedMessages._started_again(room, window):
            return True
        return room.last != room.gap_sent and not window.complete

    @staticmethod
    def _started_again(room: LocalRoom, window: Window) -> bool:
        """Whether the log was lost and started again since the last delivery. A log that was
        emptied while the subscription stood does not count: it holds the last delivered message."""
        is_same = window.known and window.in_time
        return bool(room.epoch) and window.epoch not in {"", room.epoch} and not is_same

    def _send_gap(self, name: str, room: LocalRoom) -> None:
        if self._as_gap is None or name == CONTROL_ROOM:
            return
        self._flush(room)
        frame = encode_text(self._as_gap(name))
        for member, came in tuple(room.members.items()):
            if came <= room.lost_at:
                self._send(room, member, frame)

    def _deliver_late(
        self, name: str, room: LocalRoom, message: LoggedMessage, ahead: float | None
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
                self._send(room, member, frame)
