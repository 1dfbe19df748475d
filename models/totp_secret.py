"""Second factors: secrets of authenticator apps, and recovery codes."""

from __future__ import annotations

import peewee

from models.base import Row
from models.user import User


class TotpSecret(Row):
    """The secret of a user's authenticator app (RFC 6238).

    Attributes:
        user: whose it is; one each.
        secret: Fernet ciphertext of the Base32 text.
        created_at: epoch seconds.
        confirmed_at: epoch seconds of the first right code; None while it is not in use.
        last_step: the time step of the newest code that was used; no code of it or before it is
            taken (section 5.2).
    """

    user = peewee.ForeignKeyField(
        User,
        column_name="user_id",
        primary_key=True,
        on_delete="CASCADE",
        lazy_load=False,
        backref="+",
    )
    user_id: str
    secret = peewee.TextField()
    created_at = peewee.DoubleField()
    confirmed_at = peewee.DoubleField(null=True)
    last_step = peewee.BigIntegerField(default=0)

    class Meta:
        table_name = "totp_secrets"


class RecoveryCode(Row):
    """A one-time code that replaces a lost authenticator. The row is deleted when it is used.

    Attributes:
        hash: SHA-256 of the user's id and the code. The code itself is not stored.
        user: whose it is.
    """

    hash = peewee.TextField(primary_key=True)
    user = peewee.ForeignKeyField(
        User, column_name="user_id", on_delete="CASCADE", lazy_load=False, backref="+"
    )
    user_id: str

    class Meta:
        table_name = "recovery_codes"
