"""One-time links to an account."""

from __future__ import annotations

import peewee

from models.base import Row
from models.user import User


class AccountLink(Row):
    """A link that works once, for one purpose, while the account is unchanged.

    Attributes:
        hash: SHA-256 of the token in the link. The token itself is not stored.
        user: the account.
        purpose: see services/accounts/link_rows.py.
        email: the address that a link is about, where it is not the account's.
        state: the account's state when the link was created, see services/accounts/link_rows.py.
        created_at: epoch seconds, of a clock that never goes back.
        expires_at: epoch seconds.
    """

    hash = peewee.TextField(primary_key=True)
    user = peewee.ForeignKeyField(
        User, column_name="user_id", on_delete="CASCADE", lazy_load=False, backref="+"
    )
    user_id: str
    purpose = peewee.TextField()
    state = peewee.TextField()
    email = peewee.TextField(null=True)
    created_at = peewee.DoubleField()
    expires_at = peewee.DoubleField()

    class Meta:
        table_name = "account_links"
