"""Writes events for the webhooks that subscribe to them, in the transaction of the change."""

from __future__ import annotations

import datetime as dt
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import peewee

from models.webhook import WebhookDelivery, WebhookSubscription
from services.outbox import OutgoingEvent

ROWS_AT_ONCE = 500
"""Written in one statement: databases take a bounded number of parameters."""


def new_event_id() -> str:
    """The `webhook-id` of an event."""
    return f"msg_{secrets.token_urlsafe(18)}"


def body_of(type_: str, at: float, data: object) -> str:
    """The body of a delivery, as standardwebhooks.com has it.

    Args:
        at: epoch seconds.
        data: the data of the event.
    """
    when = dt.datetime.fromtimestamp(at, dt.timezone.utc)
    stamp = when.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return msgspec.json.encode({"type": type_, "timestamp": stamp, "data": data}).decode()


def row_of(webhook_id: str, event_id: str, event: Any, body: str, at: float) -> dict[str, Any]:
    """A row that is delivered after the earlier ones of its subject."""
    return {
        "webhook_id": webhook_id,
        "event_id": event_id,
        "type": event.type,
        "subject": event.subject,
        "queue": event.subject,
        "body": body,
        "state": "pending",
        # Not the current time, for which a node whose clock is behind would wait.
        "due_at": 0.0,
        "created_at": at,
    }


class WebhookOutbox:
    """The outbox of the database.

    Args:
        clock: epoch seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._on_written: Callable[[], None] = lambda: None

    def on_written(self, act: Callable[[], None]) -> None:
        """Call `act` when there is something to deliver, shortly before its commit."""
        self._on_written = act

    def add(
        self,
        db: peewee.Database,
        events: Sequence[OutgoingEvent],
        but: frozenset[str] = frozenset(),
    ) -> None:
        """Write events in the caller's transaction. If no webhook subscribes, it costs one look-up.

        Args:
            but: ids of webhooks that do not receive the events.
        """
        if not events:
            return
        wanted = _subscribed_webhooks(db, {event.type for event in events}, but)
        if not wanted:
            return
        at, rows = self._clock(), []
        for event in events:
            if event.type not in wanted:
                continue
            event_id, body = new_event_id(), body_of(event.type, at, event.data)
            rows += [row_of(w, event_id, event, body, at) for w in wanted[event.type]]
        insert(db, rows)
        self._on_written()


def insert(db: peewee.Database, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows in the order given."""
    for start in range(0, len(rows), ROWS_AT_ONCE):
        WebhookDelivery.insert_many(rows[start : start + ROWS_AT_ONCE]).execute(db)


def _subscribed_webhooks(
    db: peewee.Database, types: set[str], but: frozenset[str]
) -> dict[str, list[str]]:
    query = WebhookSubscription.select().where(WebhookSubscription.type.in_(sorted(types)))
    found: dict[str, list[str]] = {}
    for row in query.execute(db):
        if row.webhook_id not in but:
            found.setdefault(row.type, []).append(row.webhook_id)
    return found
