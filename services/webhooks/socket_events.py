"""Events of sockets: gathered as they happen, written in batches, and bounded.

A join must cost nothing for them: it looks at one attribute, `wanted`.
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
        full: webhooks that are not told for now, because too much waits for them.
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
        """Take over what webhooks want."""
        self.wanted = bool(types & SOCKET_EVENTS)

    def record(self, type_: EventType, user_id: str, data: SocketJoinedEvent) -> None:
        """Note an event. Never waits. To be called while it is `wanted`."""
        if len(self._waiting) >= MAX_WAITING:
            self._metrics.webhook_dropped.inc()
            return
        self._waiting.append(OutgoingEvent(type_, user_subject(user_id), data))

    async def write(self) -> None:
        """Write what waits.

        Raises:
            DatabaseUnavailable, Busy: it waits on.
        """
        while self._waiting:
            batch = [self._waiting[i] for i in range(min(BATCH, len(self._waiting)))]
            await self._database.run(self._outbox.add, batch, self._full())
            for _ in batch:
                self._waiting.popleft()
