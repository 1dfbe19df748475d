"""The in-flight replies of one socket, sent in the order of their requests.

Most events are handled one at a time, and later frames stay unread in the kernel's buffer. A
message is sent to Redis as soon as it is read, and only its reply is queued: Redis appends in the
order of the commands, so a sender need not wait for one reply before the next message. All replies
are sent in request order.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable

from services.websocket.protocol import MAX_MESSAGE_BYTES, Frame

UNDER_WAY = 16
"""Messages of one socket that may wait for Redis at once: 16,000 a second where Redis is a
millisecond away. It is also how far one sender can get ahead of the others."""
UNDER_WAY_BYTES = MAX_MESSAGE_BYTES
"""And so many bytes of them: the node's line to Redis is bounded (`MAX_BYTES`), and a few sockets
with large messages must not fill it."""


class ReplyQueue:
    """The queued replies of one socket. It exists only while replies are pending."""

    __slots__ = ("_alone", "_bytes", "_full", "_waiting", "task")

    def __init__(self) -> None:
        self._waiting: deque[tuple[Frame, Awaitable[None]]] = deque()
        self._bytes = 0
        self._full = self._alone = False
        self.task: asyncio.Task[None] | None = None

    def add(self, frame: Frame, outcome: Awaitable[None], alone: bool) -> bool:
        """Add a frame and the awaitable of its reply.

        Args:
            alone: no later frame may be handled before its reply is sent.

        Returns:
            Whether reading must pause; it may continue after `done`.
        """
        self._waiting.append((frame, outcome))
        self._bytes += len(frame.data)
        self._alone = alone
        if alone or len(self._waiting) >= UNDER_WAY or self._bytes >= UNDER_WAY_BYTES:
            self._full = True
        return self._full

    def first(self) -> tuple[Frame, Awaitable[None]] | None:
        """The next reply to send."""
        return self._waiting[0] if self._waiting else None

    def done(self) -> bool:
        """Remove the first reply, which was sent. Returns True if reading may continue: that is at
        half of the limit, because pausing and resuming cost a system call each."""
        frame, _ = self._waiting.popleft()
        self._bytes -= len(frame.data)
        room = not self._waiting if self._alone else self._is_half_empty
        if not (self._full and room):
            return False
        self._full = False
        return True

    @property
    def _is_half_empty(self) -> bool:
        return len(self._waiting) <= UNDER_WAY // 2 and self._bytes <= UNDER_WAY_BYTES // 2
