"""Audit events: what happened, and who did it."""

from __future__ import annotations

import peewee

from models.base import Row


class AuditEvent(Row):
    """One entry of the audit trail. It has ids only: no e-mail address, no secret.

    It has no foreign keys, because it must outlive the users and objects that it names.

    Attributes:
        id: increasing.
        at: epoch seconds.
        kind: the kind of event, a fixed name such as "session.opened".
        actor: a user id, "key:" and the id of an API key, "command-line", or empty.
        subject: the id of the affected user, or empty.
        session: the affected login session, or the actor's.
        address: the client's address.
        reason: the reason, a fixed word.
        target: another affected object: a channel, an API key.
        count: the number of equal events that were combined.
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
