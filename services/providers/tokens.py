"""Provider tokens at rest: encrypted when stored, decrypted when used (ASVS 6.2.1).

A set of tokens belongs to the login session that a sign-in opened and is deleted with it. A set for
a linked account is deleted with the link.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable

import msgspec
import peewee

from models.login_session import LoginSession
from models.oauth_token import OAuthToken
from models.user import User
from services.oauth.token_endpoint import Grant
from services.secret import Secret
from services.sessions.session_rows import is_active
from services.storage.encryption import DecryptionFailed, Encryption

AHEAD_SECONDS = 120.0
"""Tokens are refreshed so long before their end, so that who gets one has time to use it; those
that live shorter (Keycloak's, a minute) when half of their life is over."""
LEAST_SECONDS = 10.0
"""However short they live, they are not refreshed again sooner."""

log = logging.getLogger("usher.oauth")


class TokenSet(msgspec.Struct, frozen=True):
    """One set of tokens, decrypted. Times are epoch seconds; see models/oauth_token.py."""

    id: str
    provider: str
    subject: str
    user_id: str
    login_session_id: str | None
    grant: Grant
    refresh_at: float | None
    version: int
    failures: int
    try_at: float | None
    refused_since: float | None


class ProviderTokens:
    """Writes and reads sets of tokens, within the caller's transaction."""

    def __init__(self, encryption: Encryption, clock: Callable[[], float] = time.time) -> None:
        self._encryption, self._clock = encryption, clock

    def insert(
        self,
        db: peewee.Database,
        user_id: str,
        identity: tuple[str, str],
        login_session_id: str | None,
        grant: Grant,
    ) -> None:
        """Store the tokens of a sign-in or a linking.

        Args:
            identity: provider and subject.
            login_session_id: the login session; None for a linking, whose set replaces the
                previous one.
        """
        provider, subject = identity
        if login_session_id is None:
            OAuthToken.delete().where(
                (OAuthToken.provider == provider)
                & (OAuthToken.subject == subject)
                & OAuthToken.login_session.is_null()
            ).execute(db)
        OAuthToken.insert(
            id=secrets.token_urlsafe(16),
            provider=provider,
            subject=subject,
            user=user_id,
            login_session=login_session_id,
            created_at=self._clock(),
            **self._sealed(grant),
        ).execute(db)

    def replace(self, db: peewee.Database, tokens: TokenSet, grant: Grant) -> bool:
        """Replace a set with the refreshed one. Returns False if the set was deleted, or replaced
        by another node."""
        sealed = self._sealed(grant)
        if grant.id_token is None:
            del sealed["id_token"]  # most providers give none at a refresh: the first one stays
        changes = {
            **sealed,
            "version": tokens.version + 1,
            "claimed_until": None,
            "failures": 0,
            "try_at": None,
            "refused_since": None,
        }
        same = (OAuthToken.id == tokens.id) & (OAuthToken.version == tokens.version)
        return bool(OAuthToken.update(changes).where(same).execute(db))

    def get(self, db: peewee.Database, tokens_id: str) -> TokenSet | None:
        """A set by its id.

        Raises:
            DecryptionFailed: no encryption key fits.
        """
        row = OAuthToken.select().where(OAuthToken.id == tokens_id).get_or_none(db)
        return None if row is None else self._opened(row)

    def newest(self, db: peewee.Database, user_id: str, provider: str) -> str | None:
        """The id of a user's newest set of a provider that is alive: linked, or of an active
        login session. One that is over and can't be refreshed only where there is no other: some
        providers give a refresh token at the first sign-in only."""
        now, ends_at = self._clock(), OAuthToken.expires_at
        of_use = OAuthToken.refresh_token.is_null(False) | ends_at.is_null() | (ends_at > now)
        row = (
            active(now)
            .where((OAuthToken.user == user_id) & (OAuthToken.provider == provider))
            .order_by(of_use.desc(), OAuthToken.created_at.desc(), OAuthToken.id)
            .get_or_none(db)
        )
        return None if row is None else str(row.id)

    def of_login_session(self, db: peewee.Database, login_session_id: str) -> TokenSet | None:
        """The set of an active login session. Raises as `get`."""
        same = OAuthToken.login_session == login_session_id
        row = active(self._clock()).where(same).get_or_none(db)
        return None if row is None else self.get(db, row.id)

    def take(
        self, db: peewee.Database, user_id: str, provider: str | None = None
    ) -> list[TokenSet]:
        """Delete and return a user's sets, of one provider or of all, to revoke them.

        Sets that no key fits are deleted as well, because the account's data must be deleted.
        """
        mine = OAuthToken.user == user_id
        if provider is not None:
            mine &= OAuthToken.provider == provider
        found = []
        for row in OAuthToken.select().where(mine).execute(db):
            try:
                found.append(self._opened(row))
            except DecryptionFailed:
                log.warning("tokens of %s are not given back: no key fits", row.provider)
        OAuthToken.delete().where(mine).execute(db)
        return found

    def _sealed(self, grant: Grant) -> dict[str, object]:
        return {
            "access_token": self._encryption.encrypt(grant.access_token.reveal()),
            "refresh_token": self._encrypt(grant.refresh_token),
            "id_token": self._encrypt(grant.id_token),
            "scopes": grant.scopes,
            "expires_at": grant.expires_at,
            "refresh_at": self._refresh_at(grant),
        }

    def _refresh_at(self, grant: Grant) -> float | None:
        if grant.expires_at is None:
            return None
        now = self._clock()
        ahead = min(AHEAD_SECONDS, (grant.expires_at - now) / 2)
        return max(grant.expires_at - ahead, now + LEAST_SECONDS)

    def _encrypt(self, token: Secret | None) -> str | None:
        return None if token is None else self._encryption.encrypt(token.reveal())

    def _opened(self, row: OAuthToken) -> TokenSet:
        grant = Grant(
            self._open(row.access_token),
            None if row.refresh_token is None else self._open(row.refresh_token),
            None if row.id_token is None else self._open(row.id_token),
            row.scopes,
            row.expires_at,
        )
        return TokenSet(
            row.id,
            row.provider,
            row.subject,
            row.user_id,
            row.login_session_id,
            grant,
            row.refresh_at,
            row.version,
            row.failures,
            row.try_at,
            row.refused_since,
        )

    def _open(self, ciphertext: str) -> Secret:
        return Secret(self._encryption.decrypt(ciphertext).decode())


def active(now: float) -> peewee.ModelSelect[OAuthToken]:
    """Ids of the sets that are linked to an account which may sign in, or of a login session that
    is not over."""
    alive = LoginSession.id.is_null(False) & is_active(now)
    linked = OAuthToken.login_session.is_null() & User.disabled_at.is_null()
    return (
        OAuthToken.select(OAuthToken.id)
        .join(LoginSession, peewee.JOIN.LEFT_OUTER)
        .switch(OAuthToken)
        .join(User)
        .where(linked | alive)
    )
