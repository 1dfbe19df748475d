"""Creates, lists and revokes invitations.

A link is `PUBLIC_URL/sign-in#invitation=…`: browsers do not send the fragment, so it appears in no
log of a server or proxy. An invitation works once, and only while its creator is an administrator.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import cast

import msgspec
import peewee

from models.invitation import Invitation
from services.claims import Role
from services.errors import Conflict, NotFound, Unauthenticated
from services.event_loop.steady_clock import SteadyClock
from services.keyed_tokens import Checksums
from services.mail_outbox import NO_MAILS, Mails
from services.opaque import opaque_token, token_hash
from services.registration import invitation_rows
from services.registration.addresses import normalised_email
from services.registration.registration import PREFIX, Registration
from services.secret import Secret
from services.sessions import session_rows
from services.storage.database import Database

PAGE = "/sign-in"
DEFAULT_SECONDS = 7 * 86400.0
LEAST_SECONDS, MOST_SECONDS = 60.0, 90 * 86400.0
MAX_LIVING = 10_000
"""Invitations of an installation that can be used."""


class InvitationRow(msgspec.Struct, frozen=True):
    """An invitation, as shown to administrators. Times are epoch seconds.

    `email`: the only address that may use it, None for any. `created_by`: None if it was created on
    the command line.
    """

    id: str
    email: str | None
    role: Role
    created_by: str | None
    created_at: float
    expires_at: float


class NewInvitation(msgspec.Struct, frozen=True):
    """An invitation whose link is shown only once."""

    row: InvitationRow
    url: Secret


class TooManyInvitations(Conflict):
    code, title = "too_many", "There are too many unused invitations. Revoke some of them."


class Invitations:
    """Creates, lists and revokes invitations.

    Args:
        registration: the rules that new invitations must meet.
        checksums: sign the tokens.
        public_url: the URL at which browsers reach the server, without a trailing slash.
        mails: receives the links of invitations that have an address.
        clock: epoch seconds that never go back within the process.
    """

    def __init__(
        self,
        database: Database,
        registration: Registration,
        checksums: Checksums,
        public_url: str,
        mails: Mails = NO_MAILS,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._database, self._registration = database, registration
        self._checksums, self._public_url, self._mails = checksums, public_url, mails
        self._clock = SteadyClock() if clock is None else clock

    async def create(
        self,
        created_by: str | None,
        email: str | None = None,
        role: Role = "user",
        seconds: float = DEFAULT_SECONDS,
        sid: str = "",
    ) -> NewInvitation:
        """Create an invitation.

        Args:
            created_by: the administrator; None on the command line.
            email: the only address that may sign up with it, to which the link is sent as well;
                None for any.
            role: the role of the new account.
            seconds: how long it is valid.
            sid: the administrator's login session, which must still be active.

        Raises:
            BadRequest: the text cannot be an e-mail address.
            EmailDomainRefused: that address could not sign up.
            TooManyInvitations: too many are unused.
            Unauthenticated: the creator's account is deleted, or the login session ended.
        """
        address = None if email is None else normalised_email(email)
        if address is not None:
            self._registration.check_domain(address)
        text, now = opaque_token(PREFIX).reveal(), self._clock()
        token = text + self._checksums.sign(text)
        row = InvitationRow(
            secrets.token_urlsafe(16), address, role, created_by, now, now + seconds
        )
        url = Secret(f"{self._public_url}{PAGE}#invitation={token}")

        def work(db: peewee.Database) -> None:
            if created_by is not None and sid:
                session_rows.acting_user(db, created_by, sid, now)
            if invitation_rows.count_of(db, now) >= MAX_LIVING:
                raise TooManyInvitations("invitations: too many unused")
            values = {**msgspec.structs.asdict(row), "hash": token_hash(token)}
            invitation_rows.insert(db, {**values, "made_by_command": created_by is None})
            if address is not None:
                self._mails.enqueue(db, "invitation", address, {"link": url.reveal()})

        try:
            await self._database.run(work)
        except peewee.IntegrityError as error:
            raise Unauthenticated("invitation: its creator's account was deleted") from error
        return NewInvitation(row, url)

    async def active(self, after: str, limit: int) -> list[InvitationRow]:
        """Invitations that can be used, newest first.

        Args:
            after: the id of the last one of the previous page, or empty.
            limit: the maximum number.
        """
        found = await self._database.run(invitation_rows.active, after, limit, self._clock())
        return [_shown(row) for row in found]

    async def revoke(self, invitation_id: str) -> None:
        """Revoke an invitation.

        Raises:
            NotFound: there is none, or it was used or has expired.
        """
        if not await self._database.run(invitation_rows.delete, invitation_id):
            raise NotFound("no such invitation")


def _shown(row: Invitation) -> InvitationRow:
    role = cast("Role", row.role)
    return InvitationRow(row.id, row.email, role, row.created_by, row.created_at, row.expires_at)
