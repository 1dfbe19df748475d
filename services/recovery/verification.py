"""Verifies the address of an account with a link in a mail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import peewee

from models.user import User
from services.accounts import link_rows
from services.accounts.link_tokens import LinkTokens
from services.mail_outbox import Decided, Letter, Mails
from services.recovery.mail_limits import MailLimits
from services.registration.addresses import normalised_email
from services.storage.database import Database
from services.storage.row_locks import locked_one

Mode = Literal["off", "optional", "required"]
"""EMAIL_VERIFICATION."""
VERIFY_SECONDS = 86_400.0
PAGE = "/confirm-email"


class Verification:
    """Sends links that verify an address. `confirmations.py` uses them.

    Args:
        clock: epoch seconds that never go back within the process.
    """

    def __init__(
        self,
        database: Database,
        tokens: LinkTokens,
        mails: Mails,
        limits: MailLimits,
        mode: Mode,
        clock: Callable[[], float],
    ) -> None:
        self._database, self._tokens, self._mails = database, tokens, mails
        self._limits, self._clock = limits, clock
        self.mode = mode

    async def ask(self, email: str, ip: str) -> None:
        """Request the mail again, whether or not there is such an account.

        Raises:
            BadRequest: the text cannot be an e-mail address.
            RateLimited: too many mails were requested from this client address.
        """
        address = normalised_email(email)
        if await self._limits.take(ip, address, "verify") and self.mode != "off":
            await self._database.run(self._mails.ask, "verify", address, {})

    def decide(self, db: peewee.Database, to: str, _: dict[str, str]) -> Decided:
        """The mail, if the address has an account and is not verified."""
        user = locked_one(User.select().where(User.email == to), db)
        if user is None or not self.is_open(user):
            return Decided()
        return Decided(self.letter(db, user))

    def is_open(self, user: User) -> bool:
        """Whether the owner of the mailbox can confirm the address of an account."""
        return not (user.email_verified or user.email_given_up) and user.disabled_at is None

    def letter(self, db: peewee.Database, user: User) -> Letter:
        """A mail with a new link to a locked account."""
        hash_, url = self._tokens.make(PAGE)
        link_rows.insert(db, hash_, user, "verify", self._clock(), VERIFY_SECONDS)
        return Letter("verify_address", user.email, {"link": url.reveal()})
