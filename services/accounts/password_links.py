"""One-time links by which the owner of an account sets its password.

A link is `PUBLIC_URL/set-password#token=…`: browsers do not send the fragment, so it appears in no
log of a server or proxy. A link works once, on any node, and only while the account is unchanged: a
new password or e-mail address invalidates it, and so does disabling the account or making it an
administrator's. Using a link invalidates the account's other links and ends its login sessions.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

import msgspec
import peewee

from models.user import User
from services.accounts import account_rows, link_rows
from services.accounts.account_rows import UserRow
from services.accounts.display_names import checked_name
from services.accounts.passwords import Passwords, hints
from services.errors import AccountDisabled, EmailTaken, LinkRefused, NotFound
from services.event_loop.steady_clock import SteadyClock
from services.keyed_tokens import CHECKSUM_LENGTH, Checksums
from services.limits.hourly import HourlyLimits
from services.limits.networks import network_of
from services.opaque import opaque_token, token_hash
from services.outbox import NO_OUTBOX, Outbox
from services.registration.addresses import normalised_email
from services.registration.registration import Registration
from services.secret import Secret
from services.sessions.control import Revocation
from services.sessions.revocations import Revocations
from services.sessions.session_ends import SessionEnds
from services.storage.database import Database
from services.storage.row_locks import locked_one

RESET_SECONDS = 30 * 60.0
NEW_ACCOUNT_SECONDS = 7 * 86400.0
"""A new account's first link: nobody waits for it, and until then there is nothing to lose."""
PREFIX = "usher_pl_"
"""Before tokens, so that secret scanners find leaked ones."""
MAX_TOKEN_LENGTH = 128
PAGE = "/set-password"
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
        checksums: verify a token's checksum before a look-up.
        registration: decides which addresses may have an account.
        public_url: the URL at which browsers reach the server, without a trailing slash.
        outbox: receives events when accounts are created.
        clock: epoch seconds that never go back within the process.
    """

    def __init__(
        self,
        database: Database,
        passwords: Passwords,
        session_ends: SessionEnds,
        revocations: Revocations,
        checksums: Checksums,
        limits: HourlyLimits,
        registration: Registration,
        public_url: str,
        outbox: Outbox = NO_OUTBOX,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._database, self._passwords = database, passwords
        self._ends, self._revocations = session_ends, revocations
        self._checksums, self._limits = checksums, limits
        self._registration = registration
        self._public_url, self._outbox = public_url, outbox
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
        text = opaque_token(PREFIX).reveal()
        token, now = text + self._checksums.sign(text), self._clock()
        link_rows.insert(db, token_hash(token), user, link_rows.PASSWORD, now, seconds)
        url = Secret(f"{self._public_url}{PAGE}#token={token}")
        return PasswordLink(account_rows.row_of(user), url, now + seconds)

    # ---- using -----------------------------------------------------------------------------

    async def use(self, token: str, new_password: str, ip: str) -> str:
        """Set the password of a link's account, and end all of its login sessions. A refused
        password does not use the link up. Returns the user's id.

        Args:
            token: the token of the link.
            ip: the client's address.

        Raises:
            LinkRefused: the link is invented, used or expired, or its account was changed,
                disabled or deleted meanwhile.
            WeakPassword: with suggestions.
            RateLimited: too many invalid links from this address in an hour, or too many attempts
                with one link. A valid link is accepted even if its address sent many invalid ones.
        """
        if not self._has_valid_checksum(token):
            raise await self._refused("not one of ours, by its form", ip)
        (await self._limits.take((self._limits.of.refresh_reuse, token))).require()
        hash_ = token_hash(token)
        user = await self._database.run(
            link_rows.account_of, hash_, link_rows.PASSWORD, self._clock()
        )
        if user is None:
            raise await self._refused("used, too old, or its account has changed", ip)
        await self._passwords.check_strength(new_password, hints(user.email, user.name))
        new_hash = await self._passwords.hash(new_password)
        ended = await self._database.run(self._set, hash_, new_hash)
        if ended is None:
            raise await self._refused("used, or its account has changed, at this moment", ip)
        await self._revocations.publish(ended)
        return str(user.id)

    def _set(self, db: peewee.Database, hash_: str, new_hash: str) -> list[Revocation] | None:
        user = link_rows.take(db, hash_, link_rows.PASSWORD, self._clock())
        if user is None:
            return None
        User.update({User.password_hash: new_hash}).where(User.id == user.id).execute(db)
        link_rows.forget(db, user.id)
        return self._ends.end_all_within(db, user.id, REASON)

    def _has_valid_checksum(self, token: str) -> bool:
        text, checksum = token[:-CHECKSUM_LENGTH], token[-CHECKSUM_LENGTH:]
        return (
            len(token) <= MAX_TOKEN_LENGTH
            and text.startswith(PREFIX)
            and self._checksums.verify(text, checksum)
        )

    async def _refused(self, evidence: str, ip: str) -> LinkRefused:
        """Count an invalid link for the client's address.

        Raises:
            RateLimited: too many invalid links.
        """
        limits = self._limits
        (await limits.take((limits.of.bad_tokens, network_of(ip)))).require()
        return LinkRefused(f"set password: {evidence}")
