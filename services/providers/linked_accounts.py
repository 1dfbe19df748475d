"""Links accounts at providers to an account here, and unlinks them."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec
import peewee

from models.identity import Identity
from models.login_session import LoginSession
from models.user import User
from services.accounts import account_rows
from services.errors import NotFound
from services.oauth.errors import LastWayIn, Reason, SignInRefused
from services.oauth.roles import role_of
from services.oauth.token_endpoint import Grant
from services.oauth.userinfo import ProviderProfile, check_domain
from services.outbox import NO_OUTBOX, Outbox
from services.providers import identity_rows
from services.providers.authorization_requests import Link, proof_of
from services.providers.tokens import ProviderTokens, TokenSet
from services.registration.registration import Registration
from services.sessions.control import Revocation
from services.sessions.login_sessions import LoginSessions
from services.sessions.revocations import Revocations
from services.sessions.session_ends import SessionEnds
from services.sessions.session_rows import is_active
from services.settings.providers import OAuthProvider
from services.storage.database import Database


class LinkedAccount(msgspec.Struct, frozen=True):
    """A linked account, as shown to its user. Times are epoch seconds."""

    provider: str
    title: str
    email: str
    linked_at: float
    last_used_at: float


class LinkedAccounts:
    """Links, lists and unlinks accounts at providers."""

    def __init__(
        self,
        database: Database,
        login_sessions: LoginSessions,
        session_ends: SessionEnds,
        revocations: Revocations,
        tokens: ProviderTokens,
        registration: Registration,
        clock: Callable[[], float] = time.time,
        outbox: Outbox = NO_OUTBOX,
    ) -> None:
        self._outbox, self._registration = outbox, registration
        self._database, self._sessions = database, login_sessions
        self._ends = session_ends
        self._revocations, self._tokens, self._clock = revocations, tokens, clock

    async def link(
        self, provider: OAuthProvider, profile: ProviderProfile, grant: Grant, link: Link
    ) -> None:
        """Link an account at a provider to the account of an active login session.

        Raises:
            SignInRefused: the session has ended, the account at the provider is already linked, or
                it may not sign in.
        """
        check_domain(profile, provider)
        role_of(profile, provider)  # an identity that could not sign in cannot be linked

        def work(db: peewee.Database) -> None:
            user = self._linking_user(db, link)
            found = identity_rows.find(db, provider.name, profile.subject)
            other = identity_rows.of_user(db, user.id, provider.name)
            if found is not None and (
                found.user_id != user.id or not identity_rows.is_of(found, profile, provider)
            ):
                raise SignInRefused(Reason.LINKED_ELSEWHERE, "linked to another, or by another")
            if found is None and other is not None:
                raise SignInRefused(Reason.LINKED_ELSEWHERE, "another one is linked")
            if found is None:
                address, now = identity_rows.address_to_keep(user, profile), self._clock()
                identity_rows.insert(db, provider.name, profile, user.id, now, address)
                identity_rows.forget_unlinked(db, user.id, provider.name)
            else:
                takes, now = self._registration.takes, self._clock()
                if identity_rows.follow_address(db, user, found, profile, takes, now):
                    account_rows.write_event(db, self._outbox, "user.changed", user, "email")
                identity_rows.record_use(db, found, user, profile, self._clock())
            identity_rows.record_verified(db, user, profile)
            self._tokens.insert(db, user.id, (provider.name, profile.subject), None, grant)

        try:
            await self._database.run(work)
        except peewee.IntegrityError as error:
            raise SignInRefused(Reason.LINKED_ELSEWHERE, "linked by another meanwhile") from error

    def _linking_user(self, db: peewee.Database, link: Link) -> User:
        user = account_rows.lock(db, User.id == link.user_id, demoting=False)
        alive = LoginSession.select().where(
            (LoginSession.id == link.login_session_id)
            & (LoginSession.user == link.user_id)
            & is_active(self._clock())
        )
        if user is None or user.disabled_at is not None or not alive.exists(db):
            raise SignInRefused(Reason.SIGNED_OUT, "the login session that links is over")
        if link.proof != proof_of(user.password_hash):
            raise SignInRefused(Reason.SIGNED_OUT, "the password was changed meanwhile")
        return user

    async def linked(self, user_id: str, title: Callable[[str], str]) -> list[LinkedAccount]:
        """A user's linked accounts.

        Args:
            title: of a provider, by its name.
        """

        def work(db: peewee.Database) -> list[LinkedAccount]:
            rows = Identity.select().where(Identity.user == user_id).order_by(Identity.provider)
            return [
                LinkedAccount(r.provider, title(r.provider), r.email, r.linked_at, r.last_used_at)
                for r in rows.execute(db)
            ]

        return await self._database.run(work)

    async def unlink(self, user_id: str, provider: str, usable: frozenset[str]) -> list[TokenSet]:
        """Unlink an account, and end the login sessions that it opened. Returns its tokens, which
        the caller must revoke at the provider.

        Args:
            usable: the providers that are currently configured.

        Raises:
            NotFound: no account of that provider is linked.
            LastWayIn: the user has neither a password nor another linked account.
        """

        def work(db: peewee.Database) -> tuple[list[TokenSet], list[Revocation]]:
            user = account_rows.lock(db, User.id == user_id, demoting=False)
            identity = identity_rows.of_user(db, user_id, provider)
            if user is None or identity is None:
                raise NotFound("no such linked account")
            others = Identity.select().where(
                (Identity.user == user_id)
                & (Identity.provider != provider)
                & Identity.provider.in_(sorted(usable))
            )
            if user.password_hash is None and not others.exists(db):
                raise LastWayIn("unlink: neither a password nor another provider")
            tokens = self._tokens.take(db, user_id, provider)
            ended = self._ends.end_of_provider_within(
                db, provider, identity.subject, None, "unlinked"
            )
            identity_rows.unlink(db, identity)
            return tokens, ended

        tokens, ended = await self._database.run(work)
        await self._revocations.publish(ended)
        return tokens
