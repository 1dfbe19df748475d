"""Login sessions and their refresh tokens."""

from __future__ import annotations

import peewee

from models.base import Row
from models.user import User


class LoginSession(Row):
    """One sign-in on one device; all of its tokens and sockets have its id.

    Attributes:
        id: random, URL-safe; the `sid` of its tokens.
        user: the account. Read `user_id`: the account's row is not fetched automatically.
        method: "password", or "oauth:" and the provider's name.
        device, ip: the client's device and address, for the user's own list of sessions.
        created_at, last_seen_at: epoch seconds.
        expires_at: epoch seconds, absolute: no refresh extends it (ASVS 3.3.2).
        ended_at, end_reason: set once, when it was signed out or revoked. If all sessions of
            the user were ended at once, they are set some time later.
        generation: the user's generation at sign-in. Active sessions have the user's current one:
            to end all of them, it is incremented in the user's row.
        step, step_at, step_tick: the newest step of its refresh tokens that was used, and when it
            was first: epoch seconds, and the counter of services/refresh/steps.py.
        provider, provider_subject: the identity that it was opened with; None for a password.
        client: "browser", "native" (an app), or "" if it was opened before version 1.1.
        auth_time: when the user last authenticated, epoch seconds; None before version 1.1. Read
            `proven_at`.
        acr: the number of factors: "1", or "2".
        auth_epoch: epoch of the clock that `auth_time` was read from; see
            services/step_up/freshness.py.
        provider_sid: the provider's session (`sid`, OIDC Back-Channel Logout section 2.1), or None.
    """

    id = peewee.TextField(primary_key=True)
    user = peewee.ForeignKeyField(
        User, column_name="user_id", on_delete="CASCADE", lazy_load=False, backref="+"
    )
    user_id: str  # the column itself; Peewee adds it, its stubs do not
    method = peewee.TextField()
    device = peewee.TextField(default="")
    ip = peewee.TextField(default="")
    created_at = peewee.DoubleField()
    last_seen_at = peewee.DoubleField()
    expires_at = peewee.DoubleField(index=True)
    ended_at = peewee.DoubleField(null=True)
    end_reason = peewee.TextField(null=True)
    generation = peewee.IntegerField(default=0)
    step = peewee.IntegerField(default=0)
    step_at = peewee.DoubleField(null=True)
    step_tick = peewee.IntegerField(null=True)
    provider = peewee.TextField(null=True)
    provider_subject = peewee.TextField(null=True)
    provider_sid = peewee.TextField(null=True)
    client = peewee.TextField(default="")
    auth_time = peewee.DoubleField(null=True)
    acr = peewee.TextField(default="1")
    auth_epoch = peewee.IntegerField(default=0)

    @property
    def proven_at(self) -> float:
        """When its user authenticated, epoch seconds."""
        return float(self.created_at if self.auth_time is None else self.auth_time)

    class Meta:
        table_name = "login_sessions"


class RefreshToken(Row):
    """One refresh token, used or not. Reuse of a used one indicates a theft (RFC 9700 4.14).

    Attributes:
        hash: SHA-256 of the token. The token itself is not stored.
        session: its login session. Read `session_id`.
        created_at, expires_at: epoch seconds.
        rotated_at, rotated_tick: its first use in epoch seconds, and by the counter of
            services/refresh/steps.py; None before.
        step: 1 for the first token of its session; each use issues one of the next step.
        replaced: whether it is invalid, because another was issued instead before it was used.
    """

    hash = peewee.TextField(primary_key=True)
    session = peewee.ForeignKeyField(
        LoginSession, column_name="session_id", on_delete="CASCADE", lazy_load=False, backref="+"
    )
    session_id: str
    created_at = peewee.DoubleField()
    expires_at = peewee.DoubleField(index=True)
    rotated_at = peewee.DoubleField(null=True)
    rotated_tick = peewee.IntegerField(null=True)
    step = peewee.IntegerField(default=1)
    replaced = peewee.BooleanField(default=False)

    class Meta:
        table_name = "refresh_tokens"
