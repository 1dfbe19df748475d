"""Administration of accounts: listing, changing, disabling and deleting them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import cast

import peewee

from models.user import User
from services.accounts import account_rows, link_rows, user_details
from services.accounts.account_rows import UserRow
from services.accounts.display_names import checked_name
from services.accounts.user_details import UserDetails
from services.claims import Role
from services.errors import Forbidden, NotFound
from services.mail_outbox import NO_MAILS, Mails
from services.outbox import NO_OUTBOX, Outbox
from services.registration.addresses import normalised_email
from services.sessions.control import Revocation
from services.sessions.revocations import Revocations
from services.sessions.session_ends import SessionEnds
from services.sessions.session_views import Profile
from services.storage.database import Database
from services.storage.row_locks import locked_one

MAX_PAGE = 100
"""Accounts that one call lists."""


class Administration:
    """Manages accounts.

    Args:
        take_out_tokens: deletes a user's provider tokens within a transaction; the function that
            it returns revokes them at their providers.
        outbox: receives events when accounts are changed, disabled or deleted.
        mails: receives a notice for the owner of an account that is deleted.
    """

    def __init__(
        self,
        database: Database,
        session_ends: SessionEnds,
        revocations: Revocations,
        take_out_tokens: Callable[[peewee.Database, str], Callable[[], None]],
        clock: Callable[[], float] = time.time,
        outbox: Outbox = NO_OUTBOX,
        mails: Mails = NO_MAILS,
    ) -> None:
        self._outbox, self._mails = outbox, mails
        self._database = database
        self._take_out_tokens = take_out_tokens
        self._ends, self._revocations = session_ends, revocations
        self._clock = clock

    async def is_anybody_there(self) -> bool:
        """Whether any account exists. The first one becomes administrator."""
        return await self._database.run(account_rows.is_anybody)

    async def page(self, after: str, limit: int) -> list[UserRow]:
        """Accounts by id, those after `after`; at most `limit` of them."""
        return await self._database.run(account_rows.page, after, limit)

    async def search(
        self, words: str, older_than: tuple[float, str] | None, limit: int
    ) -> list[UserRow]:
        """Accounts by name, e-mail address or id, newest first; see `account_rows.search`."""
        return await self._database.run(account_rows.search, words, older_than, limit)

    async def details(self, user_id: str) -> UserDetails:
        """One account, with what it signs in with, and its login sessions.

        Raises:
            NotFound: the account does not exist.
        """
        return await self._database.run(user_details.read, user_id, self._clock())

    async def with_ids(self, ids: Sequence[str]) -> list[UserRow]:
        """Those of these accounts that are there, in any order."""
        return await self._database.run(account_rows.by_ids, ids)

    async def with_address(self, email: str) -> list[UserRow]:
        """The account with an e-mail address, or None.

        Raises:
            BadRequest: the text cannot be an e-mail address.
        """
        return await self._database.run(account_rows.by_address, normalised_email(email))

    async def update(
        self, user_id: str, role: Role | None, disabled: bool | None, spare_admins: bool = False
    ) -> UserRow:
        """Change an account's role, disable it or enable it. Sockets that lose access are closed.

        Args:
            spare_admins: refuse changes to administrators, and changes that would create one.

        Raises:
            NotFound: the account does not exist.
            Forbidden: the change concerns an administrator, and `spare_admins` is set.
            LastAdmin: no administrator would be left.
        """

        def change(db: peewee.Database) -> tuple[UserRow, list[Revocation]]:
            user = account_rows.for_change(db, user_id)
            if spare_admins and "admin" in (user.role, role):
                raise Forbidden("an administrator's account is not a key's to touch or make")
            ended: list[Revocation] = []
            if role is not None:
                ended += account_rows.change_role(
                    db, self._revocations, user, role, self._clock(), self._outbox
                )
            if disabled is not None:
                ended += self._set_disabled(db, user, disabled)
            return account_rows.row_of(user), ended

        row, ended = await self._database.run(change)
        await self._revocations.publish(ended)
        return row

    def _set_disabled(self, db: peewee.Database, user: User, disabled: bool) -> list[Revocation]:
        if disabled:
            return self._disable(db, user, "disabled")
        was, user.disabled_at = user.disabled_at, None
        User.update({User.disabled_at: None}).where(User.id == user.id).execute(db)
        if was is not None:
            account_rows.write_event(db, self._outbox, "user.changed", user, "disabled")
        return []

    def _disable(self, db: peewee.Database, user: User, reason: str) -> list[Revocation]:
        account_rows.keep_an_admin(db, user)
        was, user.disabled_at = user.disabled_at, user.disabled_at or self._clock()
        User.update({User.disabled_at: user.disabled_at}).where(User.id == user.id).execute(db)
        link_rows.forget(db, user.id)  # earlier ones stay invalid when it is enabled again
        if was is None:
            account_rows.write_event(db, self._outbox, "user.disabled", user)
        return self._ends.end_all_within(db, user.id, reason)

    async def delete(self, user_id: str) -> None:
        """Delete an account and its data, revoke its provider tokens, and close its sockets.

        Raises:
            NotFound: the account does not exist.
            LastAdmin: no administrator would be left.
        """

        def end(db: peewee.Database) -> tuple[list[Revocation], Callable[[], None]]:
            user = account_rows.for_change(db, user_id)
            ended = self._disable(db, user, "deleted")
            self._mails.enqueue(db, "account_deleted", user.email, {})
            return ended, self._take_out_tokens(db, user_id)

        # First disable the account, which is quick: from here on it cannot sign in. The sessions'
        # rows may be many, and are deleted in batches. If that is interrupted, the account stays
        # disabled.
        ended, give_back = await self._database.run(end)
        await self._revocations.publish(ended)
        give_back()
        await self._ends.forget(user_id)
        await self._database.run(account_rows.delete, user_id, self._outbox)

    async def rename(self, user_id: str, name: str) -> Profile:
        """Change an account's display name. Open sockets, and presence on every node, have the new
        one at once; messages that were sent keep the old one.

        Raises:
            BadRequest: the name is empty, too long, or has invisible characters.
            NotFound: the account does not exist.
        """
        shown = checked_name(name)

        def change(db: peewee.Database) -> tuple[Profile, list[Revocation]]:
            user = locked_one(User.select().where(User.id == user_id), db)
            if user is None:
                raise NotFound("no such account")
            profile = Profile(user.id, user.email, shown, cast("Role", user.role))
            if shown == user.name:
                return profile, []
            User.update({User.name: shown}).where(User.id == user_id).execute(db)
            user.name = shown
            account_rows.write_event(db, self._outbox, "user.changed", user, "name")
            # As a change of rights in no channel: cached login states are looked up anew.
            return profile, [self._revocations.record(db, "access", "", user_id, "renamed")]

        profile, changed = await self._database.run(change)
        await self._revocations.publish(changed)
        return profile

    async def disconnect(self, user_id: str) -> int:
        """End all login sessions of a user. Returns how many sockets were closed on this node.

        Raises:
            NotFound: the account does not exist.
        """
        if await self._database.run(account_rows.by_id, user_id) is None:
            raise NotFound("no such account")
        return await self._ends.end_all(user_id, "signed_out_by_admin")
