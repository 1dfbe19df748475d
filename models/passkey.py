"""Passkeys (WebAuthn Level 2)."""

from __future__ import annotations

import peewee

from models.base import Row
from models.user import User


class Passkey(Row):
    """A public-key credential of a user.

    Attributes:
        id: random, URL-safe; its id in calls.
        credential_id: the credential id of the authenticator, Base64 (URL).
        user: its owner.
        name: the name that the user gave it.
        public_key: COSE key, Base64 (URL).
        sign_count: the signature counter at its last use; 0 if the authenticator has none.
        backup_eligible: whether it may be synchronised (flag BE); never changes.
        created_at, last_used_at: epoch seconds; None before the first use.
    """

    id = peewee.TextField(primary_key=True)
    credential_id = peewee.TextField(unique=True)
    user = peewee.ForeignKeyField(
        User, column_name="user_id", on_delete="CASCADE", lazy_load=False, backref="+"
    )
    user_id: str
    name = peewee.TextField()
    public_key = peewee.TextField()
    sign_count = peewee.BigIntegerField(default=0)
    backup_eligible = peewee.BooleanField(default=False)
    created_at = peewee.DoubleField()
    last_used_at = peewee.DoubleField(null=True)

    class Meta:
        table_name = "passkeys"
