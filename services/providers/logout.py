"""Logout that a provider initiates, and logout at the provider that is initiated here.

OIDC Back-Channel Logout 1.0: a logout token ends the login sessions that derive from the provider's
session, and closes their sockets on every node. It needs the database and no Redis. OIDC
RP-Initiated Logout 1.0: the URL where the browser ends the provider's session. RFC 7009: provider
tokens are revoked.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

import peewee

from services.errors import BadRequest, NotFound
from services.event_loop.tasks import end_tasks
from services.metrics import Metrics
from services.oauth.errors import ProviderUnavailable, SignInRefused
from services.oauth.id_tokens import CLOCK_SKEW_SECONDS, LogoutToken
from services.providers.registry import Providers
from services.providers.tokens import ProviderTokens, TokenSet
from services.sessions.control import Revocation
from services.sessions.revocations import Revocations
from services.sessions.session_ends import SessionEnds
from services.storage.database import Database
from services.storage.encryption import DecryptionFailed
from services.storage.one_time import use_once

GIVE_BACK_TRIES = 3
GIVE_BACK_AGAIN_SECONDS = 5.0
"""Until the second try; the third comes five times as long after that."""
END_SESSION_SECONDS = 2.0
"""How long a logout waits for the provider's logout URL."""
MAX_GIVING_BACK = 1000
"""Sets that wait to be given back. More are dropped, and counted: they end by themselves."""

log = logging.getLogger("usher.oauth")


class LogoutRefused(BadRequest):
    """The logout token is invalid (OIDC Back-Channel Logout section 2.8)."""


class ProviderLogout:
    """Handles logout tokens of providers, and logs users out at providers."""

    def __init__(
        self,
        database: Database,
        providers: Providers,
        tokens: ProviderTokens,
        session_ends: SessionEnds,
        revocations: Revocations,
        metrics: Metrics,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database, self._providers, self._tokens = database, providers, tokens
        self._ends, self._revocations = session_ends, revocations
        self._metrics, self._clock = metrics, clock
        self._giving_back: set[asyncio.Task[None]] = set()

    async def receive(self, provider: str, token: str) -> int:
        """Handle a logout token. Returns how many login sessions were ended.

        Raises:
            NotFound: there is no such provider, or it has no back-channel logout.
            LogoutRefused: the token is invalid, or was received before.
            ProviderUnavailable: the provider's keys cannot be fetched.
            DatabaseUnavailable: the sessions cannot be ended now.
        """
        connection = self._providers.get(provider)
        try:
            found = await connection.ask(lambda p: p.logout_token(token))
        except SignInRefused as error:
            self._metrics.oauth_logouts.labels(outcome="refused").inc()
            raise LogoutRefused(error.evidence, error="invalid_request") from error
        if found is None:
            raise NotFound("a provider without back-channel logout")
        ended = await self._database.run(self._end, provider, found)
        if ended is None:
            self._metrics.oauth_logouts.labels(outcome="replayed").inc()
            raise LogoutRefused("logout token: sent before", error="invalid_request")
        self._metrics.oauth_logouts.labels(outcome="ended").inc()
        await self._revocations.publish(ended)
        return len(ended)

    def _end(
        self, db: peewee.Database, provider: str, token: LogoutToken
    ) -> list[Revocation] | None:
        until = token.expires_at + CLOCK_SKEW_SECONDS
        if not use_once(db, f"logout\0{provider}", token.token_id, until):
            return None
        return self._ends.end_of_provider_within(
            db, provider, token.subject, token.sid, "provider_logout"
        )

    async def end_session_url(self, login_session_id: str, back_to: str) -> str | None:
        """The URL at which the browser ends the provider's session of a login session.

        Call it before the login session is ended. None if the provider has no such endpoint, or it
        is unknown now: a logout here must not wait for the provider.

        Args:
            back_to: `post_logout_redirect_uri`, as registered at the provider.
        """
        try:
            tokens = await self._database.run(self._tokens.of_login_session, login_session_id)
        except DecryptionFailed:
            return None
        if tokens is None or tokens.provider not in self._providers:
            return None
        connection = self._providers.get(tokens.provider)
        asking = connection.ask(lambda p: p.end_session_url(tokens.grant.id_token, back_to))
        try:
            return await asyncio.wait_for(asking, END_SESSION_SECONDS)
        except (ProviderUnavailable, asyncio.TimeoutError) as error:
            log.info("%s: no way to sign out there: %s", tokens.provider, type(error).__name__)
            return None

    # ---- token revocation ------------------------------------------------------------------

    def give_back(self, sets: Sequence[TokenSet]) -> None:
        """Revoke tokens at their providers, in the background."""
        for tokens in sets:
            if tokens.provider not in self._providers:
                continue
            if len(self._giving_back) >= MAX_GIVING_BACK:
                self._metrics.oauth_given_back.labels(outcome="dropped").inc()
                continue
            task = asyncio.get_running_loop().create_task(self._revoke_all(tokens))
            self._giving_back.add(task)
            task.add_done_callback(self._giving_back.discard)

    async def _revoke_all(self, tokens: TokenSet) -> None:
        connection = self._providers.get(tokens.provider)
        for attempt in range(GIVE_BACK_TRIES):
            if attempt:
                await asyncio.sleep(GIVE_BACK_AGAIN_SECONDS * 5 ** (attempt - 1))
            try:
                sent = await connection.ask(lambda p: p.revoke(tokens.grant))
            except ProviderUnavailable as error:
                log.info("%s: tokens not given back yet: %s", tokens.provider, error.evidence)
            else:
                if sent:
                    self._metrics.oauth_given_back.labels(outcome="done").inc()
                return
        self._metrics.oauth_given_back.labels(outcome="failed").inc()

    async def close(self) -> None:
        """Cancel revocations that are still pending."""
        await end_tasks(*self._giving_back)
