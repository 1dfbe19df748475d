"""What was asked for with an Idempotency-Key."""

from __future__ import annotations

import peewee

from models.base import Row


class IdempotencyKey(Row):
    """One request that may be sent again and counts once.

    Attributes:
        hash: SHA-256 of who asked and of the key that they chose.
        fingerprint: SHA-256 of what was asked for.
        token: random; of the attempt that has it in hand.
        claimed_at: epoch seconds of that attempt's beginning.
        done_at: epoch seconds, None until it is done.
        expires_at: epoch seconds; from then on the key may be used for something else.
    """

    hash = peewee.TextField(primary_key=True)
    fingerprint = peewee.TextField()
    token = peewee.TextField()
    claimed_at = peewee.DoubleField()
    done_at = peewee.DoubleField(null=True)
    expires_at = peewee.DoubleField(index=True)

    class Meta:
        table_name = "idempotency_keys"
