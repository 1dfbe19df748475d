"""Exchanges a refresh token for new tokens.

A refresh token works once, and again as long as nothing shows that its response arrived (steps.py).
A token that is reused later was copied, and the whole session ends (RFC 9700 section 4.14.2).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import cast

import peewee

from services.claims import Acr, Proof
from services.errors import Unauthenticated
from services.opaque import token_hash
from services.refresh.rows import RefreshRows
from services.refresh.steps import Moment, replace, use
from services.sessions.control import Revocation
from services.sessions.login_sessions import LoginSessions
from services.sessions.revocations import Revocations
from services.sessions.session_ends import SessionEnds
from services.sessions.session_views import SignedIn
from services.storage.database import Database


class RefreshRotation:
    """Exchanges refresh tokens.

    Args:
        steady: as `clock`, but never set back within the process; used for the grace period of
            concurrent tabs. The clock itself by default.
    """

    def __init__(
        self,
        database: Database,
        login_sessions: LoginSessions,
        session_ends: SessionEnds,
        revocations: Revocations,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] | None = None,
    ) -> None:
        self._database, self._revocations = database, revocations
        self._sessions, self._ends = login_sessions, session_ends
        self._clock = clock
        self._steady = clock if steady is None else steady
        self._rows = RefreshRows()

    async def refresh(self, refresh_token: str) -> SignedIn:
        """Exchange a refresh token for new tokens (RFC 6749 section 6).

        Raises:
            Unauthenticated: unknown, expired, of an ended session, or reused. Reuse ends the whole
                session, because one of two holders stole the token.
        """
        outcome = await self._database.run(self._rotate, token_hash(refresh_token))
        if isinstance(outcome, Revocation):
            await self._revocations.publish([outcome])
            raise Unauthenticated("refresh: a used token came back; its session was ended")
        await self._sessions.announce(outcome)
        return outcome

    def _rotate(self, db: peewee.Database, hash_: str) -> SignedIn | Revocation:
        now = self._clock()
        refused = self._rows.lock(db, hash_, now)
        if refused is not None:
            raise Unauthenticated(f"refresh: {refused}")
        presented = self._rows.read(db, hash_)
        if presented is None or presented.expires_at <= now:
            raise Unauthenticated("refresh: token expired")
        if presented.is_over:
            raise Unauthenticated("refresh: account disabled, or all its sessions ended")
        moment = Moment(self._steady(), presented.tick)
        used = use(presented.session, presented.token, moment)
        alive, account = presented.alive, presented.account
        if used is None:
            return self._ends.end_within(db, alive.id, account.id, "refresh_reuse")
        if used.replaces:
            replace(db, presented.session)
        self._rows.record(db, presented, used, moment, now)
        proof = Proof(cast("Acr", alive.acr), alive.auth_time, alive.auth_epoch)
        return self._sessions.issue_within(
            db, account, alive.id, alive.expires_at, proof, used.next_step
        )
