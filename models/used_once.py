"""Single-use values that have been used."""

from __future__ import annotations

import peewee

from models.base import Row


class UsedOnce(Row):
    """One value that was used: the `state` of a sign-in, or the `jti` of a logout token.

    Inserting the row is using it: of two that race only one can.

    Attributes:
        hash: SHA-256 of the kind and the value.
        expires_at: epoch seconds; past it the thing is not taken anyway.
    """

    hash = peewee.TextField(primary_key=True)
    expires_at = peewee.DoubleField(index=True)

    class Meta:
        table_name = "used_once"
