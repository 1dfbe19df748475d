"""Audit events: what happened, and who did it."""

from __future__ import annotations

import peewee

from models.base import Row


class AuditEvent(Row):
    """One entry of the audit trail. Holds ids only: no e-mail address, no secret.

    No foreign keys: it has to outlive whom it speaks of.

    Attributes:
        id: counts up.
        at: epoch seconds.
        kind: what happened, a stable name such as "session.opened".
        actor: who did it: a user id, "key:" and the id of an API key, "command-line", or empty.
        subject: whom it happened to: a user id, or empty.
        session: the login session it is about, or in which it was done.
        address: where the request came from.
        reason: why: a stable word.
        target: what else it is about: a channel, an API key.
        count: how many alike came together.
    """

    id = peewee.BigAutoField()
    at = peewee.DoubleField(index=True)
    kind = peewee.TextField()
    actor = peewee.TextField()
    subject = peewee.TextField()
    session = peewee.TextField()
    address = peewee.TextField()
    reason = peewee.TextField()
    target = peewee.TextField()
    count = peewee.IntegerField(default=1)

    class Meta:
        table_name = "audit_events"
        indexes = ((("actor", "id"), False), (("subject", "id"), False), (("kind", "id"), False))
