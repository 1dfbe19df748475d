"""Invitations to create an account."""

from __future__ import annotations

import peewee

from models.base import Row


class Invitation(Row):
    """An invitation that was not used. Using or revoking it deletes the row.

    Attributes:
        id: random, URL-safe.
        hash: SHA-256 of the token in the link. The token itself is not stored.
        email: the normalised address that it is for; None for any.
        role: the role of the account that is created with it.
        created_by: the administrator who created it; None once that account is deleted, and for one
            created on the command line.
        made_by_command: created on the command line, so it depends on no user's rights.
        created_at: epoch seconds, of a clock that never goes back.
        expires_at: epoch seconds.
    """

    id = peewee.TextField(primary_key=True)
    hash = peewee.TextField(unique=True)
    email = peewee.TextField(null=True)
    role = peewee.TextField()
    created_by = peewee.TextField(null=True)
    made_by_command = peewee.BooleanField(default=False)
    created_at = peewee.DoubleField()
    expires_at = peewee.DoubleField()

    class Meta:
        table_name = "invitations"
