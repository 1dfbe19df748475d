"""Maps an identity at a provider to an account: found, linked, created, or refused.

An identity is (provider, subject). An e-mail address alone never gives access to an account. An
identity is linked to an account with the same address only when both the provider and Usher have
verified it. Otherwise anyone could put an address into their profile at the provider and take the
account here over, or sign up here with somebody else's address and wait for them to sign in.
"""

from __future__ import annotations

import logging
import secrets
import time
import unicodedata
from collections.abc import Callable

import peewee

from models.user import User
from services.accounts import account_rows
from services.accounts.display_names import MAX_NAME_LENGTH, checked_name
from services.claims import Role
from services.errors import BadRequest, LastAdmin
from services.oauth.errors import Reason, SignInRefused
from services.oauth.roles import role_of
from services.oauth.token_endpoint import Grant
from services.oauth.userinfo import ProviderProfile, address_of, check_domain, vouched_address
from services.outbox import NO_OUTBOX, Outbox
from services.providers import identity_rows
from services.providers.role_claims import RoleClaims
from services.providers.tokens import ProviderTokens
from services.sessions.control import Revocation
from services.sessions.login_sessions import LoginSessions
from services.sessions.revocations import Revocations
from services.sessions.session_views import Device, ProviderSession, SignedIn
from services.settings.providers import OAuthProvider
from services.storage.database import Database

NAMELESS = "Somebody"
RACES = 2
"""That one sign-in may lose: to be the first account of all, and for the address or identity."""

log = logging.getLogger("usher.oauth")


class _AddressIsAnothers(SignInRefused):
    """The account with this address is already linked to another account of the provider."""

    def __init__(self) -> None:
        super().__init__(Reason.NO_ACCOUNT, "another account of this provider is linked")


class Identities:
    """Signs in users that a provider has authenticated."""

    def __init__(
        self,
        database: Database,
        login_sessions: LoginSessions,
        revocations: Revocations,
        tokens: ProviderTokens,
        clock: Callable[[], float] = time.time,
        outbox: Outbox = NO_OUTBOX,
    ) -> None:
        self._outbox = outbox
        self._database, self._sessions = database, login_sessions
        self._revocations, self._tokens, self._clock = revocations, tokens, clock
        self._role_claims = RoleClaims()

    async def sign_in(
        self, provider: OAuthProvider, profile: ProviderProfile, grant: Grant, device: Device
    ) -> SignedIn:
        """Sign in a user that the provider has authenticated.

        Raises:
            SignInRefused: the user is not allowed, or the account belongs to another user.
        """
        check_domain(profile, provider)
        try:
            role = role_of(profile, provider)
        except SignInRefused:
            await self._take_role(provider, profile)
            raise
        self._role_claims.record(provider, profile.claims, was_there=role is not None)

        def work(db: peewee.Database) -> tuple[SignedIn, list[Revocation], bool]:
            nobody_yet = not account_rows.is_anybody(db)
            user = self._user_of(db, provider, profile, role == "user")
            if user.disabled_at is not None:
                raise SignInRefused(Reason.NOT_ALLOWED, "account disabled")
            changed = self._give_role(db, user, role)
            identity_rows.record_verified(db, user, profile)
            signed_in = self._sessions.open_within(
                db,
                user,
                f"oauth:{provider.name}",
                device,
                ProviderSession(provider.name, profile.subject, profile.sid),
            )
            identity = provider.name, profile.subject
            self._tokens.insert(db, user.id, identity, signed_in.claims.sid, grant)
            return signed_in, changed, nobody_yet

        try:
            signed_in, changed, first = await self._raced(work)
        except _AddressIsAnothers:
            await self._database.run(identity_rows.give_up_address, provider.name, profile)
            raise
        await self._revocations.publish(changed)
        await self._sessions.announce(signed_in)
        if first and signed_in.user.role == "admin":
            account_rows.say_first(signed_in.user.id)
        return signed_in

    async def whose(self, provider: OAuthProvider, profile: ProviderProfile) -> str | None:
        """The id of the user that an identity is linked to; None before its first sign-in."""
        found = await self._database.run(identity_rows.find, provider.name, profile.subject)
        return None if found is None else found.user_id

    async def _take_role(self, provider: OAuthProvider, profile: ProviderProfile) -> None:
        """Withdraw the role of administrator, because the provider grants the user no role any
        more. It applies to all ways to sign in."""

        def work(db: peewee.Database) -> list[Revocation]:
            found = identity_rows.find(db, provider.name, profile.subject)
            if found is None or not identity_rows.is_of(found, profile, provider):
                return []
            user = account_rows.lock(db, User.id == found.user_id, demoting=True)
            return [] if user is None else self._give_role(db, user, "user")

        await self._revocations.publish(await self._database.run(work))

    async def _raced(
        self, work: Callable[[peewee.Database], tuple[SignedIn, list[Revocation], bool]]
    ) -> tuple[SignedIn, list[Revocation], bool]:
        for _ in range(RACES):
            try:
                return await self._database.run(work)
            except peewee.IntegrityError:
                # Lost one. As a later one it finds what the winner has made.
                continue
        return await self._database.run(work)

    def _user_of(
        self, db: peewee.Database, provider: OAuthProvider, profile: ProviderProfile, demoting: bool
    ) -> User:
        found = identity_rows.find(db, provider.name, profile.subject)
        if found is None:
            return self._joined_or_new(db, provider, profile, demoting)
        # The user first, as everybody locks them: unlinking holds the user and waits for the rest.
        user = account_rows.lock(db, User.id == found.user_id, demoting)
        if user is None:
            raise SignInRefused(Reason.NO_ACCOUNT, "account deleted meanwhile")
        return self._known(db, provider, profile, user)

    def _known(
        self, db: peewee.Database, provider: OAuthProvider, profile: ProviderProfile, user: User
    ) -> User:
        """The user, whose identity it is; read behind the user's lock."""
        found = identity_rows.find(db, provider.name, profile.subject)
        if found is None or found.user_id != user.id:
            raise SignInRefused(Reason.NO_ACCOUNT, "unlinked meanwhile")
        if not identity_rows.is_of(found, profile, provider):
            raise SignInRefused(Reason.NO_ACCOUNT, "the subject of another issuer is linked")
        if identity_rows.follow_address(db, user, found, profile):
            account_rows.tell(db, self._outbox, "user.changed", user, "email")
        identity_rows.record_use(db, found, profile, self._clock())
        return user

    def _joined_or_new(
        self, db: peewee.Database, provider: OAuthProvider, profile: ProviderProfile, demoting: bool
    ) -> User:
        address = address_of(profile)
        if address is None:
            raise SignInRefused(Reason.NO_EMAIL, "no address of use")
        user = account_rows.lock(db, User.email == address, demoting)
        if user is None:
            user = self._sign_up(db, provider, profile, address)
        else:
            linked = identity_rows.of_user(db, user.id, provider.name)
            if linked is not None and linked.subject == profile.subject:
                return self._known(db, provider, profile, user)  # a parallel sign-in was faster
            if not (vouched_address(profile) and user.email_verified):
                raise SignInRefused(
                    Reason.NO_ACCOUNT, "the address is in use, not verified by both"
                )
            if linked is not None:
                raise _AddressIsAnothers
            if identity_rows.was_unlinked(db, user.id, provider.name):
                raise SignInRefused(Reason.NO_ACCOUNT, "they have unlinked this provider")
        identity_rows.insert(db, provider.name, profile, user.id, self._clock())
        return user

    def _sign_up(
        self, db: peewee.Database, provider: OAuthProvider, profile: ProviderProfile, address: str
    ) -> User:
        if not provider.signup:
            raise SignInRefused(Reason.NO_ACCOUNT, "sign-up by this provider is switched off")
        user_id = secrets.token_urlsafe(16)
        values = {
            "id": user_id,
            "email": address,
            "email_verified": vouched_address(profile) is not None,
            "name": _shown_name(profile),
            "created_at": self._clock(),
        }
        account_rows.insert_first_or_next(db, values, self._outbox)
        return account_rows.for_change(db, user_id)

    def _give_role(self, db: peewee.Database, user: User, role: Role | None) -> list[Revocation]:
        if role is None:
            return []
        try:
            return account_rows.change_role(
                db, self._revocations, user, role, self._clock(), self._outbox
            )
        except LastAdmin:
            return []  # the first account of all, or the last administrator: stays one


def _shown_name(profile: ProviderProfile) -> str:
    """A display name: never an e-mail address, which other users would see."""
    name = profile.name
    if "@" in (read := unicodedata.normalize("NFKC", name)):  # in any of its widths
        name = read.partition("@")[0]
    try:
        return checked_name(name.strip()[:MAX_NAME_LENGTH].strip())
    except BadRequest:
        return NAMELESS
