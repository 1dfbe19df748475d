"""`make-admin`, `list-users`: recover access to an installation. `reset-password` makes a link, see
services/accounts/password_links.py."""

from __future__ import annotations

from collections.abc import Callable

import peewee

from models.user import User
from services.accounts import account_rows
from services.accounts.account_rows import UserRow
from services.errors import NotFound
from services.mail_outbox import Mails
from services.outbox import NO_OUTBOX, Outbox
from services.registration.addresses import normalised_email
from services.sessions.control import Revocation
from services.sessions.revocations import Revocations
from services.storage.database import Database
from services.storage.row_locks import locked_one

PAGE = 500


class UserCommands:
    """The operator's changes to accounts. Running servers read them from the database."""

    def __init__(
        self,
        database: Database,
        revocations: Revocations,
        outbox: Outbox = NO_OUTBOX,
    ) -> None:
        self._outbox = outbox
        self._database, self._revocations = database, revocations

    async def make_admin(self, email: str, now: float) -> UserRow:
        """Make an account an administrator, and enable it.

        Raises:
            NotFound: the account does not exist.
        """

        def work(db: peewee.Database) -> tuple[UserRow, list[Revocation]]:
            user = _user(db, email)
            ended = account_rows.change_role(
                db, self._revocations, user, "admin", now, self._outbox
            )
            if user.disabled_at is not None:
                User.update({User.disabled_at: None}).where(User.id == user.id).execute(db)
                user.disabled_at = None
                account_rows.write_event(db, self._outbox, "user.changed", user, "disabled")
            return account_rows.row_of(user), ended

        row, ended = await self._database.run(work)
        await self._revocations.publish(ended)
        return row

    async def get(self, email: str) -> UserRow:
        """The account with an address.

        Raises:
            BadRequest: the text cannot be an e-mail address.
            NotFound: the account does not exist.
        """
        return await self._database.run(lambda db: account_rows.row_of(_user(db, email)))

    async def remove_second_factor(
        self, email: str, remove: Callable[[peewee.Database, str], bool], mails: Mails
    ) -> tuple[UserRow, bool]:
        """Remove the second factors of an account, and send its owner a mail.

        Args:
            remove: deletes them within a transaction, and returns whether there were any.

        Returns:
            The account, and whether it had a second factor.

        Raises:
            BadRequest: the text cannot be an e-mail address.
            NotFound: the account does not exist.
        """

        def work(db: peewee.Database) -> tuple[UserRow, bool]:
            user = _user(db, email)
            removed = remove(db, user.id)
            if removed:
                mails.enqueue(db, "second_factor_off", user.email, {})
            return account_rows.row_of(user), removed

        return await self._database.run(work)

    async def list_users(self) -> list[UserRow]:
        """List all accounts, by id."""
        found: list[UserRow] = []
        while True:
            page = await self._database.run(account_rows.page, found[-1].id if found else "", PAGE)
            found += page
            if len(page) < PAGE:
                return found


def _user(db: peewee.Database, email: str) -> User:
    user: User | None = locked_one(User.select().where(User.email == normalised_email(email)), db)
    if user is None:
        raise NotFound("there is no account with that address")
    return user
