"""Accounts: sign-up, sign-in, and the user's own profile and password."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import cast

import peewee

from models.user import User
from services.accounts import account_rows, link_rows
from services.accounts.devices import Devices
from services.accounts.display_names import checked_name
from services.accounts.known_networks import KnownNetworks
from services.accounts.passwords import Passwords, hints
from services.accounts.sign_in_limits import SignInAttempt, SignInLimits
from services.claims import Role
from services.errors import (
    RateLimited,
    ReauthenticationNeeded,
    SecondFactorNeeded,
    SignupRefused,
    Unauthenticated,
    UsherError,
    WrongPassword,
)
from services.limits.networks import network_of
from services.mail_outbox import NO_MAILS, Mails
from services.metrics import Metrics
from services.outbox import NO_OUTBOX, Outbox
from services.registration.addresses import normalised_email
from services.registration.registration import Admitted, Registration
from services.sessions import session_rows
from services.sessions.control import Revocation
from services.sessions.login_sessions import LoginSessions
from services.sessions.revocations import Revocations
from services.sessions.session_ends import SessionEnds
from services.sessions.session_views import Device, Profile, SignedIn
from services.storage.database import Database
from services.storage.row_locks import locked_one

AskSecondFactor = Callable[[peewee.Database, User, str, str], SecondFactorNeeded | None]


class Accounts:
    """Signs users up and in, and changes passwords.

    Args:
        registration: decides who may sign up.
        devices: creates and verifies device tokens.
        ask_second_factor: called within the transaction of a sign-in whose first factor was right,
            with the account, locked, the method and the client. The sign-in waits for a second
            factor if the result is not None.
        outbox: receives events when accounts are created.
        verifies: whether a sign-up asks for a mail that confirms the address.
    """

    def __init__(
        self,
        database: Database,
        passwords: Passwords,
        login_sessions: LoginSessions,
        session_ends: SessionEnds,
        revocations: Revocations,
        registration: Registration,
        limits: SignInLimits,
        devices: Devices,
        ask_second_factor: AskSecondFactor,
        metrics: Metrics,
        clock: Callable[[], float] = time.time,
        outbox: Outbox = NO_OUTBOX,
        mails: Mails = NO_MAILS,
        verifies: bool = False,
    ) -> None:
        self._outbox, self._mails, self._verifies = outbox, mails, verifies
        self._database, self._passwords = database, passwords
        self._sessions, self._ends = login_sessions, session_ends
        self._revocations, self._registration = revocations, registration
        self._limits, self.devices = limits, devices
        self._networks = KnownNetworks(database)
        self._ask_second_factor = ask_second_factor
        self._metrics, self._clock = metrics, clock

    # ---- signing up and in -----------------------------------------------------------------

    async def sign_up(
        self, email: str, password: str, name: str, device: Device, invitation: str = ""
    ) -> SignedIn:
        """Create an account and sign it in. The first account becomes administrator.

        Args:
            invitation: the token of an invitation.

        Raises:
            BadRequest: the e-mail address or the name is invalid.
            WeakPassword: with suggestions.
            EmailDomainRefused, SignupClosed, InvitationNeeded, InvitationRefused: the rules of
                this installation do not allow it (services/registration/registration.py).
            SignupRefused: the e-mail address is taken; the response does not confirm that.
            RateLimited: too many sign-ups from this client address in an hour.
        """
        address, shown = normalised_email(email), checked_name(name)
        self._registration.check_domain(address)
        invited = await self._registration.check(invitation, device.ip)
        taken = await self._limits.begin_sign_up(network_of(device.ip))
        try:
            user_id = await self._make(address, password, shown, invited)
        except SignupRefused:
            raise  # counted, because many attempts would reveal which addresses are taken
        except BaseException:  # also if cancelled: a sign-up that failed must not count
            taken.give_back()
            raise
        self._metrics.sign_ins.labels(outcome="signed_up").inc()
        signed_in = await self._sessions.open(user_id, "password", device)
        if signed_in.user.role == "admin":
            account_rows.say_first(user_id)
        return signed_in

    async def _make(self, address: str, password: str, name: str, invited: str | None) -> str:
        await self._passwords.check_strength(password, hints(address, name))
        password_hash = await self._passwords.hash(password)
        user_id = secrets.token_urlsafe(16)
        try:
            admitted = await self._insert_user(user_id, address, name, password_hash, invited)
        except peewee.IntegrityError as error:
            self._metrics.sign_ins.labels(outcome="signup_refused").inc()
            raise SignupRefused("sign-up: address taken") from error
        self._registration.used(admitted, user_id)
        return user_id

    async def _insert_user(
        self, user_id: str, address: str, name: str, hash_: str, invited: str | None
    ) -> Admitted:
        values = {
            "id": user_id,
            "email": address,
            "name": name,
            "password_hash": hash_,
            "created_at": self._clock(),
        }

        def work(db: peewee.Database) -> Admitted:
            def admit() -> Admitted:
                return self._registration.admit(db, address, invited)

            if link_rows.is_reserved(db, address, self._clock()):
                raise peewee.IntegrityError("the address may be brought back to an account")
            admitted = account_rows.insert_first_or_next(db, values, self._outbox, admit)
            if self._verifies:
                self._mails.ask(db, "verify", address, {})
            return admitted

        try:
            return await self._database.run(work)
        except peewee.IntegrityError:
            # Another account was first concurrently, or the address is taken: insert it as a
            # later one, which tells.
            return await self._database.run(work)

    async def log_in(self, email: str, password: str, device: Device) -> SignedIn:
        """Sign in with a password.

        An unknown account, a wrong password and a disabled account give the same response in the
        same time: each verifies one Argon2id hash (ASVS 2.2.x, OWASP: no user enumeration).

        Raises:
            Unauthenticated: in all of these cases.
            SecondFactorNeeded: the password is right, and the account has a second factor.
            RateLimited: too many failed sign-ins (services/accounts/sign_in_limits.py), or too
                many successful ones of this user.
        """
        address = _key_of(email)
        known_device = self.devices.recognise(device.kept, address)
        attempt = await self._limits.begin(address, network_of(device.ip), known_device)
        if attempt.is_doubtful:
            attempt.require_known(await self._networks.knows(network_of(device.ip), address))
        if known_device is not None:
            self._database.callers.enter("users", f"device {known_device}")
        try:
            signed_in = await self._log_in(address, password, device, attempt)
        except SecondFactorNeeded:
            self._metrics.sign_ins.labels(outcome="second_factor_needed").inc()
            raise
        except Unauthenticated:
            self._metrics.sign_ins.labels(outcome="refused").inc()
            raise
        except RateLimited:
            raise
        except BaseException:  # cancelled too
            attempt.give_back()  # the result is unknown, so nothing is counted
            raise
        self._metrics.sign_ins.labels(outcome="signed_in").inc()
        return signed_in

    async def _log_in(
        self, address: str, password: str, device: Device, attempt: SignInAttempt
    ) -> SignedIn:
        network = network_of(device.ip)
        found = await self._database.run(account_rows.find, address, network)
        if found is not None and found.is_known_here:
            # The account is the key of the queue: guesses at one account delay only its owner.
            self._database.callers.enter("users", f"account {found.id}")
        known_hash = found.password_hash if found else None
        verdict = await self._passwords.verify(password, known_hash)
        if found is None or known_hash is None or not verdict.ok:
            refused = Unauthenticated("sign-in: unknown account or wrong password")
            refused.about = found.id if found is not None else ""
            raise refused
        attempt.give_back()
        if found.has_second_factor:
            await self._limits.count_half_sign_in(found.id, network)
        else:
            await self._limits.count_sign_in(found.id)
        if verdict.needs_rehash:
            known_hash = await self._rehash(found.id, password, known_hash)
        return await self._open(found.id, known_hash, device)

    async def _open(self, user_id: str, known_hash: str, device: Device) -> SignedIn:
        """Open a login session, unless the password was changed meanwhile, or there is a second
        factor."""

        def work(db: peewee.Database) -> SignedIn | SecondFactorNeeded:
            user = locked_one(User.select().where(User.id == user_id), db)
            if user is None or user.password_hash != known_hash:
                raise Unauthenticated("sign-in: account gone, or password changed meanwhile")
            if user.disabled_at is not None:
                raise Unauthenticated("sign-in: account disabled")
            waiting = self._ask_second_factor(db, user, "password", device.client)
            return waiting or self._sessions.open_within(db, user, "password", device)

        opened = await self._database.run(work)
        if isinstance(opened, SecondFactorNeeded):
            opened.about = user_id
            raise opened
        await self._sessions.announce(opened)
        return opened

    async def _rehash(self, user_id: str, password: str, known_hash: str) -> str:
        """Rehash the password with the current parameters, unless it was changed meanwhile."""
        new_hash = await self._passwords.hash(password)
        if await self._database.run(account_rows.swap_hash, user_id, known_hash, new_hash):
            return new_hash
        # A concurrent sign-in may have done the same, with the same password.
        user = await self._database.run(account_rows.by_id, user_id)
        current = user.password_hash if user is not None else None
        verdict = await self._passwords.verify(password, current)
        return current if current is not None and verdict.ok else known_hash

    # ---- the caller's own account ----------------------------------------------------------

    async def profile(self, user_id: str) -> Profile:
        """The user's own profile.

        Raises:
            Unauthenticated: the account is deleted.
        """
        user = await self._database.run(account_rows.by_id, user_id)
        if user is None:
            raise Unauthenticated("account gone")
        return Profile(user.id, user.email, user.name, cast("Role", user.role))

    async def change_password(
        self, user_id: str, session_id: str, current_password: str, new_password: str
    ) -> None:
        """Change the password and end every other session (ASVS 3.3.3).

        Raises:
            WrongPassword: the current password is wrong.
            WeakPassword: with suggestions.
            RateLimited: too many wrong passwords.
        """
        user = await self._confirmed(user_id, session_id, current_password)
        known_hash = user.password_hash
        await self._passwords.check_strength(new_password, hints(user.email, user.name))
        new_hash = await self._passwords.hash(new_password)

        def change(db: peewee.Database) -> list[Revocation]:
            if not account_rows.swap_hash(db, user_id, str(known_hash), new_hash):
                raise WrongPassword("password change: changed by another meanwhile")
            self._mails.enqueue(db, "password_changed", user.email, {})
            return self._ends.end_all_within(db, user_id, "password_changed", session_id)

        await self._revocations.publish(await self._database.run(change))

    async def set_first_password(self, user_id: str, sid: str, new_password: str) -> None:
        """Set the first password of an account. No session is ended, because no password could
        have been stolen.

        Raises:
            ReauthenticationNeeded: the account already has a password, which must be given.
            WeakPassword: with suggestions.
            Unauthenticated: the login session ended meanwhile.
        """
        user = await self._database.run(account_rows.by_id, user_id)
        if user is None or user.password_hash is not None:
            raise ReauthenticationNeeded("password change: the current one is not given")
        await self._passwords.check_strength(new_password, hints(user.email, user.name))
        new_hash = await self._passwords.hash(new_password)

        def work(db: peewee.Database) -> None:
            session_rows.acting_user(db, user_id, sid, self._clock())
            none = (User.id == user_id) & User.password_hash.is_null()
            if not User.update({User.password_hash: new_hash}).where(none).execute(db):
                raise ReauthenticationNeeded("first password: another was faster")
            self._mails.enqueue(db, "password_changed", user.email, {})

        await self._database.run(work)

    async def confirm(self, user_id: str, session_id: str, password: str) -> str:
        """Verify the password of a signed-in user again (ASVS 3.7.1).

        Returns:
            The password hash. The confirmation must not be used once the hash has changed.

        Raises:
            WrongPassword, RateLimited: as `change_password`.
        """
        return str((await self._confirmed(user_id, session_id, password)).password_hash)

    async def count_sign_in(self, user_id: str) -> None:
        """Count a proof of a user as a sign-in.

        Raises:
            RateLimited: too many in this hour.
        """
        await self._limits.count_sign_in(user_id)

    async def has_password(self, user_id: str) -> bool:
        """Whether an account has a password."""
        return await self.password_hash(user_id) is not None

    async def password_hash(self, user_id: str) -> str | None:
        """The hash of an account's password; None if it has none."""
        user = await self._database.run(account_rows.by_id, user_id)
        return None if user is None else user.password_hash

    async def _confirmed(self, user_id: str, session_id: str, password: str) -> User:
        taken = await self._limits.begin_confirmation(session_id)
        try:
            user = await self._database.run(account_rows.by_id, user_id)
            known_hash = user.password_hash if user is not None else None
            verdict = await self._passwords.verify(password, known_hash)
            if user is None or known_hash is None or not verdict.ok:
                taken.keep()
                raise WrongPassword("the current password is wrong")
        finally:
            taken.give_back()
        return user


def _key_of(email: str) -> str:
    """The address to look up. An invalid address has no account, and takes the same time."""
    try:
        return normalised_email(email)
    except UsherError:
        return ""
