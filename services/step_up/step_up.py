"""Step-up: acts that matter ask for a fresh proof of who the user is (RFC 9470).

A sign-in is such a proof, and counts for STEP_UP_SECONDS. Later the user proves it again within the
same login session, which gets new tokens. A user who has a second factor needs it here, too.
"""

from __future__ import annotations

from typing import Protocol

from services.accounts.accounts import Accounts
from services.claims import Acr
from services.errors import StepUpNeeded
from services.sessions.admission import Identity
from services.sessions.login_sessions import LoginSessions
from services.sessions.session_views import SignedIn
from services.step_up.freshness import Freshness

PASSWORD = "password"  # noqa: S105 - the name of a method


class SecondFactors(Protocol):
    """What is needed of the second factors of accounts."""

    async def methods(self, user_id: str) -> tuple[str, ...]:
        """What is accepted as the second factor; empty if a password alone signs the user in."""

    async def prove(self, user_id: str, session_id: str, code: str) -> Acr:
        """Check a code of a signed-in user, and use it up."""


class StepUp:
    """Asks for a fresh proof, and takes it.

    Args:
        factors: of accounts; None where there are none.
    """

    def __init__(
        self,
        accounts: Accounts,
        login_sessions: LoginSessions,
        freshness: Freshness,
        factors: SecondFactors | None = None,
    ) -> None:
        self._accounts, self._sessions = accounts, login_sessions
        self._freshness, self._factors = freshness, factors

    async def require(self, identity: Identity) -> None:
        """Require that the user has proved lately who they are, by all factors of the account.

        Raises:
            StepUpNeeded: they have not.
        """
        factors = await self._second_factors(identity.user_id)
        proven_by_all = not factors or identity.claims.acr == "2"
        if not (proven_by_all and self._freshness.is_fresh(identity.claims, identity.proof_epoch)):
            raise await self._needed(identity.user_id, factors)

    async def prove(self, identity: Identity, password: str | None, code: str | None) -> SignedIn:
        """New tokens for a user who proves again who they are. With a second factor, the code alone
        is enough: the login session began with the first one.

        Raises:
            StepUpNeeded: the password alone is not enough for this account, or nothing was given.
            WrongPassword, WrongCode: it is wrong.
            RateLimited: too many wrong ones in this login session, or too many sign-ins.
            Unauthenticated: the login session has ended.
        """
        user_id, sid = identity.user_id, identity.claims.sid
        factors = await self._second_factors(user_id)
        if not (code is not None if factors else password is not None):
            raise await self._needed(user_id, factors)
        known_hash: str | None = None
        acr: Acr = "1"
        if password is not None:
            known_hash = await self._accounts.confirm(user_id, sid, password)
        if code is not None and self._factors is not None:
            acr = await self._factors.prove(user_id, sid, code)
        await self._accounts.count_sign_in(user_id)
        return await self._sessions.step_up(user_id, sid, acr, known_hash)

    async def _second_factors(self, user_id: str) -> tuple[str, ...]:
        return () if self._factors is None else await self._factors.methods(user_id)

    async def _needed(self, user_id: str, factors: tuple[str, ...]) -> StepUpNeeded:
        methods = factors
        if not factors and await self._accounts.has_password(user_id):
            methods = (PASSWORD,)
        return StepUpNeeded(self._freshness.seconds, "2" if factors else "1", methods)
