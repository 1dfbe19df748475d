"""Sign-ins that wait for their second factor.

A challenge is a random token, stored as a hash. It is valid for five minutes and five wrong
answers, works once, on any node. A new password or e-mail address, a sign-out everywhere and the
removal of the authenticator app invalidate it. All answers lock the account's row, so concurrent
ones are counted exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol, cast

import msgspec
import peewee

from models.login_challenge import LoginChallenge
from models.user import User
from services.accounts.devices import Devices
from services.accounts.known_networks import KnownNetworks
from services.accounts.sign_in_limits import SignInLimits
from services.claims import Proof
from services.errors import PasskeyRefused, SecondFactorNeeded, Unauthenticated, WrongFactor
from services.event_loop.steady_clock import SteadyClock
from services.factors import totp_rows
from services.factors.factors import Method, methods_of
from services.factors.passkeys import Assertion
from services.keyed_tokens import Checksums
from services.limits.hourly import HourlyLimits
from services.limits.networks import network_of
from services.metrics import Metrics
from services.opaque import opaque_token, token_hash
from services.sessions.login_sessions import LoginSessions
from services.sessions.session_views import Device, SignedIn
from services.storage.database import Database
from services.storage.row_locks import locked_one

CHALLENGE_SECONDS = 300.0
CLOCK_SKEW_SECONDS = 60.0
"""Accepted difference of the nodes' clocks. A challenge from further in the future is refused: a
clock was set back, and its age is unknown."""
MAX_WRONG = 5
PREFIX = "usher_2f_"
"""Prefix of challenges, so that secret scanners find leaked ones."""
MAX_CHALLENGE_LENGTH = 128
PASSKEY = "passkey"
"""The method of a sign-in with a passkey alone."""

Client = Literal["browser", "native"]


class Answer(Protocol):
    """A second factor that a user presents.

    Attributes:
        can_be_guessed: whether it is so short that attempts of one account are limited.
    """

    @property
    def can_be_guessed(self) -> bool: ...

    def use(self, db: peewee.Database, user_id: str, method: str) -> bool:
        """Use it up within the transaction. Returns False if it is wrong or was used.

        Args:
            method: the first factor of the sign-in.
        """


class CodeAnswer:
    """A code of an authenticator app, or a recovery code.

    Args:
        use_code: `Factors.use_code`.
    """

    def __init__(self, code: str, use_code: Callable[[peewee.Database, str, str], bool]) -> None:
        self._code, self._use_code = code, use_code
        self.can_be_guessed = totp_rows.is_totp(code)

    def use(self, db: peewee.Database, user_id: str, method: str) -> bool:
        return self._use_code(db, user_id, self._code)


class WrongAnswer:
    """An answer that is known to be wrong before the look-up."""

    can_be_guessed = False

    def use(self, db: peewee.Database, user_id: str, method: str) -> bool:
        return False


class PasskeyAnswer:
    """A signature of a passkey, verified.

    Args:
        use: `Passkeys.use`.
    """

    can_be_guessed = False

    def __init__(
        self, asserted: Assertion, use: Callable[[peewee.Database, Assertion], None]
    ) -> None:
        self._asserted, self._use = asserted, use

    def use(self, db: peewee.Database, user_id: str, method: str) -> bool:
        if method == PASSKEY or self._asserted.user_id != user_id:
            return False
        try:
            self._use(db, self._asserted)
        except PasskeyRefused:
            return False
        return True


class LoginChallenges:
    """Starts sign-ins that need a second factor, and completes them.

    Args:
        checksums: verify a challenge's checksum before a look-up.
        clock: epoch seconds that never go back within the process.
    """

    def __init__(
        self,
        database: Database,
        login_sessions: LoginSessions,
        sign_in_limits: SignInLimits,
        limits: HourlyLimits,
        devices: Devices,
        checksums: Checksums,
        metrics: Metrics,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._database, self._sessions = database, login_sessions
        self._sign_in_limits, self._limits = sign_in_limits, limits
        self._devices, self._checksums = devices, checksums
        self._networks, self._metrics = KnownNetworks(database), metrics
        self._clock = SteadyClock() if clock is None else clock

    # ---- beginning -------------------------------------------------------------------------

    def begin_within(
        self, db: peewee.Database, user: User, method: str, client: str
    ) -> SecondFactorNeeded | None:
        """Create a challenge within the transaction of a sign-in whose first factor was right.
        Returns None if the account has no second factor.

        Args:
            user: the row, locked.
            method: the first factor: "password" or "passkey". A passkey cannot be used twice.
            client: "browser" or "native".
        """
        methods: tuple[Method, ...] = methods_of(db, user.id)
        if not methods:
            return None
        if method == PASSKEY:
            methods = tuple(one for one in methods if one != PASSKEY)
        text, now = opaque_token(PREFIX).reveal(), self._clock()
        challenge = text + self._checksums.sign(text)
        LoginChallenge.insert(
            hash=token_hash(challenge),
            user=user.id,
            method=method,
            client=client,
            state=_state_of(user),
            created_at=now,
            expires_at=now + CHALLENGE_SECONDS,
        ).execute(db)
        return SecondFactorNeeded(challenge, methods)

    # ---- completing ------------------------------------------------------------------------

    async def complete(
        self, challenge: str, answer: Answer, client: Client | None, device: Device
    ) -> tuple[SignedIn, Client]:
        """Complete a sign-in with the second factor.

        Args:
            client: "browser" or "native"; None for that of the sign-in.
            device: the device of the client.

        Returns:
            The login session, and the client of the sign-in.

        Raises:
            WrongFactor: the answer is wrong, or was used; the challenge stays valid.
            Unauthenticated: the challenge is forged, used, expired or otherwise invalid, or this
                was its fifth wrong answer.
            RateLimited: too many wrong answers, or too many sign-ins of this user.
        """
        network = network_of(device.ip)
        if not self._checksums.holds(challenge, PREFIX, MAX_CHALLENGE_LENGTH):
            raise await self._refused("not one of ours, by its form", network)
        hash_ = token_hash(challenge)
        waiting = await self._database.run(self._waiting, hash_)
        if waiting is None or client not in (None, waiting[1]):
            raise await self._refused("used, too old, or its account has changed", network)
        user, asked_by = waiting
        self._database.callers.enter("users", f"account {user.id}")
        known_device = self._devices.recognise(device.kept, user.email)
        is_known = known_device is not None or await self._networks.knows(network, user.email)
        attempt = await self._sign_in_limits.begin_factor(
            user.id, network, known_device, is_known, answer.can_be_guessed
        )
        try:
            opened = await self._database.run(self._complete, hash_, answer, device, asked_by)
        except BaseException:  # cancelled too
            attempt.unknown()
            raise
        if not isinstance(opened, SignedIn):
            attempt.wrong()
            self._metrics.sign_ins.labels(outcome="refused").inc()
            opened.about = user.id
            raise opened
        attempt.right()
        self._metrics.sign_ins.labels(outcome="signed_in").inc()
        await self._sessions.announce(opened)
        return opened, asked_by

    # ---- with a passkey alone --------------------------------------------------------------

    async def by_passkey(
        self,
        asserted: Assertion,
        use: Callable[[peewee.Database, Assertion], None],
        client: Client,
        device: Device,
    ) -> SignedIn:
        """Sign in with a passkey alone.

        Args:
            use: `Passkeys.use`.

        Raises:
            SecondFactorNeeded: the passkey did not verify its user, and the account has a second
                factor.
            PasskeyRefused: it was used meanwhile, or is a copy.
            Unauthenticated: the account is disabled or deleted.
            RateLimited: too many sign-ins of this user.
        """
        taken = await self._limits.take((self._limits.of.signins, asserted.user_id))
        taken.require()

        def work(db: peewee.Database) -> SignedIn | SecondFactorNeeded:
            user = locked_one(User.select().where(User.id == asserted.user_id), db)
            if user is None or user.disabled_at is not None:
                raise Unauthenticated("sign-in: account gone or disabled")
            use(db, asserted)
            needed = None
            if asserted.acr == "1":
                needed = self.begin_within(db, user, PASSKEY, client)
            proof = Proof(asserted.acr)
            return needed or self._sessions.open_within(db, user, PASSKEY, device, proof=proof)

        try:
            opened = await self._database.run(work)
        except BaseException:  # cancelled too
            taken.give_back()
            raise
        if isinstance(opened, SecondFactorNeeded):
            taken.give_back()
            opened.about = asserted.user_id
            raise opened
        self._metrics.sign_ins.labels(outcome="signed_in").inc()
        await self._sessions.announce(opened)
        return opened

    def _complete(
        self, db: peewee.Database, hash_: str, answer: Answer, device: Device, client: Client
    ) -> SignedIn | Unauthenticated:
        found = self._waiting(db, hash_, lock=True)
        if found is None:
            return Unauthenticated("second factor: another answer was faster")
        user, same = found[0], LoginChallenge.hash == hash_
        row = LoginChallenge.select().where(same).get(db)
        if answer.use(db, user.id, row.method):
            LoginChallenge.delete().where(same).execute(db)
            return self._sessions.open_within(
                db,
                user,
                row.method,
                msgspec.structs.replace(device, client=client),
                proof=Proof("2"),
            )
        if row.wrong + 1 >= MAX_WRONG:
            LoginChallenge.delete().where(same).execute(db)
            return Unauthenticated("second factor: wrong for the last time")
        wrong = {LoginChallenge.wrong: row.wrong + 1}
        LoginChallenge.update(wrong).where(same).execute(db)
        return WrongFactor("second factor: wrong, or used")

    def _waiting(
        self, db: peewee.Database, hash_: str, lock: bool = False
    ) -> tuple[User, Client] | None:
        """The account of a valid challenge, and the client that it was started with."""
        same = LoginChallenge.hash == hash_
        row = LoginChallenge.select().where(same).get_or_none(db)
        if row is None:
            return None
        query = User.select().where(User.id == row.user_id)
        user = locked_one(query, db) if lock else query.get_or_none(db)
        if lock:  # read again under the lock, as a concurrent use may have deleted it
            row = LoginChallenge.select().where(same).get_or_none(db)
        if row is None or user is None or user.disabled_at is not None:
            return None
        timely = row.created_at - CLOCK_SKEW_SECONDS <= self._clock() < row.expires_at
        if not timely or row.state != _state_of(user):
            return None
        return user, cast("Client", row.client)

    async def _refused(self, evidence: str, network: str) -> Unauthenticated:
        """Count an invalid challenge for the client's address.

        Raises:
            RateLimited: too many invalid ones.
        """
        (await self._limits.take((self._limits.of.bad_tokens, network))).require()
        return Unauthenticated(f"second factor: challenge {evidence}")


def _state_of(user: User) -> str:
    """The state that invalidates earlier challenges when it changes: password, address, and
    sign-outs everywhere."""
    return token_hash(f"{user.email}\0{user.password_hash or ''}\0{user.generation}")
