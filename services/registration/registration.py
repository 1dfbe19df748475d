"""Decides whether an account may be created, for every kind of sign-up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, cast

import msgspec
import peewee

from models.user import User
from services.claims import Role
from services.errors import (
    EmailDomainRefused,
    InvitationNeeded,
    InvitationRefused,
    SignupClosed,
)
from services.event_loop.steady_clock import SteadyClock
from services.keyed_tokens import Checksums
from services.limits.hourly import HourlyLimits
from services.limits.networks import network_of
from services.opaque import token_hash
from services.registration import invitation_rows
from services.storage.database import Database

Mode = Literal["open", "invite", "closed"]
PREFIX = "usher_inv_"
"""Prefix of tokens, so that secret scanners find leaked ones."""
MAX_TOKEN_LENGTH = 128


class Admitted(msgspec.Struct, frozen=True):
    """An account that may be created. `invitation`: the id of the one that was used, or empty."""

    role: Role = "user"
    invitation: str = ""


class Registration:
    """The rules of SIGNUP and EMAIL_DOMAINS.

    The first account can always be created, whatever SIGNUP says; EMAIL_DOMAINS applies to it.

    Args:
        mode: SIGNUP.
        domains: EMAIL_DOMAINS; empty for any.
        checksums: verify a token's checksum before a look-up.
        clock: epoch seconds that never go back within the process.
    """

    def __init__(
        self,
        database: Database,
        mode: Mode,
        domains: Sequence[str],
        checksums: Checksums,
        limits: HourlyLimits,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._database, self._domains = database, frozenset(domains)
        self._checksums, self._limits = checksums, limits
        self._clock = SteadyClock() if clock is None else clock
        self._is_anybody_known = False
        self._on_used: Callable[[str, str], None] = lambda *_: None
        self._mode: Mode = mode

    # ---- addresses -------------------------------------------------------------------------

    def takes(self, address: str) -> bool:
        """Whether EMAIL_DOMAINS allows a normalised address."""
        return not self._domains or address.rpartition("@")[2] in self._domains

    def check_domain(self, address: str) -> None:
        """Refuse addresses of other domains. Call it for every new address of an account.

        Raises:
            EmailDomainRefused: EMAIL_DOMAINS does not have the domain of this address.
        """
        if not self.takes(address):
            raise EmailDomainRefused("the domain of the address is not in EMAIL_DOMAINS")

    @property
    def proves_domains(self) -> bool:
        """Whether EMAIL_DOMAINS is set, so that a provider has to verify the address."""
        return bool(self._domains)

    # ---- sign-ups --------------------------------------------------------------------------

    async def check(self, invitation: str, ip: str) -> str | None:
        """Refuse a sign-up early, before the expensive work. `admit` makes the final decision.

        Args:
            invitation: the token of an invitation, or empty.
            ip: the client's address.

        Returns:
            The hash of the invitation's token, for `admit`; None if there is none.

        Raises:
            SignupClosed, InvitationNeeded: as SIGNUP says.
            InvitationRefused: the invitation is forged, used, revoked or expired.
            RateLimited: too many invalid invitations from this address, or too many attempts
                with one invitation.
        """
        hash_ = await self.recognise(invitation, ip) if invitation else None
        if await self.mode_now() != "open":
            self._refuse(hash_)
        if hash_ is not None and not await self._database.run(
            invitation_rows.is_valid, hash_, self._clock()
        ):
            raise await self._refused(
                "used, revoked or expired, or its creator is no administrator", ip
            )
        return hash_

    async def recognise(self, invitation: str, ip: str) -> str:
        """The hash of an invitation's token, if its checksum is valid. No look-up is made.

        Raises:
            InvitationRefused: it is not.
            RateLimited: as `check`.
        """
        if not self._checksums.holds(invitation, PREFIX, MAX_TOKEN_LENGTH):
            raise await self._refused("not one of ours, by its form", ip)
        (await self._limits.take((self._limits.of.refresh_reuse, invitation))).require()
        return token_hash(invitation)

    async def mode_now(self) -> Mode:
        """SIGNUP, or "open" as long as there is no account at all."""
        if self._mode == "open":
            return "open"
        return self._mode if await self.is_anybody() else "open"

    async def is_anybody(self) -> bool:
        """Whether there is an account. Once there is one, there always is: the last administrator
        stays."""
        if not self._is_anybody_known:
            self._is_anybody_known = await self._database.read(_is_anybody)
        return self._is_anybody_known

    def admit(self, db: peewee.Database, address: str, invitation: str | None) -> Admitted:
        """Decide on an account that is not the first, within the transaction that inserts it. It
        uses up the invitation.

        Args:
            address: the normalised address of the account.
            invitation: the hash of its token.

        Raises:
            SignupClosed, InvitationNeeded: as SIGNUP says.
            InvitationRefused: the invitation is not valid, or for another address.
        """
        self._refuse(invitation)
        if invitation is None:
            return Admitted()
        found = invitation_rows.take(db, invitation, address, self._clock())
        if found is None:
            raise InvitationRefused("invitation: not valid at this moment, or not for this address")
        return Admitted(cast("Role", found.role), found.id)

    def is_usable(self, db: peewee.Database, invitation: str) -> bool:
        """Whether an invitation could be used, within the caller's transaction."""
        return self._mode != "closed" and invitation_rows.is_valid(db, invitation, self._clock())

    def _refuse(self, invitation: str | None) -> None:
        if self._mode == "closed":
            raise SignupClosed("sign-up: SIGNUP is closed")
        if self._mode == "invite" and invitation is None:
            raise InvitationNeeded("sign-up: SIGNUP is invite, and no invitation was given")

    # ---- audit -----------------------------------------------------------------------------

    def on_used(self, act: Callable[[str, str], None]) -> None:
        """Call `act` with the invitation and the new user of every invitation that was used."""
        self._on_used = act

    def used(self, admitted: Admitted, user_id: str) -> None:
        """Report a committed sign-up."""
        if admitted.invitation:
            self._on_used(admitted.invitation, user_id)

    # ---- tokens ----------------------------------------------------------------------------

    async def _refused(self, evidence: str, ip: str) -> InvitationRefused:
        """Count an invalid invitation for the client's address.

        Raises:
            RateLimited: too many invalid ones.
        """
        limits = self._limits
        (await limits.take((limits.of.bad_tokens, network_of(ip)))).require()
        return InvitationRefused(f"invitation: {evidence}")


def _is_anybody(db: peewee.Database) -> bool:
    return bool(User.select().exists(db))
