"""Deletes expired rows, a few at a time."""

from __future__ import annotations

import time
from collections.abc import Callable

import peewee

from models.account_link import AccountLink
from models.audit_event import AuditEvent
from models.idempotency_key import IdempotencyKey
from models.invitation import Invitation
from models.known_network import KnownNetwork
from models.login_challenge import LoginChallenge
from models.login_session import LoginSession, RefreshToken
from models.oauth_token import OAuthToken
from models.revocation import Revocation
from models.ticket import Ticket
from models.used_once import UsedOnce
from services.sessions.session_rows import BATCH, is_active, settle
from services.storage.database import Database
from services.webhooks.records import BATCH as DELIVERIES_BATCH
from services.webhooks.records import delete_done, delete_of_deleted

PURGE_SECONDS = 60.0
KEEP_SESSIONS_SECONDS = 30 * 86400.0
"""How long ended sessions are kept, for the list of past sessions."""
KEEP_AUDIT_SECONDS = 90 * 86400.0
KEEP_DELIVERIES_SECONDS = 7 * 86400.0
KEEP_NETWORKS_SECONDS = 180 * 86400.0
"""A network without a sign-in for half a year is no longer known."""


class Upkeep:
    """Purges expired rows.

    Args:
        keep_audit: seconds that rows of the audit trail are kept.
        keep_deliveries: seconds that deliveries of webhooks are kept once they are done.
    """

    def __init__(
        self,
        database: Database,
        clock: Callable[[], float] = time.time,
        keep_audit: float = KEEP_AUDIT_SECONDS,
        keep_deliveries: float = KEEP_DELIVERIES_SECONDS,
    ) -> None:
        self._keep_deliveries = keep_deliveries
        self._database, self._keep_audit, self._clock = database, keep_audit, clock

    async def purge(self) -> None:
        """Delete expired revocations, tickets, links, invitations, refresh tokens and old sessions,
        and provider tokens of login sessions that are over.

        Raises:
            DatabaseUnavailable: retry later.
        """
        now = self._clock()
        for row, key, ends, before in (
            (Revocation, Revocation.id, Revocation.expires_at, now),
            (Ticket, Ticket.hash, Ticket.expires_at, now),
            (AccountLink, AccountLink.hash, AccountLink.expires_at, now),
            (Invitation, Invitation.id, Invitation.expires_at, now),
            (LoginChallenge, LoginChallenge.hash, LoginChallenge.expires_at, now),
            (UsedOnce, UsedOnce.hash, UsedOnce.expires_at, now),
            (IdempotencyKey, IdempotencyKey.hash, IdempotencyKey.expires_at, now),
            (RefreshToken, RefreshToken.hash, RefreshToken.expires_at, now),
            (LoginSession, LoginSession.id, LoginSession.expires_at, now - KEEP_SESSIONS_SECONDS),
            (AuditEvent, AuditEvent.id, AuditEvent.at, now - self._keep_audit),
        ):
            while await self._database.run(_delete_expired, row, key, ends < before) == BATCH:
                pass
        for ended in await self._database.run(_ended_generations, now):
            while await self._database.run(settle, *ended) == BATCH:
                pass
        while await self._database.run(_delete_orphans, now) == BATCH:
            pass
        await self._purge_deliveries(now)
        forgotten = now - KEEP_NETWORKS_SECONDS
        while await self._database.run(_delete_networks, forgotten) == BATCH:
            pass

    async def _purge_deliveries(self, now: float) -> None:
        done = now - self._keep_deliveries
        while await self._database.run(delete_done, done) == DELIVERIES_BATCH:
            pass
        while await self._database.run(delete_of_deleted, now):
            pass


def _ended_generations(db: peewee.Database, now: float) -> list[tuple[str, int, float, str]]:
    """Recent ends of all login sessions of a user, oldest first, as arguments of `settle`."""
    rows = (
        Revocation.select()
        .where((Revocation.kind == "user") & (Revocation.expires_at > now))
        .order_by(Revocation.id)
    )
    return [(r.user_id, r.generation, r.created_at, r.reason) for r in rows.execute(db)]


def _delete_expired(
    db: peewee.Database, row: type[peewee.Model], key: peewee.Field, expired: peewee.Expression
) -> int:
    some = row.select(key).where(expired).limit(BATCH)
    return int(row.delete().where(key.in_(some)).execute(db))


def _delete_networks(db: peewee.Database, before: float) -> int:
    # Row by row of a user and network: the key has two columns, which IN takes on neither kind.
    query = KnownNetwork.select().where(KnownNetwork.last_used_at < before).limit(BATCH)
    rows = [(row.user_id, row.network) for row in query.execute(db)]
    for user_id, network in rows:
        this = (KnownNetwork.user == user_id) & (KnownNetwork.network == network)
        KnownNetwork.delete().where(this & (KnownNetwork.last_used_at < before)).execute(db)
    return len(rows)


def _delete_orphans(db: peewee.Database, now: float) -> int:
    over = ~is_active(now)
    some = OAuthToken.select(OAuthToken.id).join(LoginSession).where(over).limit(BATCH)
    return int(OAuthToken.delete().where(OAuthToken.id.in_(some)).execute(db))
