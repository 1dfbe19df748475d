"""The authenticator app and recovery codes of a user, and what counts as second factor.

An authenticator app (TOTP, RFC 6238) is a second factor: with it, a password alone is not enough to
sign in. Recovery codes and passkeys of the account are then accepted instead of the app's code. A
passkey by itself does not make a second factor necessary for passwords.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

import msgspec
import peewee
import pyotp

from models.login_challenge import LoginChallenge
from models.passkey import Passkey
from models.user import User
from services.claims import Acr
from services.errors import FactorInUse, NotFound, Unavailable, WrongCode
from services.factors import recovery_rows, totp_rows
from services.factors.passkeys import write_mail
from services.limits.hourly import HourlyLimits, Taken
from services.mail_outbox import NO_MAILS, Mails
from services.secret import Secret
from services.sessions import session_rows
from services.storage.database import Database
from services.storage.encryption import Encryption
from services.storage.row_locks import locked_one

Method = Literal["totp", "recovery_code", "passkey"]
MAX_CODE_LENGTH = 64


class TotpState(msgspec.Struct, frozen=True):
    """`since`: epoch seconds; absent while there is no authenticator app in use."""

    enabled: bool
    recovery_codes_left: int
    since: float | None = None


class NewSecret(msgspec.Struct, frozen=True):
    """A secret for an authenticator app, shown only once. `url`: with the `otpauth` scheme."""

    secret: Secret
    url: Secret


class Factors:
    """Sets up, checks and removes second factors.

    Args:
        keys_are_wrong: whether ENCRYPTION_KEYS are known not to be this installation's.
        issuer: the installation's name in authenticator apps.
        clock: epoch seconds.
    """

    def __init__(
        self,
        database: Database,
        encryption: Encryption,
        limits: HourlyLimits,
        keys_are_wrong: Callable[[], bool],
        issuer: str,
        mails: Mails = NO_MAILS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database, self._encryption = database, encryption
        self._limits, self._keys_are_wrong = limits, keys_are_wrong
        self._issuer, self._mails, self._clock = issuer, mails, clock

    # ---- used by other services ------------------------------------------------------------

    async def methods(self, user_id: str) -> tuple[Method, ...]:
        """What is accepted as the second factor; empty if a password alone signs the user in."""
        return await self._database.run(methods_of, user_id)

    async def prove(self, user_id: str, session_id: str, code: str) -> Acr:
        """Check a code of a signed-in user's authenticator app, or a recovery code, and use it up.
        Wrong ones count for the login session.

        Raises:
            WrongCode: it is wrong, or was used.
            RateLimited: too many wrong ones in this login session.
            Unavailable: no encryption key can decrypt the stored secret.
        """
        taken = await self._begin(session_id)
        try:
            if not await self._database.run(self.use_code, user_id, code):
                taken.keep()
                raise WrongCode("second factor: wrong or used")
        finally:
            taken.give_back()
        return "2"

    def use_code(self, db: peewee.Database, user_id: str, code: str) -> bool:
        """Use a code up within the caller's transaction. Returns False if it is wrong or was used.

        Raises:
            Unavailable: no encryption key can decrypt the stored secret.
        """
        if totp_rows.is_totp(code):
            return totp_rows.use(db, self._encryption, user_id, code, self._clock())
        if not (recovery_rows.is_recovery_code(code) and recovery_rows.use(db, user_id, code)):
            return False
        write_mail(db, self._mails, user_id, "recovery_code_used")
        return True

    @staticmethod
    def remove_all(db: peewee.Database, user_id: str) -> bool:
        """Remove all factors of an account except the password, and pending sign-ins, within the
        caller's transaction. Returns whether there was any factor."""
        some = bool(Passkey.delete().where(Passkey.user == user_id).execute(db))
        LoginChallenge.delete().where(LoginChallenge.user == user_id).execute(db)
        return totp_rows.remove(db, user_id) or some

    async def remove_by_admin(self, user_id: str) -> None:
        """Remove all factors of an account except the password, for a user who has lost them. The
        owner gets a mail.

        Raises:
            NotFound: the account does not exist, or has no factors.
        """

        def work(db: peewee.Database) -> bool:
            locked_one(User.select().where(User.id == user_id), db)
            removed = self.remove_all(db, user_id)
            if removed:
                write_mail(db, self._mails, user_id, "second_factor_off")
            return removed

        if not await self._database.run(work):
            raise NotFound("factors: no such account, or it has none")

    # ---- the caller's own authenticator app ------------------------------------------------

    async def totp_state(self, user_id: str) -> TotpState:
        """Whether an authenticator app is in use, and how many recovery codes are left."""

        def work(db: peewee.Database) -> TotpState:
            row = totp_rows.in_use(db, user_id)
            if row is None:
                return TotpState(False, 0)
            return TotpState(True, recovery_rows.left(db, user_id), row.confirmed_at)

        return await self._database.run(work)

    async def begin_totp(self, user_id: str) -> NewSecret:
        """Create a secret for an authenticator app. `confirm_totp` activates it.

        Raises:
            FactorInUse: the user has an active one, which must be removed first.
            NotFound: the account is deleted.
            Unavailable: ENCRYPTION_KEYS are not this installation's.
        """
        if self._keys_are_wrong():
            raise Unavailable("totp: the encryption keys are not this installation's")
        secret = pyotp.random_base32()
        sealed = self._encryption.encrypt(secret)

        def work(db: peewee.Database) -> str:
            user = locked_one(User.select().where(User.id == user_id), db)
            if user is None:
                raise NotFound("account gone")
            if not totp_rows.begin(db, user_id, sealed, self._clock()):
                raise FactorInUse("totp: there is one in use")
            return str(user.email)

        email = await self._database.run(work)
        url = pyotp.TOTP(secret).provisioning_uri(name=email, issuer_name=self._issuer)
        return NewSecret(Secret(secret), Secret(url))

    async def confirm_totp(self, user_id: str, session_id: str, code: str) -> tuple[str, ...]:
        """Activate the new secret. Returns the recovery codes, which are shown only once.

        Raises:
            WrongCode: the code is wrong, or no secret is waiting for one.
            RateLimited: as `prove`.
            Unauthenticated: the login session ended meanwhile.
            Unavailable: no encryption key can decrypt the stored secret.
        """
        taken = await self._begin(session_id)

        def work(db: peewee.Database) -> tuple[str, ...] | None:
            session_rows.acting_user(db, user_id, session_id, self._clock())
            codes = totp_rows.confirm(db, self._encryption, user_id, code, self._clock())
            if codes is not None:
                write_mail(db, self._mails, user_id, "second_factor_on")
            return codes

        try:
            codes = await self._database.run(work)
            if codes is None:
                taken.keep()
                raise WrongCode("totp: the first code is wrong, or no secret is waiting for one")
        finally:
            taken.give_back()
        return codes

    async def remove_totp(self, user_id: str) -> None:
        """Remove the authenticator app and the recovery codes. Challenges that wait for them end.

        Raises:
            NotFound: there is no active app.
        """

        def work(db: peewee.Database) -> bool:
            locked_one(User.select().where(User.id == user_id), db)
            LoginChallenge.delete().where(LoginChallenge.user == user_id).execute(db)
            removed = totp_rows.remove(db, user_id)
            if removed:
                write_mail(db, self._mails, user_id, "second_factor_off")
            return removed

        if not await self._database.run(work):
            raise NotFound("totp: none in use")

    async def new_recovery_codes(self, user_id: str) -> tuple[str, ...]:
        """Replace the recovery codes. They are shown only once.

        Raises:
            NotFound: the user has no active authenticator app.
        """

        def work(db: peewee.Database) -> tuple[str, ...] | None:
            locked_one(User.select().where(User.id == user_id), db)
            if totp_rows.in_use(db, user_id) is None:
                return None
            return recovery_rows.replace(db, user_id)

        codes = await self._database.run(work)
        if codes is None:
            raise NotFound("recovery codes: no authenticator app in use")
        return codes

    async def _begin(self, session_id: str) -> Taken:
        taken = await self._limits.take((self._limits.of.factor_guesses, f"session {session_id}"))
        taken.require()
        return taken


def methods_of(db: peewee.Database, user_id: str) -> tuple[Method, ...]:
    """What is accepted as the second factor; empty if a password alone signs the user in."""
    if totp_rows.in_use(db, user_id) is None:
        return ()
    found: list[Method] = ["totp"]
    if recovery_rows.left(db, user_id):
        found.append("recovery_code")
    if Passkey.select().where(Passkey.user == user_id).exists(db):
        found.append("passkey")
    return tuple(found)
