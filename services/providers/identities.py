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

import msgspec
import peewee

from models.user import User
from services.accounts import account_rows, link_rows
from services.accounts.display_names import MAX_NAME_LENGTH, checked_name
from services.claims import Proof, Role
from services.errors import (
    BadRequest,
    InvitationNeeded,
    InvitationRefused,
    LastAdmin,
    SignupClosed,
)
from services.oauth.errors import Reason, SignInRefused
from services.oauth.roles import role_of
from services.oauth.token_endpoint import Grant
from services.oauth.userinfo import ProviderProfile, address_of, check_domain, verified_address
from services.outbox import NO_OUTBOX, Outbox
from services.providers import identity_rows
from services.providers.role_claims import RoleClaims
from services.providers.tokens import ProviderTokens
from services.registration.handovers import Handover, Handovers
from services.registration.registration import Admitted, Registration
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


class _Entered(msgspec.Struct, frozen=True):
    """The user of an identity. `admitted`: of a new account. `handover`: of one that was given to
    the owner of its address."""

    user: User
    admitted: Admitted | None = None
    handover: Handover | None = None


class _Done(msgspec.Struct, frozen=True):
    """A committed sign-in. `first`: whether there was no account before."""

    signed_in: SignedIn
    changed: list[Revocation]
    first: bool
    admitted: Admitted | None
    handover: Handover | None


class Identities:
    """Signs in users that a provider has authenticated."""

    def __init__(
        self,
        database: Database,
        login_sessions: LoginSessions,
        revocations: Revocations,
        tokens: ProviderTokens,
        registration: Registration,
        handovers: Handovers,
        clock: Callable[[], float] = time.time,
        outbox: Outbox = NO_OUTBOX,
    ) -> None:
        self._outbox, self._registration, self._handovers = outbox, registration, handovers
        self._database, self._sessions = database, login_sessions
        self._revocations, self._tokens, self._clock = revocations, tokens, clock
        self._role_claims = RoleClaims()

    def _proof(self, profile: ProviderProfile) -> Proof:
        """When the provider authenticated the user. A provider that knows its user from before
        signs in without asking, which proves nothing of this moment."""
        at = profile.auth_time
        return Proof(at=None if at is None or at >= self._clock() else at)

    async def sign_in(
        self,
        provider: OAuthProvider,
        profile: ProviderProfile,
        grant: Grant,
        device: Device,
        invitation: str | None = None,
    ) -> SignedIn:
        """Sign in a user that the provider has authenticated.

        Args:
            invitation: the hash of an invitation's token, for a new account.

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

        def work(db: peewee.Database) -> _Done:
            nobody_yet = not account_rows.is_anybody(db)
            entered = self._user_of(db, provider, profile, role == "user", invitation)
            user = entered.user
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
                self._proof(profile),
            )
            identity = provider.name, profile.subject
            self._tokens.insert(db, user.id, identity, signed_in.claims.sid, grant)
            return _Done(signed_in, changed, nobody_yet, entered.admitted, entered.handover)

        try:
            done = await self._retry_race(work)
        except _AddressIsAnothers:
            await self._database.run(identity_rows.give_up_address, provider.name, profile)
            raise
        signed_in = done.signed_in
        await self._handovers.finish(done.handover)
        await self._revocations.publish(done.changed)
        await self._sessions.announce(signed_in)
        if done.admitted is not None:
            self._registration.used(done.admitted, signed_in.user.id)
        if done.first and signed_in.user.role == "admin":
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

    async def _retry_race(self, work: Callable[[peewee.Database], _Done]) -> _Done:
        for _ in range(RACES):
            try:
                return await self._database.run(work)
            except peewee.IntegrityError:
                # Lost one. As a later one it finds what the winner has made.
                continue
        return await self._database.run(work)

    def _user_of(
        self,
        db: peewee.Database,
        provider: OAuthProvider,
        profile: ProviderProfile,
        demoting: bool,
        invitation: str | None,
    ) -> _Entered:
        found = identity_rows.find(db, provider.name, profile.subject)
        if found is None:
            return self._joined_or_new(db, provider, profile, demoting, invitation)
        # The user first, as everybody locks them: unlinking holds the user and waits for the rest.
        user = account_rows.lock(db, User.id == found.user_id, demoting)
        if user is None:
            raise SignInRefused(Reason.NO_ACCOUNT, "account deleted meanwhile")
        return _Entered(self._known(db, provider, profile, user))

    def _known(
        self, db: peewee.Database, provider: OAuthProvider, profile: ProviderProfile, user: User
    ) -> User:
        """The user, whose identity it is; read behind the user's lock."""
        found = identity_rows.find(db, provider.name, profile.subject)
        if found is None or found.user_id != user.id:
            raise SignInRefused(Reason.NO_ACCOUNT, "unlinked meanwhile")
        if not identity_rows.is_of(found, profile, provider):
            raise SignInRefused(Reason.NO_ACCOUNT, "linked with another issuer")
        if identity_rows.follow_address(
            db, user, found, profile, self._registration.takes, self._clock()
        ):
            account_rows.write_event(db, self._outbox, "user.changed", user, "email")
        identity_rows.record_use(db, found, user, profile, self._clock())
        return user

    def _joined_or_new(
        self,
        db: peewee.Database,
        provider: OAuthProvider,
        profile: ProviderProfile,
        demoting: bool,
        invitation: str | None,
    ) -> _Entered:
        address = address_of(profile)
        if address is None:
            raise SignInRefused(Reason.NO_EMAIL, "no usable e-mail address")
        user = account_rows.lock(db, User.email == address, demoting)
        if user is None:
            entered = self._sign_up(db, provider, profile, address, invitation)
        else:
            linked = identity_rows.of_user(db, user.id, provider.name)
            if linked is not None and linked.subject == profile.subject:
                # A parallel sign-in was faster.
                return _Entered(self._known(db, provider, profile, user))
            entered = self._joined(db, provider, profile, user, invitation)
        identity_rows.insert(db, provider.name, profile, entered.user.id, self._clock())
        return entered

    def _joined(
        self,
        db: peewee.Database,
        provider: OAuthProvider,
        profile: ProviderProfile,
        user: User,
        invitation: str | None,
    ) -> _Entered:
        """The account with the profile's address, to which the identity is to be linked."""
        vouched = verified_address(profile) is not None
        if vouched and user.email_verified:
            if identity_rows.of_user(db, user.id, provider.name) is not None:
                raise _AddressIsAnothers
            if identity_rows.was_unlinked(db, user.id, provider.name):
                raise SignInRefused(Reason.NO_ACCOUNT, "the user has unlinked this provider")
            return _Entered(user)
        handover = None
        if vouched:
            handover = self._handovers.prove(db, user, f"oauth:{provider.name}")
        if handover is None:
            # First refused as a sign-up would be, so that the refusal does not reveal the account.
            self._check_sign_up(db, provider, profile, invitation)
            raise SignInRefused(
                Reason.NO_ACCOUNT, "the address is in use and not verified on both sides"
            )
        self._rename(db, user, profile)
        return _Entered(user, handover=handover)

    def _rename(self, db: peewee.Database, user: User, profile: ProviderProfile) -> None:
        """Replace the name that a previous owner gave to an account."""
        name = _shown_name(profile)
        if name in (NAMELESS, user.name):
            return
        User.update({User.name: name}).where(User.id == user.id).execute(db)
        user.name = name
        account_rows.write_event(db, self._outbox, "user.changed", user, "name")

    def _check_sign_up(
        self,
        db: peewee.Database,
        provider: OAuthProvider,
        profile: ProviderProfile,
        invitation: str | None,
    ) -> None:
        """Refuse a sign-up for reasons that have nothing to do with other accounts.

        Raises:
            SignInRefused: this provider may open no accounts, EMAIL_DOMAINS does not have the
                domain of a verified address, or the invitation is invalid.
        """
        if not provider.signup:
            raise SignInRefused(Reason.NO_ACCOUNT, "sign-up with this provider is disabled")
        address = verified_address(profile)
        if self._registration.proves_domains and not self._registration.takes(address or ""):
            raise SignInRefused(Reason.NOT_ALLOWED, "no verified address in EMAIL_DOMAINS")
        if invitation is not None and not self._registration.is_usable(db, invitation):
            raise SignInRefused(Reason.INVITATION_REFUSED, "invitation: not valid")

    def _sign_up(
        self,
        db: peewee.Database,
        provider: OAuthProvider,
        profile: ProviderProfile,
        address: str,
        invitation: str | None,
    ) -> _Entered:
        self._check_sign_up(db, provider, profile, invitation)
        if link_rows.is_reserved(db, address, self._clock()):
            # Otherwise the thief of an account, having changed its address, could take the former
            # one here, and the change could no longer be undone.
            raise SignInRefused(Reason.NO_ACCOUNT, "the address may be brought back to an account")
        user_id = secrets.token_urlsafe(16)
        values = {
            "id": user_id,
            "email": address,
            "email_verified": verified_address(profile) is not None,
            "name": _shown_name(profile),
            "created_at": self._clock(),
        }

        def admit() -> Admitted:
            try:
                return self._registration.admit(db, address, invitation)
            except InvitationRefused as error:
                raise SignInRefused(Reason.INVITATION_REFUSED, error.evidence) from error
            except (SignupClosed, InvitationNeeded) as error:
                raise SignInRefused(Reason.NO_ACCOUNT, error.evidence) from error

        admitted = account_rows.insert_first_or_next(db, values, self._outbox, admit)
        return _Entered(account_rows.for_change(db, user_id), admitted)

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
