"""Exchanges a refresh token for new tokens.

A refresh token works once, and again as long as nothing shows that its response arrived (steps.py).
A token that is reused later was copied, and the whole session ends (RFC 9700 section 4.14.2).
"""

from __future__ import annotations

import time
from collections.abc import Callable

import peewee

from models.login_session import LoginSession, RefreshToken
from models.user import User
from services.errors import Unauthenticated
from services.opaque import token_hash
from services.refresh.steps import Moment, current_tick, step_of_next
from services.sessions import session_rows
from services.sessions.control import Revocation
from services.sessions.login_sessions import LoginSessions
from services.sessions.revocations import Revocations
from services.sessions.session_ends import SessionEnds
from services.sessions.session_views import SignedIn
from services.storage.database import Database
from services.storage.row_locks import locked_one


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
        token = RefreshToken.select().where(RefreshToken.hash == hash_).get_or_none(db)
        if token is None:
            raise Unauthenticated("refresh: unknown token")
        session, user = self._refreshable(db, token.session_id, now)
        # Read again under the session's lock: of concurrent tabs, only one finds it unused.
        token = RefreshToken.select().where(RefreshToken.hash == hash_).get_or_none(db)
        if token is None or token.expires_at <= now:
            raise Unauthenticated("refresh: token expired")
        step = step_of_next(db, session, token, Moment(self._steady(), current_tick(db)))
        if step is None:
            return self._ends.end_within(db, session, "refresh_reuse")
        LoginSession.update({LoginSession.last_seen_at: now}).where(
            LoginSession.id == session.id
        ).execute(db)
        proof = session_rows.proof_of(session)
        return self._sessions.issue_within(db, user, session.id, session.expires_at, proof, step)

    def _refreshable(self, db: peewee.Database, sid: str, now: float) -> tuple[LoginSession, User]:
        query = LoginSession.select().where(LoginSession.id == sid)
        session = locked_one(query, db)
        if session is None or session.ended_at is not None or session.expires_at <= now:
            raise Unauthenticated("refresh: login session has ended")
        user = User.select().where(User.id == session.user_id).get(db)
        if user.disabled_at is not None or session.generation != user.generation:
            raise Unauthenticated("refresh: account disabled, or all its sessions ended")
        return session, user
