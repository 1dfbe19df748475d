"""Linked accounts: an account at a provider, linked to an account here."""

from __future__ import annotations

import peewee

from models.base import Row
from models.user import User


class Identity(Row):
    """One account at a provider. A user has at most one of each provider.

    Attributes:
        provider: the provider's name in the settings.
        subject: `sub` of its ID tokens (OIDC Core section 2), never reassigned; or GitHub's
            numeric user id.
        issuer: the provider's issuer. The same name in the settings may later mean another
            provider, whose subjects are other users.
        user: the account here. Read `user_id`.
        email: the address last sent by the provider, for display only; never used for look-ups.
        linked_at, last_used_at: epoch seconds.
    """

    provider = peewee.TextField()
    subject = peewee.TextField()
    issuer = peewee.TextField()
    user = peewee.ForeignKeyField(
        User, column_name="user_id", on_delete="CASCADE", lazy_load=False, backref="+"
    )
    user_id: str  # the column itself; Peewee adds it, its stubs do not
    email = peewee.TextField(default="")
    linked_at = peewee.DoubleField()
    last_used_at = peewee.DoubleField()

    class Meta:
        table_name = "identities"
        primary_key = peewee.CompositeKey("provider", "subject")
        indexes = ((("user", "provider"), True),)


class Unlinked(Row):
    """A provider that a user has unlinked: no account of it is linked by its e-mail address again,
    until the user links one.

    Attributes:
        user: the account here. Read `user_id`.
        provider: its name in the settings.
    """

    user = peewee.ForeignKeyField(
        User, column_name="user_id", on_delete="CASCADE", lazy_load=False, backref="+"
    )
    user_id: str  # the column itself; Peewee adds it, its stubs do not
    provider = peewee.TextField()

    class Meta:
        table_name = "unlinked_providers"
        primary_key = peewee.CompositeKey("user", "provider")
