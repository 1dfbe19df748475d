"""The outbox of e-mails."""

from __future__ import annotations

import peewee

from models.base import Row


class OutgoingMail(Row):
    """An e-mail, or a request for one that is decided in the background. Deleted once it is done.

    Attributes:
        id: increasing.
        kind: the kind of e-mail or of request, see services/mail_outbox.py.
        is_asked: whether an unauthenticated client caused it. Such rows have a share of the outbox.
        sealed: the address and the values as JSON, encrypted with ENCRYPTION_KEYS.
        attempts: number of attempts that failed because of this e-mail.
        due_at: epoch seconds of the next attempt; 0 for at once.
        claim: random id of the attempt in progress, or None.
        is_handed: whether the attempt has started to send the text to the mail server. After that,
            no other attempt may send it.
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
