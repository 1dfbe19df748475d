"""Valid provider tokens on demand, refreshed before they expire by one caller at a time.

Of all callers on all nodes only one calls the provider. On a node they share one task; between
nodes the row is claimed for a while. So a single-use refresh token is used once. A provider that
does not respond only delays the next attempt. The tokens, their login session and its sockets end
with `invalid_grant`, with tokens of another subject, and with a provider that refuses for long.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

import msgspec

from models.oauth_token import OAuthToken
from services.errors import NotFound, UsherError
from services.metrics import Metrics
from services.oauth.errors import (
    GrantEnded,
    ProviderUnavailable,
    SignInRefused,
    SubjectChanged,
)
from services.oauth.token_endpoint import Grant
from services.providers import refresh_rows
from services.providers.refresh_rows import KEEP_BATCH, same
from services.providers.refusals import has_ended, refused_since
from services.providers.registry import Connection, Providers
from services.providers.tokens import ProviderTokens, TokenSet
from services.secret import Secret
from services.sessions.session_ends import SessionEnds
from services.storage.database import Database

WAIT_SECONDS = 20.0
"""How long a caller waits for another node."""
LOOK_SECONDS = 0.2
CLOSE_SECONDS = 10.0
KEEP_SECONDS = 15.0
"""How often sets are looked for that are near their end."""
BACK_OFF_SECONDS, MOST_BACK_OFF_SECONDS = 5.0, 300.0

log = logging.getLogger("usher.oauth")


class ProviderToken(msgspec.Struct, frozen=True):
    """An access token of a provider. `expires_at`: epoch seconds; None if unknown."""

    access_token: Secret
    scopes: str
    expires_at: float | None


class ProviderRefresh:
    """Returns valid provider tokens, and refreshes them ahead of their expiry."""

    def __init__(
        self,
        database: Database,
        providers: Providers,
        tokens: ProviderTokens,
        session_ends: SessionEnds,
        metrics: Metrics,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database, self._providers, self._tokens = database, providers, tokens
        self._ends, self._metrics, self._clock = session_ends, metrics, clock
        self._flights: dict[str, asyncio.Task[TokenSet]] = {}

    async def valid(self, user_id: str, provider: str) -> ProviderToken:
        """A user's access token of a provider that is valid for a while.

        Raises:
            NotFound: the user has neither signed in with that provider nor linked it, or the
                provider has just ended the session.
            ProviderUnavailable: the token must be refreshed, and the provider does not respond.
            DatabaseUnavailable, DecryptionFailed: the token cannot be read.
        """
        tokens_id = await self._database.run(self._tokens.newest, user_id, provider)
        if tokens_id is None:
            raise NotFound("no active tokens of that provider")
        tokens = await self._load(tokens_id)
        if self._is_due(tokens):
            tokens = await self._refreshed(tokens)
        grant = tokens.grant
        return ProviderToken(grant.access_token, grant.scopes, grant.expires_at)

    async def keep(self) -> None:
        """Refresh tokens that expire soon, so that sessions ended by the provider end here, too.

        Raises:
            DatabaseUnavailable: retry later.
        """
        keeping = [self._refresh_all_of(connection.name) for connection in self._providers]
        _raise_first(await asyncio.gather(*keeping, return_exceptions=True), but=())

    async def _refresh_all_of(self, provider: str) -> None:
        """Refresh all due token sets of a provider, page by page.

        Stops when a whole page fails, because the provider is then unavailable.
        """
        page: list[tuple[float, str]] = []
        after = (0.0, "")
        while not page or len(page) == KEEP_BATCH:
            page = await self._database.run(refresh_rows.due, provider, after, self._clock)
            kept = await asyncio.gather(
                *(self._refresh_one(tokens_id) for _, tokens_id in page), return_exceptions=True
            )
            _raise_first(kept, but=UsherError)
            if kept.count(False) == len(page):
                return
            after = page[-1]

    async def _refresh_one(self, tokens_id: str) -> bool:
        """Refresh one set. Returns whether it was refreshed."""
        try:
            return not self._is_due(await self._refreshed(await self._load(tokens_id)))
        except ProviderUnavailable:
            return False

    async def close(self) -> None:
        """Wait for refreshes in progress, because their responses must be stored."""
        if self._flights:
            await asyncio.wait(tuple(self._flights.values()), timeout=CLOSE_SECONDS)

    def _is_due(self, tokens: TokenSet) -> bool:
        """Whether it should be refreshed, if it can be."""
        now, ends_at = self._clock(), tokens.grant.expires_at
        if ends_at is None or tokens.refresh_at is None:
            return False
        return min(tokens.refresh_at, ends_at) <= now

    async def _load(self, tokens_id: str) -> TokenSet:
        tokens = await self._database.run(self._tokens.get, tokens_id)
        if tokens is None:
            raise NotFound("the tokens are gone")
        return tokens

    # ---- one at a time ---------------------------------------------------------------------

    async def _refreshed(self, tokens: TokenSet) -> TokenSet:
        """The refreshed set, or the current one if it is still valid.

        Raises:
            NotFound: the provider has ended the session.
            ProviderUnavailable: the token has expired, and cannot be refreshed now.
        """
        flight = self._flights.get(tokens.id)
        if flight is None:
            flight = asyncio.get_running_loop().create_task(self._refresh(tokens))
            self._flights[tokens.id] = flight
            flight.add_done_callback(partial(self._on_flight_done, tokens.id))
        try:
            return await asyncio.shield(flight)  # a cancelled caller does not cancel the refresh
        except ProviderUnavailable:
            if (tokens.grant.expires_at or 0.0) > self._clock():
                return tokens  # old, and good for a moment yet
            raise

    def _on_flight_done(self, tokens_id: str, flight: asyncio.Task[TokenSet]) -> None:
        self._flights.pop(tokens_id, None)
        if not flight.cancelled():
            flight.exception()  # seen here, or asyncio logs it when every caller has left

    async def _refresh(self, tokens: TokenSet) -> TokenSet:
        give_up = self._clock() + WAIT_SECONDS
        while True:
            if not self._is_due(tokens):
                return tokens  # another node was faster
            if tokens.grant.refresh_token is None:
                raise ProviderUnavailable("the token has expired, and there is no refresh token")
            if (tokens.try_at or 0.0) > self._clock():
                raise ProviderUnavailable("the provider failed just now; it is tried again later")
            claim = await self._database.run(refresh_rows.claim, tokens, self._clock)
            if claim is not None:
                return await self._ask(tokens, tokens.grant.refresh_token, claim)
            if self._clock() > give_up:
                raise ProviderUnavailable("another node is refreshing it")
            await asyncio.sleep(LOOK_SECONDS)
            tokens = await self._load(tokens.id)

    async def _ask(self, tokens: TokenSet, refresh_token: Secret, claim: float) -> TokenSet:
        try:
            connection = self._providers.get(tokens.provider)
            grant = await connection.ask(
                lambda p: p.refresh(refresh_token, tokens.subject), to_its_end=True
            )
        except GrantEnded:
            return await self._end(tokens, "invalid_grant")
        except SubjectChanged as error:
            return await self._end(tokens, error.evidence)
        except (ProviderUnavailable, NotFound) as error:
            if has_ended(tokens, error, self._clock(), self._refusal_limit(tokens.provider)):
                return await self._end(tokens, error.evidence)
            await self._fail(tokens, claim, error)
            raise ProviderUnavailable(error.evidence) from error
        self._count("refreshed")
        # Stored first, because the previous refresh token may be invalid now.
        kept = await self._store_new(tokens, grant)
        await self._check(connection, grant)
        return kept

    async def _check(self, connection: Connection, grant: Grant) -> None:
        """Say it where the new ID token can't be checked: a key that is not published yet, a
        clock. It ends nothing; the tokens are the same person's."""
        try:
            await connection.ask(lambda p: p.check_refreshed(grant))
        except (ProviderUnavailable, SignInRefused) as error:
            self._count("unchecked")
            log.warning("%s: a refreshed ID token: %s", connection.name, error.evidence)

    def _refusal_limit(self, provider: str) -> float:
        known = provider in self._providers
        return self._providers.get(provider).settings.refused_seconds if known else math.inf

    async def _store_new(self, tokens: TokenSet, grant: Grant) -> TokenSet:
        """Store the new tokens, with retries, because the old refresh token may be invalid now."""
        for attempt in range(3):
            try:
                await self._database.run(self._tokens.replace, tokens, grant)
                break
            except UsherError:
                if attempt == 2:
                    raise
                await asyncio.sleep(1.0)
        try:
            return await self._load(tokens.id)
        except NotFound:
            # Unlinked or deleted meanwhile, and only the old ones were given back.
            with suppress(ProviderUnavailable):
                await self._providers.get(tokens.provider).ask(lambda p: p.revoke(grant))
            raise

    async def _fail(self, tokens: TokenSet, claim: float, error: UsherError) -> None:
        self._count("failed")
        log.warning("%s: refresh failed: %s", tokens.provider, error.evidence)
        wait = min(BACK_OFF_SECONDS * 2 ** min(tokens.failures, 10), MOST_BACK_OFF_SECONDS)
        changes = {
            OAuthToken.claimed_until: None,
            OAuthToken.failures: tokens.failures + 1,
            OAuthToken.refused_since: refused_since(tokens, error, self._clock()),
            # A random delay: many sets fail together, and must not be retried together.
            OAuthToken.try_at: self._clock() + wait * random.uniform(0.5, 1.0),  # noqa: S311
        }
        mine = same(tokens) & (OAuthToken.claimed_until == claim)
        await self._database.run(lambda db: OAuthToken.update(changes).where(mine).execute(db))

    async def _end(self, tokens: TokenSet, why: str) -> TokenSet:
        """End the login session, because the provider's session has ended.

        Returns:
            The set, if another node has refreshed it meanwhile: then only our copy was outdated.

        Raises:
            NotFound: the session was ended.
        """
        current = await self._load(tokens.id)
        if current.version != tokens.version:
            return current
        self._count("ended")
        log.info("%s: the provider has ended a session (%s)", tokens.provider, why)
        if tokens.login_session_id is not None:
            with suppress(NotFound):  # over already
                await self._ends.end(
                    tokens.user_id, tokens.login_session_id, "provider_session_ended"
                )
        unchanged = same(tokens)
        await self._database.run(lambda db: OAuthToken.delete().where(unchanged).execute(db))
        raise NotFound("the provider has ended the session")

    def _count(self, outcome: str) -> None:
        self._metrics.oauth_refreshes.labels(outcome=outcome).inc()


def _raise_first(
    results: Sequence[object], but: type[BaseException] | tuple[type[BaseException], ...]
) -> None:
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, but):
            raise result
