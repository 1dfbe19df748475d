"""Requests with an Idempotency-Key."""

from __future__ import annotations

import peewee

from models.base import Row


class IdempotencyKey(Row):
    """One request that may be repeated and is executed once.

    Attributes:
        hash: SHA-256 of the caller and its key.
        fingerprint: SHA-256 of the request.
        token: the random claim of the current attempt.
        claimed_at: when that attempt started, epoch seconds.
        done_at: epoch seconds; None until it is done.
        expires_at: epoch seconds; afterwards the key may be used for another request.
    """

    hash = peewee.TextField(primary_key=True)
    fingerprint = peewee.TextField()
    token = peewee.TextField()
    claimed_at = peewee.DoubleField()
    done_at = peewee.DoubleField(null=True)
    expires_at = peewee.DoubleField(index=True)

    class Meta:
        table_name = "idempotency_keys"
