"""Uses links that confirm an address: that of a new account, or a new one of an existing account.

A link proves that the user owns the mailbox, not that they created the account: anybody can sign up
with another user's address and wait for them to follow the link. So the user also has to be signed
in to the account, or enter its password. Otherwise the account is handed over to them
(services/registration/handovers.py). A new address of an existing account is never confirmed
without that, because it may have been mistyped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import peewee

from models.user import User
from services.accounts import link_rows
from services.accounts.link_rows import Purpose
from services.accounts.link_tokens import LinkTokens
from services.accounts.passwords import Passwords
from services.errors import LinkRefused, ReauthenticationNeeded, WrongPassword
from services.recovery.address_changes import AddressChanges
from services.recovery.forgotten import Forgotten
from services.registration.handovers import Handover, Handovers
from services.secret import Secret
from services.storage.database import Database

PURPOSES: tuple[Purpose, ...] = ("verify", "change")


class Confirmed(msgspec.Struct, frozen=True):
    """The result of using a link.

    Attributes:
        purpose: "verify" or "change".
        set_password: the URL where the owner of the address sets a password, if the account was
            handed over to them.
    """

    user_id: str
    purpose: Purpose
    set_password: Secret | None = None


class Confirmations:
    """Uses links.

    Args:
        clock: epoch seconds that never go back within the process.
    """

    def __init__(
        self,
        database: Database,
        tokens: LinkTokens,
        passwords: Passwords,
        handovers: Handovers,
        changes: AddressChanges,
        forgotten: Forgotten,
        clock: Callable[[], float],
    ) -> None:
        self._database, self._tokens, self._passwords = database, tokens, passwords
        self._handovers, self._changes = handovers, changes
        self._forgotten, self._clock = forgotten, clock

    async def use(self, token: str, ip: str, user_id: str, password: str | None) -> Confirmed:
        """Confirm an address. A refused attempt does not use up the link.

        Args:
            user_id: the account that the caller is signed in to; empty for none.
            password: the account's, if the caller is not signed in.

        Raises:
            LinkRefused: the link is forged, used or expired, or its account was changed meanwhile
                or is an administrator's and cannot be handed over.
            WrongPassword: it is wrong.
            ReauthenticationNeeded: a new address requires a password or a sign-in.
            RateLimited: as `LinkTokens.recognise`.
        """
        hash_ = await self._tokens.recognise(token, ip)
        found = await self._database.run(link_rows.look, hash_, PURPOSES, self._clock())
        if found is None:
            raise await self._tokens.refused("used, too old, or its account has changed", ip)
        is_owner = user_id == found.user.id
        if not is_owner and password is not None:
            verdict = await self._passwords.verify(password, found.user.password_hash)
            if not verdict.ok:
                raise WrongPassword("confirmation: wrong password")
            is_owner = True
        if not is_owner and found.purpose == "change":
            raise ReauthenticationNeeded("confirmation: neither signed in nor a password")
        try:
            done = await self._database.run(self._confirm, hash_, is_owner)
        except peewee.IntegrityError:
            done = None  # another account took the address at this moment
        if done is None:
            raise await self._tokens.refused("used, or its account changed, at this moment", ip)
        confirmed, handover = done
        await self._handovers.finish(handover)
        return confirmed

    def _confirm(
        self, db: peewee.Database, hash_: str, is_owner: bool
    ) -> tuple[Confirmed, Handover | None] | None:
        # A password that was changed since it was checked has changed the state of the link.
        taken = link_rows.take(db, hash_, PURPOSES, self._clock())
        if taken is None:
            return None
        user = taken.user
        done = Confirmed(str(user.id), taken.purpose)
        if taken.purpose == "change":
            self._changes.apply(db, taken)
            return done, None
        if is_owner:
            proven: dict[Any, Any] = {User.email_verified: True, User.email_given_up: False}
            User.update(proven).where(User.id == user.id).execute(db)
            return done, None
        handover = self._handovers.prove(db, user, "mail")
        if handover is None:
            raise LinkRefused("confirmation: the account is not given away without its password")
        link = self._forgotten.letter(db, user).values["link"]
        return msgspec.structs.replace(done, set_password=Secret(link)), handover
