"""Sign-ins that wait for their second factor."""

from __future__ import annotations

import peewee

from models.base import Row
from models.user import User


class LoginChallenge(Row):
    """A sign-in whose first factor was verified.

    Attributes:
        hash: SHA-256 of the challenge. The challenge itself is not stored.
        user: the user who signs in.
        method: the first factor: "password" or "passkey".
        client: "browser" or "native", as in the sign-in.
        state: the account's state when the sign-in was started. If the state has changed, the
            challenge is invalid.
        wrong: number of wrong codes so far.
        created_at: epoch seconds, of a clock that never goes back.
        expires_at: epoch seconds.
    """

    hash = peewee.TextField(primary_key=True)
    user = peewee.ForeignKeyField(
        User, column_name="user_id", on_delete="CASCADE", lazy_load=False, backref="+"
    )
    user_id: str
    method = peewee.TextField()
    client = peewee.TextField()
    state = peewee.TextField()
    wrong = peewee.SmallIntegerField(default=0)
    created_at = peewee.DoubleField()
    expires_at = peewee.DoubleField()

    class Meta:
        table_name = "login_challenges"
