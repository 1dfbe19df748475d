"""Events of sockets: buffered with a bound, and written in batches.

They must cost a join nothing: it only checks the attribute `wanted`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from services.metrics import Metrics
from services.outbox import EventType, OutgoingEvent, SocketJoinedEvent, user_subject
from services.storage.database import Database
from services.webhooks.outbox import WebhookOutbox

MAX_WAITING = 10_000
BATCH = 500
WRITE_SECONDS = 0.25
SOCKET_EVENTS = frozenset(("socket.joined", "socket.left"))


class SocketEvents:
    """The events of this node's sockets.

    Args:
        full: webhooks that are skipped for now, because too many deliveries are pending.
    """

    def __init__(
        self,
        database: Database,
        outbox: WebhookOutbox,
        metrics: Metrics,
        full: Callable[[], frozenset[str]],
    ) -> None:
        self._database, self._outbox, self._metrics, self._full = database, outbox, metrics, full
        self._waiting: deque[OutgoingEvent] = deque()
        self.wanted = False
        """Whether any webhook wants these."""

    def want(self, types: frozenset[str]) -> None:
        """Set the event types that webhooks subscribe to."""
        self.wanted = bool(types & SOCKET_EVENTS)

    def record(self, type_: EventType, user_id: str, data: SocketJoinedEvent) -> None:
        """Buffer an event. Never waits. Call it only if it is `wanted`."""
        if len(self._waiting) >= MAX_WAITING:
            self._metrics.webhook_dropped.inc()
            return
        self._waiting.append(OutgoingEvent(type_, user_subject(user_id), data))

    async def write(self) -> None:
        """Write the buffered events.

        Raises:
            DatabaseUnavailable, Busy: the write failed; the events stay in the buffer.
        """
        while self._waiting:
            batch = [self._waiting[i] for i in range(min(BATCH, len(self._waiting)))]
            await self._database.run(self._outbox.add, batch, self._full())
            for _ in batch:
                self._waiting.popleft()
