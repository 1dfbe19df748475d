"""Lists, replays, counts and deletes rows of deliveries, for administrators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import peewee

from models.webhook import Webhook
from models.webhook import WebhookDelivery as D
from services.webhooks.deliveries import State
from services.webhooks.outbox import new_event_id

BATCH = 500


class DeliveryRow(msgspec.Struct, frozen=True):
    """A delivery as an administrator sees it. Times are epoch seconds.

    Attributes:
        event_id: the header `webhook-id`.
        next_attempt_at: None when it is done, 0 while it is under way or next.
        status: HTTP status of the last answer.
        error: why the last attempt failed.
    """

    id: str
    event_id: str
    type: str
    subject: str
    state: State
    attempts: int
    created_at: float
    attempted_at: float | None
    next_attempt_at: float | None
    status: int | None
    error: str | None


# ---- for administrators --------------------------------------------------------------------


def page(
    db: peewee.Database, webhook_id: str, before: int | None, limit: int, state: str
) -> list[DeliveryRow]:
    """Deliveries of a webhook, newest first.

    Args:
        before: the id of the last one of the previous page.
        state: only deliveries in this state; "" for all.
    """
    query: Any = D.select().where(D.webhook_id == webhook_id)
    if before is not None:
        query = query.where(D.id < before)
    if state:
        query = query.where(D.state == state)
    rows = query.order_by(D.id.desc()).limit(limit).execute(db)
    return [shown(row) for row in rows]


def get(db: peewee.Database, webhook_id: str, delivery_id: int) -> D | None:
    """One delivery of a webhook."""
    this = (D.webhook_id == webhook_id) & (D.id == delivery_id)
    return D.select().where(this).get_or_none(db)


def shown(row: Any) -> DeliveryRow:
    """A row, as shown to administrators."""
    return DeliveryRow(
        str(row.id),
        row.event_id,
        row.type,
        row.subject,
        row.state,
        row.attempts,
        row.created_at,
        row.attempted_at,
        row.due_at,
        row.status,
        row.error,
    )


def enqueue(
    db: peewee.Database, webhook_id: str, type_: str, subject: str, body: str, now: float
) -> DeliveryRow:
    """Write a delivery for a single webhook, after those of its subject."""
    return _insert(db, webhook_id, new_event_id(), type_, subject, body, now)


def again(db: peewee.Database, row: D, now: float) -> DeliveryRow:
    """Write a delivery again, after those of its subject, with the same event id."""
    return _insert(db, row.webhook_id, row.event_id, row.type, row.subject, row.body, now)


def _insert(
    db: peewee.Database,
    webhook_id: str,
    event_id: str,
    type_: str,
    subject: str,
    body: str,
    now: float,
) -> DeliveryRow:
    values: dict[str, Any] = {
        "webhook_id": webhook_id,
        "event_id": event_id,
        "type": type_,
        "subject": subject,
        "queue": subject,
        "body": body,
        "state": "pending",
        "due_at": 0.0,
        "created_at": now,
    }
    id_ = D.insert(values).execute(db)
    return shown(D.select().where(D.id == id_).get(db))


# ---- counting and forgetting ---------------------------------------------------------------


def count_pending(db: peewee.Database, webhook_ids: Sequence[str]) -> dict[str, int]:
    """The number of pending deliveries, by webhook."""
    return {
        webhook_id: int(
            D.select().where((D.webhook_id == webhook_id) & D.due_at.is_null(False)).count(db)
        )
        for webhook_id in webhook_ids
    }


def delete_done(db: peewee.Database, before: float) -> int:
    """Delete a batch of deliveries done before a time, epoch seconds. Returns their number."""
    some: Any = D.select(D.id).where(D.done_at < before).limit(BATCH)
    return int(D.delete().where(D.id.in_(some)).execute(db))


def delete_of_deleted(db: peewee.Database, now: float) -> int:
    """Delete a batch of the deliveries of deleted webhooks; their own rows when none is left."""
    gone = [w.id for w in Webhook.select().where(Webhook.deleted_at.is_null(False)).execute(db)]
    done = 0
    for webhook_id in gone:
        some: Any = D.select(D.id).where(D.webhook_id == webhook_id).limit(BATCH)
        count = int(D.delete().where(D.id.in_(some)).execute(db))
        done += count
        if count == 0:  # not at once: a transaction may still write for it
            old = (Webhook.id == webhook_id) & (Webhook.deleted_at < now - 3600.0)
            Webhook.delete().where(old).execute(db)
    return done
