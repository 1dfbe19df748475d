"""One-time codes of native sign-ins."""

from __future__ import annotations

import peewee

from models.base import Row
from models.login_session import LoginSession


class NativeCode(Row):
    """An authorization code that a native app exchanges for the tokens of a login session.

    The row is kept as long as its login session, so that a second use is always detected.

    Attributes:
        hash: SHA-256 of the code. The code itself is not stored.
        session: the login session; no tokens of it are issued before the exchange.
        challenge: `code_challenge` of S256 (RFC 7636).
        redirect_uri: the redirect URI that the code was sent to.
        created_at: epoch seconds, of a clock that never goes back.
        used_at: epoch seconds of its first use, successful or not; None before.
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
