"""Changes of an account's address: requesting one, and undoing it from the former address.

The address changes when the new one is confirmed (`confirmations.py`). The former address, if it
was verified, gets a link that undoes the change within 7 days. Nothing that happens to the account
meanwhile invalidates the link, because the thief of an account can change everything else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import peewee

from models.user import User
from services.accounts import account_rows, link_rows
from services.accounts.link_rows import Purpose, TakenLink
from services.accounts.link_tokens import LinkTokens
from services.errors import LinkRefused, Unauthenticated
from services.mail_outbox import Decided, Letter, Mails
from services.outbox import Outbox
from services.recovery.forgotten import Forgotten
from services.recovery.mail_limits import MailLimits
from services.recovery.verification import PAGE
from services.registration.addresses import normalised_email
from services.registration.handovers import Handover, Handovers
from services.registration.registration import Registration
from services.storage.database import Database
from services.storage.row_locks import locked_one

CHANGE_SECONDS = 3600.0
UNDO_SECONDS = 7 * 86_400.0
UNDO_PAGE = "/undo-email"
UNDO: tuple[Purpose, ...] = ("undo",)
REASON = "address_restored"
"""Why login sessions end when a change is undone."""


class AddressChanges:
    """Requests, applies and undoes changes of address.

    Args:
        clock: epoch seconds that never go back within the process.
    """

    def __init__(
        self,
        database: Database,
        tokens: LinkTokens,
        mails: Mails,
        limits: MailLimits,
        registration: Registration,
        forgotten: Forgotten,
        handovers: Handovers,
        outbox: Outbox,
        clock: Callable[[], float],
    ) -> None:
        self._database, self._tokens, self._mails = database, tokens, mails
        self._limits, self._registration, self._forgotten = limits, registration, forgotten
        self._handovers, self._outbox, self._clock = handovers, outbox, clock

    # ---- requesting ------------------------------------------------------------------------

    async def ask(self, user_id: str, email: str, ip: str) -> None:
        """Request a new address: it gets a mail, and the current one gets a notice. The response
        does not reveal whether another account has the new one.

        Raises:
            BadRequest: the text cannot be an e-mail address.
            EmailDomainRefused: EMAIL_DOMAINS does not have its domain.
            RateLimited: too many mails were requested from this client address.
            Unauthenticated: the account is deleted.
        """
        address = normalised_email(email)
        self._registration.check_domain(address)
        may = await self._limits.take(ip, address, "change")

        def work(db: peewee.Database) -> None:
            user = account_rows.by_id(db, user_id)
            if user is None:
                raise Unauthenticated("account gone")
            if address == user.email or not may:
                return
            self._mails.enqueue(db, "address_change_asked", user.email, {})
            values = {"user": user_id, "state": link_rows.state_of(user)}
            self._mails.ask(db, "change", address, values)

        await self._database.run(work)

    def decide(self, db: peewee.Database, to: str, values: dict[str, str]) -> Decided:
        """The mail to the new address, if the account has not changed since the request."""
        user = locked_one(User.select().where(User.id == values["user"]), db)
        if user is None or link_rows.state_of(user) != values["state"]:
            return Decided()
        if self._is_taken(db, to, user.id):
            return Decided(Letter("address_known", to, {}))
        hash_, url = self._tokens.make(PAGE)
        link_rows.insert(db, hash_, user, "change", self._clock(), CHANGE_SECONDS, to)
        return Decided(Letter("change_address", to, {"link": url.reveal()}))

    def _is_taken(self, db: peewee.Database, address: str, user_id: str) -> bool:
        other = (User.email == address) & (User.id != user_id)
        return bool(User.select(User.id).where(other).exists(db)) or link_rows.is_reserved(
            db, address, self._clock(), but=user_id
        )

    # ---- changing --------------------------------------------------------------------------

    def apply(self, db: peewee.Database, taken: TakenLink) -> None:
        """Change the address of a locked account to the one that its link has proven.

        Raises:
            LinkRefused: another account has it by now.
        """
        user, former, was_proven = taken.user, taken.user.email, taken.user.email_verified
        assert taken.email is not None
        self._set(db, user, taken.email)
        if not was_proven:
            self._mails.enqueue(db, "address_left", former, {})
            return
        hash_, url = self._tokens.make(UNDO_PAGE)
        link_rows.insert(db, hash_, user, "undo", self._clock(), UNDO_SECONDS, former)
        self._mails.enqueue(db, "address_changed", former, {"link": url.reveal()})

    def _set(self, db: peewee.Database, user: User, address: str, **more: Any) -> None:
        if self._is_taken(db, address, user.id):
            raise LinkRefused("address: another account has it by now")
        values = {"email": address, "email_verified": True, "email_given_up": False, **more}
        User.update(values).where(User.id == user.id).execute(db)
        for name, value in values.items():
            setattr(user, name, value)
        account_rows.write_event(db, self._outbox, "user.changed", user, "email")

    # ---- undoing ---------------------------------------------------------------------------

    async def undo(self, token: str, ip: str) -> str:
        """Restore the former address of an account. The user who changed the address had its
        password, and may have added other credentials. So the password is invalidated, login
        sessions end, and second factors, passkeys, linked identities, and the API keys and
        invitations created since the change are removed. The address gets a mail with a link that
        sets a new password. Returns the user's id.

        Raises:
            LinkRefused: the link is forged, used or expired.
            RateLimited: as `LinkTokens.recognise`.
        """
        hash_ = await self._tokens.recognise(token, ip)
        try:
            cleared = await self._database.run(self._undo, hash_)
        except peewee.IntegrityError:
            cleared = None
        if cleared is None:
            raise await self._tokens.refused("used or too old, or the address is taken", ip)
        await self._handovers.finish(cleared)
        return cleared.user_id

    def _undo(self, db: peewee.Database, hash_: str) -> Handover | None:
        taken = link_rows.take(db, hash_, UNDO, self._clock())
        if taken is None or taken.email is None:
            return None
        user, current = taken.user, taken.user.email
        self._set(db, user, taken.email, password_hash=None)
        link_rows.forget(db, user.id)
        link_rows.forget_undoing(db, user.id, taken.created_at)
        for address in {current, user.email}:
            self._mails.enqueue(db, "address_restored", address, {})
        letter = self._forgotten.letter(db, user)
        self._mails.enqueue(db, letter.kind, letter.to, letter.values)
        since = taken.created_at - link_rows.CLOCK_SKEW_SECONDS
        return self._handovers.clear(db, user, "mail", REASON, since)
