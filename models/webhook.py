"""Webhooks, their subscriptions, and their deliveries."""

from __future__ import annotations

import peewee

from models.base import Row


class Webhook(Row):
    """One webhook.

    Attributes:
        id: random, URL-safe.
        url: where events are posted to. It may hold something secret: no log has it.
        secret: signs deliveries; encrypted with ENCRYPTION_KEYS.
        created_at: epoch seconds.
        created_by: the id of the administrator who made it.
        deleted_at: epoch seconds; None while it is there. The row goes after its deliveries.
    """

    id = peewee.TextField(primary_key=True)
    url = peewee.TextField()
    secret = peewee.TextField()
    created_at = peewee.DoubleField()
    created_by = peewee.TextField()
    deleted_at = peewee.DoubleField(null=True)

    class Meta:
        table_name = "webhooks"


class WebhookSubscription(Row):
    """An event type that a webhook subscribes to. Events without a subscription are not written."""

    type = peewee.TextField()
    webhook_id = peewee.TextField()

    class Meta:
        table_name = "webhook_subscriptions"
        primary_key = peewee.CompositeKey("type", "webhook_id")


class WebhookDelivery(Row):
    """One event for one webhook: first an outbox entry, then the record of its delivery.

    There are no foreign keys, so that an event is written without a look-up of its webhook.

    Attributes:
        id: increasing. Of two events of a subject, the earlier has the lower id.
        webhook_id: the webhook.
        event_id: the `webhook-id`: the same at every attempt, for every webhook and replay.
        type: the event type.
        subject: the subject of the event, within which order is kept.
        queue: the subject while the delivery is pending; None when it is done. Of the rows of a
            webhook with the same queue, only the first may be delivered.
        body: JSON, as it is sent.
        state: "pending", "delivered" or "failed".
        attempts: number of attempts.
        due_at: epoch seconds of the next attempt; 0 for at once, None when it is done.
        claim: random id of the attempt in progress, or None.
        created_at, attempted_at, done_at: epoch seconds.
        status: HTTP status of the last response.
        error: the reason why the last attempt failed, a fixed word.
    """

    id = peewee.BigAutoField()
    webhook_id = peewee.TextField()
    event_id = peewee.TextField()
    type = peewee.TextField()
    subject = peewee.TextField()
    queue = peewee.TextField(null=True)
    body = peewee.TextField()
    state = peewee.TextField(default="pending")
    attempts = peewee.IntegerField(default=0)
    due_at = peewee.DoubleField(null=True)
    claim = peewee.TextField(null=True)
    created_at = peewee.DoubleField()
    attempted_at = peewee.DoubleField(null=True)
    done_at = peewee.DoubleField(null=True)
    status = peewee.IntegerField(null=True)
    error = peewee.TextField(null=True)

    class Meta:
        table_name = "webhook_deliveries"
        indexes = (
            (("webhook_id", "due_at", "id"), False),
            (("webhook_id", "queue", "id"), False),
            (("webhook_id", "id"), False),
            (("claim",), False),
            (("done_at",), False),
        )
