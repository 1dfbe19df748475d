"""Webhooks, what they want to be told, and what is told to them."""

from __future__ import annotations

import peewee

from models.base import Row


class Webhook(Row):
    """One receiver.

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
    """A type of events that a webhook wants. The types without a row interest nobody."""

    type = peewee.TextField()
    webhook_id = peewee.TextField()

    class Meta:
        table_name = "webhook_subscriptions"
        primary_key = peewee.CompositeKey("type", "webhook_id")


class WebhookDelivery(Row):
    """One event for one webhook: the outbox, and afterwards the record of what became of it.

    No foreign keys: an event is written without asking whether its webhook is still there.

    Attributes:
        id: counts up. Of two events of one subject the earlier has the lower one.
        webhook_id: for whom.
        event_id: the same at every attempt, for every webhook and in every replay.
        type: of the event.
        subject: whom it is about.
        queue: the subject while it waits or is under way; None when it is done. Of the rows of
            one webhook and queue only the first may be delivered.
        body: JSON, as it is sent.
        state: "pending", "delivered" or "failed".
        attempts: how many failed or were taken.
        due_at: epoch seconds of the next attempt; 0 for at once, None when it is done.
        claim: random; of the attempt that is under way, None otherwise.
        created_at, attempted_at, done_at: epoch seconds.
        status: HTTP status of the last answer.
        error: a word for why the last attempt failed.
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
