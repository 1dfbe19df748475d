"""Forgotten passwords: a mail with a link, to an address that has an account.

The response and its time are the same for every address, because the request only writes a row,
which is processed in the background.
"""

from __future__ import annotations

from collections.abc import Callable

import peewee

from models.user import User
from services.accounts import link_rows
from services.accounts.devices import Devices
from services.accounts.link_tokens import LinkTokens
from services.accounts.password_links import PAGE, RESET_SECONDS
from services.mail_outbox import Decided, Letter, Mails
from services.recovery.mail_limits import MailLimits
from services.registration.addresses import normalised_email
from services.storage.database import Database
from services.storage.row_locks import locked_one


class Forgotten:
    """Sends links that set a new password (services/accounts/password_links.py uses them).

    Args:
        clock: epoch seconds that never go back within the process.
        made: called with the user of every new link, after its commit.
    """

    def __init__(
        self,
        database: Database,
        tokens: LinkTokens,
        mails: Mails,
        limits: MailLimits,
        devices: Devices,
        clock: Callable[[], float],
        made: Callable[[str], None],
    ) -> None:
        self._database, self._tokens, self._mails = database, tokens, mails
        self._limits, self._devices = limits, devices
        self._clock, self._made = clock, made

    async def ask(self, email: str, ip: str, kept: str = "") -> None:
        """Request a link, whether or not there is such an account.

        Args:
            kept: the device cookie that was presented.

        Raises:
            BadRequest: the text cannot be an e-mail address.
            RateLimited: too many mails were requested from this client address.
        """
        address = normalised_email(email)
        is_known = self._devices.recognise(kept, address) is not None
        if await self._limits.take(ip, address, "forgot", is_known):
            await self._database.run(self._mails.ask, "forgot", address, {})

    def decide(self, db: peewee.Database, to: str, _: dict[str, str]) -> Decided:
        """The mail, if the address has an account that may sign in. An address that was given up
        may belong to another person by now."""
        user = locked_one(User.select().where(User.email == to), db)
        if user is None or user.disabled_at is not None or user.email_given_up:
            return Decided()
        user_id = str(user.id)
        return Decided(self.letter(db, user), lambda: self._made(user_id))

    def letter(self, db: peewee.Database, user: User) -> Letter:
        """A mail with a new link to a locked account."""
        hash_, url = self._tokens.make(PAGE)
        link_rows.insert(db, hash_, user, "reset", self._clock(), RESET_SECONDS)
        return Letter("reset_password", user.email, {"link": url.reveal()})
