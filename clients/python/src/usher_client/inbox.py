"""The bounded queue of a room's events for the app. It reports dropped events as a gap."""

from __future__ import annotations

import asyncio
from collections import deque

from usher_client.errors import UsherError
from usher_client.events import Event, Gap, Typing


class Inbox:
    """Events of one room.

    Args:
        limit: the maximum number of queued events. Beyond it, the oldest are dropped and replaced
            by a Gap.
    """

    def __init__(self, room: str, limit: int) -> None:
        self._room = room
        self._limit = limit
        self._events: deque[Event] = deque()
        self._lost = False
        self._over = False
        self._error: UsherError | None = None
        self._news = asyncio.Event()

    def put(self, event: Event) -> None:
        """Queue an event for the app."""
        if len(self._events) >= self._limit:
            if isinstance(event, Typing):
                return  # no loss to report
            self._events.popleft()
            self._lost = True
        self._events.append(event)
        self._news.set()

    def finish(self, error: UsherError | None) -> None:
        """End the queue. `error`: raised after the remaining events."""
        self._over, self._error = True, error
        self._news.set()

    def reopen(self) -> None:
        """Continue an ended queue."""
        self._over, self._error = False, None

    async def get(self) -> Event | None:
        """The next event; None at the end.

        Raises:
            UsherError: the reason for its end.
        """
        while True:
            if self._lost:
                self._lost = False
                return Gap(self._room)
            if self._events:
                return self._events.popleft()
            if self._over:
                if self._error is not None:
                    raise self._error
                return None
            self._news.clear()
            await self._news.wait()
