"""One-time codes of native sign-ins."""

from __future__ import annotations

import peewee

from models.base import Row
from models.login_session import LoginSession


class NativeCode(Row):
    """A code that becomes the login session of a native app.

    It stays as long as its login session does, so that a second use is noticed whenever it comes.

    Attributes:
        hash: SHA-256 of the code. The code itself is nowhere.
        session: the login session that it hands over; nobody has tokens of it before.
        challenge: `code_challenge` of S256 (RFC 7636).
        redirect_uri: where the code was sent.
        created_at: epoch seconds, of a clock that is not set back.
        used_at: epoch seconds of its first use, good or not; None before.
    """

    hash = peewee.TextField(primary_key=True)
    session = peewee.ForeignKeyField(
        LoginSession, column_name="session_id", on_delete="CASCADE", lazy_load=False, backref="+"
    )
    session_id: str
    challenge = peewee.TextField()
    redirect_uri = peewee.TextField()
    created_at = peewee.DoubleField()
    used_at = peewee.DoubleField(null=True)

    class Meta:
        table_name = "native_codes"
