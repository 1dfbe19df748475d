"""One account in detail, for administrators."""

from __future__ import annotations

import msgspec
import peewee

from models.identity import Identity
from models.passkey import Passkey
from models.totp_secret import TotpSecret
from services.accounts import account_rows
from services.accounts.account_rows import UserRow
from services.errors import NotFound
from services.sessions.session_views import SessionRow, active_of


class UserDetails(msgspec.Struct, frozen=True):
    """An account, what it signs in with, and its active login sessions, last used first.

    Attributes:
        providers: names of the providers of its linked accounts.
        second_factor: whether an authenticator app is asked for after a password.
        passkeys: how many it has.
    """

    user: UserRow
    email_verified: bool
    has_password: bool
    providers: list[str]
    second_factor: bool
    passkeys: int
    sessions: list[SessionRow]


def read(db: peewee.Database, user_id: str, now: float) -> UserDetails:
    """Read an account.

    Raises:
        NotFound: it does not exist.
    """
    user = account_rows.by_id(db, user_id)
    if user is None:
        raise NotFound("no such account")
    linked = Identity.select(Identity.provider).where(Identity.user == user_id)
    confirmed = (TotpSecret.user == user_id) & TotpSecret.confirmed_at.is_null(False)
    return UserDetails(
        account_rows.row_of(user),
        bool(user.email_verified),
        user.password_hash is not None,
        [row.provider for row in linked.order_by(Identity.provider).execute(db)],
        bool(TotpSecret.select().where(confirmed).exists(db)),
        Passkey.select().where(Passkey.user == user_id).count(db),
        active_of(db, user_id, now),
    )
