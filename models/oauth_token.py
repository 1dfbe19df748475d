"""Provider tokens, encrypted."""

from __future__ import annotations

import peewee

from models.base import Row
from models.login_session import LoginSession
from models.user import User


class OAuthToken(Row):
    """The tokens of one sign-in with a provider, or of one linking.

    Attributes:
        id: random, URL-safe.
        provider, subject: the identity; the tokens are deleted when it is unlinked.
        user: the account here. Read `user_id`.
        login_session: the login session of the same sign-in; None after a linking. Read
            `login_session_id`.
        access_token, refresh_token, id_token: Fernet ciphertext.
        scopes: as granted, separated by spaces.
        expires_at: when the access token expires, epoch seconds; None if the provider does not say.
        refresh_at: when to refresh it, epoch seconds; None if it does not expire.
        created_at: epoch seconds.
        version: incremented by each refresh.
        claimed_until: epoch seconds until which one node has claimed the refresh.
        failures: number of consecutive failed refreshes.
        try_at: epoch seconds of the next attempt; None after a success.
        refused_since: epoch seconds since when the provider has refused refreshes with an error
            other than `invalid_grant`; None after a success.
    """

    id = peewee.TextField(primary_key=True)
    provider = peewee.TextField()
    subject = peewee.TextField()
    user = peewee.ForeignKeyField(
        User, column_name="user_id", on_delete="CASCADE", lazy_load=False, backref="+"
    )
    user_id: str
    login_session = peewee.ForeignKeyField(
        LoginSession,
        column_name="login_session_id",
        on_delete="CASCADE",
        null=True,
        lazy_load=False,
        backref="+",
    )
    login_session_id: str | None
    access_token = peewee.TextField()
    refresh_token = peewee.TextField(null=True)
    id_token = peewee.TextField(null=True)
    scopes = peewee.TextField(default="")
    expires_at = peewee.DoubleField(null=True)
    refresh_at = peewee.DoubleField(null=True)
    created_at = peewee.DoubleField()
    version = peewee.IntegerField(default=1)
    claimed_until = peewee.DoubleField(null=True)
    failures = peewee.IntegerField(default=0)
    try_at = peewee.DoubleField(null=True)
    refused_since = peewee.DoubleField(null=True)

    class Meta:
        table_name = "oauth_tokens"
