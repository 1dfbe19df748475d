"""Sign-ups if EMAIL_VERIFICATION is `required`: the same response for every address.

The request checks everything that does not depend on the address, hashes the password, and writes
a row. The account is created in the background. If the address already has an account, its owner
gets a mail instead.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from functools import partial
from typing import cast

import peewee

from models.user import User
from services.accounts import account_rows, link_rows
from services.accounts.display_names import checked_name
from services.accounts.passwords import Passwords, hints
from services.accounts.sign_in_limits import SignInLimits
from services.claims import Role
from services.errors import InvitationNeeded, SignupClosed
from services.limits.networks import network_of
from services.mail_outbox import Decided, Letter, Mails
from services.outbox import Outbox
from services.recovery.mail_limits import MailLimits
from services.recovery.verification import Verification
from services.registration.addresses import normalised_email
from services.registration.registration import Admitted, Registration
from services.storage.database import Database
from services.storage.row_locks import locked_one

FIRST = "yes"
"""Marks a sign-up that was requested while there was no account."""

log = logging.getLogger("usher.accounts")


class PendingSignUps:
    """Accepts sign-ups, and creates the accounts.

    Args:
        clock: epoch seconds that never go back within the process.
        opened: called with the user of every account, after its commit.
    """

    def __init__(
        self,
        database: Database,
        passwords: Passwords,
        registration: Registration,
        limits: SignInLimits,
        mail_limits: MailLimits,
        verification: Verification,
        mails: Mails,
        outbox: Outbox,
        clock: Callable[[], float],
        opened: Callable[[str], None],
    ) -> None:
        self._database, self._passwords = database, passwords
        self._registration, self._limits = registration, limits
        self._mail_limits = mail_limits
        self._verification, self._mails, self._outbox = verification, mails, outbox
        self._clock, self._opened = clock, opened

    async def ask(self, email: str, password: str, name: str, ip: str, invitation: str) -> None:
        """Accept a sign-up. It counts for the client's address.

        Raises:
            As `Accounts.sign_up`, except for a taken address, which the response does not reveal.
        """
        address, shown = normalised_email(email), checked_name(name)
        self._registration.check_domain(address)
        invited = await self._registration.check(invitation, ip)
        taken = await self._limits.begin_sign_up(network_of(ip))
        try:
            await self._passwords.check_strength(password, hints(address, shown))
            hash_ = await self._passwords.hash(password)
            if await self._mail_limits.take_mailbox(address, "sign_up"):
                await self._database.run(self._write, address, shown, hash_, invited)
        except BaseException:  # also if cancelled: a sign-up that failed must not count
            taken.give_back()
            raise

    def _write(
        self, db: peewee.Database, address: str, name: str, hash_: str, invited: str | None
    ) -> None:
        # An invitation is used up whether or not the address has an account.
        admitted, first = Admitted(), ""
        if account_rows.is_anybody(db):
            admitted = self._registration.admit(db, address, invited)
        else:
            # Decided later: of concurrent sign-ups without an account, only one is the first.
            first = FIRST
        values = {"name": name, "hash": hash_, "role": admitted.role, "first": first}
        self._mails.ask(db, "sign_up", address, {**values, "invitation": admitted.invitation})

    def decide(self, db: peewee.Database, to: str, values: dict[str, str]) -> Decided:
        """Create the account, or write a mail to the owner of the existing one."""
        user = locked_one(User.select().where(User.email == to), db)
        if user is not None and self._verification.is_open(user):
            return Decided(self._verification.letter(db, user))
        if user is not None:
            return Decided(None if user.disabled_at else Letter("address_known", to, {}))
        if link_rows.is_reserved(db, to, self._clock()):
            return Decided()
        try:
            admitted = self._admitted(db, to, values)
        except (SignupClosed, InvitationNeeded) as error:
            log.info("a sign-up is dropped: %s", error.evidence)
            return Decided()
        row = {
            "id": secrets.token_urlsafe(16),
            "email": to,
            "name": values["name"],
            "password_hash": values["hash"],
            "created_at": self._clock(),
        }
        done = account_rows.insert_first_or_next(db, row, self._outbox, lambda: admitted)
        user = User.select().where(User.email == to).get(db)
        letter = self._verification.letter(db, user)
        return Decided(letter, partial(self._after, str(user.id), done))

    def _admitted(self, db: peewee.Database, address: str, values: dict[str, str]) -> Admitted:
        """The decision made at the request, or made now if the sign-up could have been the first.

        Raises:
            SignupClosed, InvitationNeeded: another was the first, and SIGNUP allows no more.
        """
        if values.get("first") == FIRST and account_rows.is_anybody(db):
            return self._registration.admit(db, address, None)
        return Admitted(cast("Role", values["role"]), values["invitation"])

    def _after(self, user_id: str, admitted: Admitted) -> None:
        self._registration.used(admitted, user_id)
        self._opened(user_id)
        if admitted.role == "admin" and not admitted.invitation:
            account_rows.say_first(user_id)
