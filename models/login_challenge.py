"""Sign-ins that wait for their second factor."""

from __future__ import annotations

import peewee

from models.base import Row
from models.user import User


class LoginChallenge(Row):
    """A sign-in whose first factor was right.

    Attributes:
        hash: SHA-256 of the challenge. The challenge itself is not stored.
        user: who signs in.
        method: the first factor: "password" or "passkey".
        client: "browser" or "native", as the sign-in was begun.
        state: the account's state when it was begun; of another one nothing comes of it.
        wrong: answers that were wrong so far.
        created_at: epoch seconds, of a clock that is not set back.
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
