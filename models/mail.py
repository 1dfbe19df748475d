"""Mails that wait to be sent."""

from __future__ import annotations

import peewee

from models.base import Row


class OutgoingMail(Row):
    """A mail, or what somebody asked for and is decided in the background. Deleted once it is done.

    Attributes:
        id: counts up.
        kind: of a letter or of a question, see services/mail_outbox.py.
        is_asked: whether a stranger asked for it. Such rows have a share of the outbox.
        sealed: the address and the values as JSON, encrypted with ENCRYPTION_KEYS.
        attempts: how many failed because of this mail.
        due_at: epoch seconds of the next attempt; 0 for at once.
        claim: random; of the attempt that is under way, None otherwise.
        is_handed: whether the attempt has begun to hand the text to the mail server. From then
            on nobody else may send it.
        created_at, expires_at: epoch seconds.
    """

    id = peewee.BigAutoField()
    kind = peewee.TextField()
    is_asked = peewee.BooleanField(default=False)
    sealed = peewee.TextField()
    attempts = peewee.IntegerField(default=0)
    due_at = peewee.DoubleField(default=0.0)
    claim = peewee.TextField(null=True)
    is_handed = peewee.BooleanField(default=False)
    created_at = peewee.DoubleField()
    expires_at = peewee.DoubleField()

    class Meta:
        table_name = "outgoing_mails"
        indexes = ((("due_at", "id"), False), (("is_asked", "id"), False))
