"""Delivers a room's messages in order and once, over all connections."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from usher_client.events import Event, Gap, History, Message

MAX_HELD = 1000
"""The number of messages that the server keeps of a room by default; older ones are lost there."""
MAX_LATE = 200
"""The number of messages that may be read in the history before they arrive live."""


class RoomLog:
    """The messages of one room.

    Args:
        deliver: called with each event, in order.
    """

    def __init__(self, name: str, deliver: Callable[[Event], None]) -> None:
        self.name = name
        self._deliver = deliver
        self.last: str | None = None
        """The id of the last delivered message."""
        self._entered_at: float | None = None
        self._since: float | None = None
        self._held: list[Message] | None = None
        self._read: dict[str, None] = {}
        self._claimed = False

    @property
    def is_held(self) -> bool:
        """Whether live messages wait until the missed ones have been read."""
        return self._held is not None

    def claim(self) -> bool:
        """Whether the caller has to read missed messages. True only for the first caller."""
        free = self._held is not None and not self._claimed
        self._claimed = self._claimed or free
        return free

    def joined(self, offset: float | None) -> None:
        """A socket has joined the room. If another one was in it before, live messages are queued.

        Args:
            offset: see `clock`.
        """
        if self._entered_at is None:
            self._entered_at = monotonic()
            if offset is not None:
                self.clock(offset)
        else:
            self._held, self._read, self._claimed = [], {}, False

    def left(self) -> None:
        """Stop following the room: messages from now on are not missed."""
        self._held, self._entered_at, self._since, self.last = None, None, None, None

    def clock(self, offset: float) -> None:
        """The server's clock (epoch seconds) minus the monotonic one, never too large. It
        determines when the room was joined by the server's clock."""
        if self._since is None and self._entered_at is not None:
            self._since = self._entered_at + offset

    def receive(self, event: Event) -> None:
        """Receive a live event."""
        if not isinstance(event, Message) or event.id is None:
            self._deliver(event)
        elif self._held is None:
            self._live(event)
        else:
            self._held.append(event)
            if len(self._held) > MAX_HELD:
                self.gap()
                self.release()

    def gap(self) -> None:
        """Messages are lost."""
        self._deliver(Gap(self.name))

    def page(self, page: History, *, first: bool) -> None:
        """Receive a page of missed messages.

        For a room without a received message, the history is read from its beginning. Messages from
        before the join are skipped, and a history that reaches back to the join is complete.
        """
        reaches = bool(page.messages) and self._is_old(page.messages[0])
        if first and not page.complete and not reaches:
            self.gap()
        old = self._is_old
        for message in [one for one in page.messages if not old(one)]:
            if message.id is not None:
                self._read[message.id] = None
                self.last = message.id
            self._deliver(message)

    def _is_old(self, message: Message) -> bool:
        if self.last is not None or self._since is None or message.sent_at is None:
            return False
        return message.sent_at < self._since

    def release(self) -> None:
        """All missed messages are read: deliver the live ones that waited."""
        held, self._held = self._held or [], None
        for message in held:
            self._live(message)
        late = list(self._read)[-MAX_LATE:]
        self._read = dict.fromkeys(late)

    def _live(self, message: Message) -> None:
        if message.id in self._read:
            return
        # The history and sockets have the same order, but read messages may still arrive live.
        self.last = message.id
        self._deliver(message)
