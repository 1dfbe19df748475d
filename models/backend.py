"""API keys of backends, and the model registry."""

from __future__ import annotations

import peewee

from models.base import Row


class ApiKey(Row):
    """A key of a backend.

    Attributes:
        hash: SHA-256 of the key. The key itself is not stored.
        scopes: its scopes, separated by spaces.
        created_by: the administrator who created it; None once that account is deleted, and for a
            key created on the command line.
        made_by_command: created on the command line, so it depends on no user's rights.
        expires_at: epoch seconds; None for a key that does not expire.
        last_used_at: epoch seconds, accurate to a minute.
        revoked_at: epoch seconds; None if it is not revoked.
    """

    id = peewee.TextField(primary_key=True)
    hash = peewee.TextField(unique=True)
    name = peewee.TextField()
    scopes = peewee.TextField()
    created_by = peewee.TextField(null=True)
    created_at = peewee.DoubleField()
    last_used_at = peewee.DoubleField(null=True)
    revoked_at = peewee.DoubleField(null=True)
    expires_at = peewee.DoubleField(null=True)
    made_by_command = peewee.BooleanField(default=False)

    class Meta:
        table_name = "api_keys"


class UsageModel(Row):
    """A model that `usage` may name."""

    id = peewee.TextField(primary_key=True)
    title = peewee.TextField()

    class Meta:
        table_name = "usage_models"
