"""Step-up: sensitive calls require a recent authentication (RFC 9470).

A sign-in counts as recent for STEP_UP_SECONDS. After that, the user authenticates again within the
same login session, which gets new tokens. A user who has a second factor needs it here, too.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import peewee

from models.login_session import LoginSession
from models.user import User
from services.accounts.accounts import Accounts
from services.claims import Acr, Proof
from services.errors import PasskeyRefused, StepUpNeeded, Unauthenticated
from services.factors.factors import Factors
from services.factors.passkeys import Assertion, Passkeys
from services.sessions import session_rows
from services.sessions.admission import Identity
from services.sessions.login_sessions import LoginSessions
from services.sessions.session_views import Account, SignedIn
from services.step_up.freshness import Freshness
from services.storage.database import Database
from services.storage.row_locks import locked_one

PASSKEY = "passkey"
PASSWORD = "password"  # noqa: S105 - the name of a method


class StepUp:
    """Requires and accepts recent authentications."""

    def __init__(
        self,
        database: Database,
        accounts: Accounts,
        login_sessions: LoginSessions,
        freshness: Freshness,
        factors: Factors,
        passkeys: Passkeys,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database, self._clock = database, clock
        self._accounts, self._sessions = accounts, login_sessions
        self._freshness, self._factors, self._passkeys = freshness, factors, passkeys

    async def require(self, identity: Identity, *, password_given: bool = False) -> None:
        """Require that the user has authenticated recently, with all factors of the account.

        Args:
            password_given: the call itself contained the right password.

        Raises:
            StepUpNeeded: they have not.
        """
        factors = await self._factors.methods(identity.user_id)
        if password_given and not factors:
            return
        proven_by_all = not factors or identity.claims.acr == "2"
        if not (proven_by_all and self._freshness.is_fresh(identity.claims, identity.proof_epoch)):
            raise await self._needed(identity.user_id, factors)

    async def prove(
        self,
        identity: Identity,
        password: str | None,
        code: str | None,
        asserted: Assertion | None = None,
    ) -> SignedIn:
        """Return new tokens for a user who authenticates again. With a second factor, the code
        alone is enough, because the login session began with the first one. A passkey with user
        verification is enough too; without it, it is one factor.

        Args:
            asserted: the verified signature of a passkey.

        Raises:
            StepUpNeeded: the password alone is not enough for this account, or nothing was given.
            WrongPassword, WrongCode, PasskeyRefused: it is wrong.
            RateLimited: too many wrong ones in this login session, or too many sign-ins.
            Unauthenticated: the login session has ended.
        """
        user_id, sid = identity.user_id, identity.claims.sid
        factors = await self._factors.methods(user_id)
        given = (password is not None) + (asserted is not None)
        if not factors:
            code = None  # the account has no codes
        by_two = code is not None or given == 2 or (asserted is not None and asserted.acr == "2")
        if not (by_two or (given and not factors)):
            raise await self._needed(user_id, factors)
        if asserted is not None and asserted.user_id != user_id:
            raise PasskeyRefused("step-up: a passkey of another user")
        known_hash: str | None = None
        acr: Acr = "2" if by_two else "1"
        if password is not None:
            known_hash = await self._accounts.confirm(user_id, sid, password)
        if code is not None:
            acr = await self._factors.prove(user_id, sid, code)
        await self._accounts.count_sign_in(user_id)
        signed_in = await self._database.run(self._renew, user_id, sid, acr, known_hash, asserted)
        await self._sessions.announce(signed_in)
        return signed_in

    def _renew(
        self,
        db: peewee.Database,
        user_id: str,
        sid: str,
        acr: Acr,
        known_hash: str | None,
        asserted: Assertion | None,
    ) -> SignedIn:
        """Record the proof in the login session, and issue its new tokens."""
        now = self._clock()
        session = locked_one(LoginSession.select().where(LoginSession.id == sid), db)
        user = User.select().where(User.id == user_id).get_or_none(db)
        if session is None or user is None or not session_rows.active(db, user_id, sid, now):
            raise Unauthenticated("step-up: login session has ended")
        if known_hash is not None and user.password_hash != known_hash:
            raise Unauthenticated("step-up: password changed meanwhile")
        if asserted is not None:
            self._passkeys.use(db, asserted)
        proof = self._sessions.dated(Proof(acr))
        change = {
            LoginSession.auth_time: proof.at,
            LoginSession.acr: proof.acr,
            LoginSession.auth_epoch: proof.epoch,
            LoginSession.last_seen_at: now,
        }
        LoginSession.update(change).where(LoginSession.id == sid).execute(db)
        # In addition to the client's refresh token, because this response may be lost.
        expires_at, step = session.expires_at, session.step + 1
        return self._sessions.issue_within(db, Account.of(user), sid, expires_at, proof, step)

    async def _needed(self, user_id: str, factors: tuple[str, ...]) -> StepUpNeeded:
        methods: tuple[str, ...] = factors
        if not factors and await self._accounts.has_password(user_id):
            methods = (PASSWORD,)
        if not factors and await self._passkeys.of(user_id):
            methods = (*methods, PASSKEY)
        return StepUpNeeded(self._freshness.seconds, "2" if factors else "1", methods)
