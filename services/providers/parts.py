"""Creates the services of providers."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import peewee

from services.limits.hourly import HourlyLimits
from services.metrics import Metrics
from services.outbox import NO_OUTBOX, Outbox
from services.providers.authorization_requests import AuthorizationRequests
from services.providers.flow import OAuth
from services.providers.identities import Identities
from services.providers.linked_accounts import LinkedAccounts
from services.providers.logout import ProviderLogout
from services.providers.refresh import ProviderRefresh
from services.providers.registry import Providers
from services.providers.tokens import ProviderTokens
from services.registration.handovers import Handovers
from services.registration.registration import Registration
from services.sessions.login_sessions import LoginSessions
from services.sessions.revocations import Revocations
from services.sessions.session_ends import SessionEnds
from services.storage.database import Database
from services.storage.encryption import Encryption


@dataclass(frozen=True)
class OAuthParts:
    """The services of providers that handlers and other services may call."""

    providers: Providers
    flow: OAuth
    linked_accounts: LinkedAccounts
    tokens: ProviderTokens
    refresh: ProviderRefresh
    logout: ProviderLogout

    def take_out(self, db: peewee.Database, user_id: str) -> Callable[[], None]:
        """Delete a user's provider tokens from the database, within a transaction.

        Returns:
            A function that revokes them at their providers. Call it after the commit.
        """
        tokens = self.tokens.take(db, user_id)
        return lambda: self.logout.give_back(tokens)

    async def close(self) -> None:
        """Cancel calls in progress, and end the threads."""
        await self.refresh.close()
        await self.logout.close()
        self.providers.close()


def join(
    providers: Providers,
    database: Database,
    encryption: Encryption,
    login_sessions: LoginSessions,
    session_ends: SessionEnds,
    revocations: Revocations,
    limits: HourlyLimits,
    keys_are_wrong: Callable[[], bool],
    metrics: Metrics,
    registration: Registration,
    handovers: Handovers,
    clock: Callable[[], float] = time.time,
    outbox: Outbox = NO_OUTBOX,
) -> OAuthParts:
    """Create and connect the services. Nothing is started."""
    tokens = ProviderTokens(encryption, clock)
    linked = LinkedAccounts(
        database,
        login_sessions,
        session_ends,
        revocations,
        tokens,
        registration,
        clock,
        outbox,
    )
    identities = Identities(
        database, login_sessions, revocations, tokens, registration, handovers, clock, outbox
    )
    authorization_requests = AuthorizationRequests(encryption, database, clock)
    parts = OAuthParts(
        providers=providers,
        flow=OAuth(
            providers, authorization_requests, identities, linked, limits, keys_are_wrong, metrics
        ),
        linked_accounts=linked,
        tokens=tokens,
        refresh=ProviderRefresh(database, providers, tokens, session_ends, metrics, clock),
        logout=ProviderLogout(
            database, providers, tokens, session_ends, revocations, metrics, clock
        ),
    )
    handovers.on_handover(parts.take_out)
    return parts
