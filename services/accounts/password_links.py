"""One-time links by which the owner of an account sets its password.

A link is `PUBLIC_URL/set-password#token=…`: browsers do not send the fragment, so it appears in no
log of a server or proxy. A link works once, on any node, and only while the account is unchanged: a
new password or e-mail address invalidates it, and so does disabling the account or making it an
administrator's. Using a link invalidates the account's other links and ends its login sessions.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import msgspec
import peewee

from models.user import User
from services.accounts import account_rows, link_rows
from services.accounts.account_rows import UserRow
from services.accounts.display_names import checked_name
from services.accounts.link_rows import Purpose
from services.accounts.link_tokens import LinkTokens
from services.accounts.passwords import Passwords, hints
from services.errors import AccountDisabled, EmailTaken, NotFound
from services.event_loop.steady_clock import SteadyClock
from services.mail_outbox import NO_MAILS, Mails
from services.outbox import NO_OUTBOX, Outbox
from services.registration.addresses import normalised_email
from services.registration.handovers import Handover, Handovers
from services.registration.registration import Registration
from services.secret import Secret
from services.sessions.control import Revocation
from services.sessions.revocations import Revocations
from services.sessions.session_ends import SessionEnds
from services.storage.database import Database
from services.storage.row_locks import locked_one

RESET_SECONDS = 30 * 60.0
NEW_ACCOUNT_SECONDS = 7 * 86400.0
"""Lifetime of a new account's first link. It may be long, as the account has no data yet."""
PAGE = "/set-password"
PURPOSES: tuple[Purpose, ...] = ("password", "reset")
REASON = "password_reset"
"""Why login sessions end whose account got a password by a link."""


class PasswordLink(msgspec.Struct, frozen=True):
    """A link, which is shown only once. `expires_at`: epoch seconds."""

    user: UserRow
    url: Secret
    expires_at: float


class PasswordLinks:
    """Creates links, and sets a password once with each of them.

    Args:
        registration: decides which addresses may have an account.
        handovers: hands an account over to the owner of its address.
        outbox: receives events when accounts are created.
        clock: epoch seconds that never go back within the process.
    """

    def __init__(
        self,
        database: Database,
        passwords: Passwords,
        session_ends: SessionEnds,
        revocations: Revocations,
        tokens: LinkTokens,
        registration: Registration,
        handovers: Handovers,
        outbox: Outbox = NO_OUTBOX,
        mails: Mails = NO_MAILS,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._database, self._passwords = database, passwords
        self._ends, self._revocations = session_ends, revocations
        self._tokens, self._registration = tokens, registration
        self._handovers, self._outbox, self._mails = handovers, outbox, mails
        self._clock = SteadyClock() if clock is None else clock

    # ---- making ----------------------------------------------------------------------------

    async def open_account(self, email: str, name: str) -> PasswordLink:
        """Create an account without a password, and a link to set one. It never becomes an
        administrator, even if it is the first account.

        Raises:
            BadRequest: the e-mail address or the name is invalid.
            EmailDomainRefused: EMAIL_DOMAINS does not have its domain.
            EmailTaken: an account with that address exists.
        """
        address = normalised_email(email)
        self._registration.check_domain(address)
        values = {
            "id": secrets.token_urlsafe(16),
            "email": address,
            "name": checked_name(name),
            "created_at": self._clock(),
        }

        def work(db: peewee.Database) -> PasswordLink:
            if link_rows.is_reserved(db, address, self._clock()):
                raise EmailTaken("new account: the address may be brought back to another")
            account_rows.insert_next(db, values, self._outbox)
            user = User.select().where(User.id == values["id"]).get(db)
            return self._make(db, user, NEW_ACCOUNT_SECONDS)

        try:
            return await self._database.run(work)
        except peewee.IntegrityError as error:
            raise EmailTaken("new account: address taken") from error

    async def for_address(self, email: str) -> PasswordLink:
        """Create a link for the account with an e-mail address. The account is not changed.

        Raises:
            BadRequest: the text cannot be an e-mail address.
            NotFound: there is no such account.
            AccountDisabled: the account is disabled, so the link would not work.
        """
        address = normalised_email(email)

        def work(db: peewee.Database) -> PasswordLink:
            user = locked_one(User.select().where(User.email == address), db)
            if user is None:
                raise NotFound("there is no account with that address")
            if user.disabled_at is not None:
                raise AccountDisabled("the account is disabled; enable it first")
            return self._make(db, user, RESET_SECONDS)

        return await self._database.run(work)

    def _make(self, db: peewee.Database, user: User, seconds: float) -> PasswordLink:
        hash_, url = self._tokens.make(PAGE)
        now = self._clock()
        link_rows.insert(db, hash_, user, "password", now, seconds)
        return PasswordLink(account_rows.row_of(user), url, now + seconds)

    # ---- using -----------------------------------------------------------------------------

    async def use(self, token: str, new_password: str, ip: str) -> str:
        """Set the password of a link's account, and end all of its login sessions. A refused
        password does not use the link up. Returns the user's id.

        A link that was mailed proves the account's address. If it was not verified before, the
        account may have been created by somebody else (services/registration/handovers.py).

        Args:
            token: the token of the link.
            ip: the client's address.

        Raises:
            LinkRefused: the link is invented, used or expired, or its account was changed,
                disabled or deleted meanwhile.
            WeakPassword: with suggestions.
            RateLimited: as `LinkTokens.recognise`.
        """
        hash_ = await self._tokens.recognise(token, ip)
        found = await self._database.run(link_rows.look, hash_, PURPOSES, self._clock())
        if found is None:
            raise await self._tokens.refused("used, too old, or its account has changed", ip)
        user = found.user
        await self._passwords.check_strength(new_password, hints(user.email, user.name))
        new_hash = await self._passwords.hash(new_password)
        done = await self._database.run(self._set, hash_, new_hash)
        if done is None:
            raise await self._tokens.refused("used, or its account changed, at this moment", ip)
        ended, handover = done
        await self._handovers.finish(handover)
        await self._revocations.publish(ended)
        return str(user.id)

    def _set(
        self, db: peewee.Database, hash_: str, new_hash: str
    ) -> tuple[list[Revocation], Handover | None] | None:
        taken = link_rows.take(db, hash_, PURPOSES, self._clock())
        if taken is None:
            return None
        user, handover = taken.user, None
        changes: dict[Any, Any] = {User.password_hash: new_hash}
        if taken.purpose == "reset":
            handover = self._handovers.prove(db, user, "mail")
            changes |= {User.email_verified: True, User.email_given_up: False}
        User.update(changes).where(User.id == user.id).execute(db)
        link_rows.forget(db, user.id)
        self._mails.enqueue(db, "password_changed", user.email, {})
        return self._ends.end_all_within(db, user.id, REASON), handover
