"""Hands an account over to the owner of its address, who did not create it.

Anybody can sign up with an address that is not theirs. A user who later proves to own the address,
by a provider that has verified it or by a link in a mail, gets the account. All previous ways to
sign in are removed: its password, login sessions, API keys, invitations, linked identities, links
and second factors. Its id, channels and memberships stay.

An administrator's account is never handed over, nor one whose address was verified before and is
not any more: its user is not the current owner of the address.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec
import peewee

from models.account_link import AccountLink
from models.backend import ApiKey
from models.identity import Identity, Unlinked
from models.invitation import Invitation
from models.known_network import KnownNetwork
from models.user import User
from services.sessions.control import Revocation
from services.sessions.revocations import Revocations
from services.sessions.session_ends import SessionEnds

REASON = "address_proven"
"""Why its login sessions and keys end."""

OnHandover = Callable[[peewee.Database, str], object]


class Handover(msgspec.Struct, frozen=True):
    """An account that was handed over to the owner of its address. Pass it to `finish`.

    Attributes:
        user_id: the account.
        proven_by: "mail", or "oauth:" and the provider's name.
        ended: the revocation to publish.
        afterwards: functions to call after the commit.
    """

    user_id: str
    proven_by: str
    ended: list[Revocation]
    afterwards: list[Callable[[], object]]


class Handovers:
    """Applies the rule, in the transaction in which the address is proven."""

    def __init__(
        self,
        session_ends: SessionEnds,
        revocations: Revocations,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ends, self._revocations, self._clock = session_ends, revocations, clock
        self._acts: list[OnHandover] = []
        self._on_done: Callable[[str, str], None] = lambda *_: None

    def on_handover(self, act: OnHandover) -> None:
        """Call `act` with the user id within the transaction, to delete further credentials. If it
        returns a function, that is called after the commit."""
        self._acts.append(act)

    def on_done(self, act: Callable[[str, str], None]) -> None:
        """Call `act` with the user and the proof of every handover, after its commit."""
        self._on_done = act

    def prove(self, db: peewee.Database, user: User, proven_by: str) -> Handover | None:
        """Verify an account's address for its owner, who is not signed in to the account, and
        remove all other ways to sign in. Call `finish` after the commit.

        Args:
            user: the row, locked; its attributes are brought up to date.
            proven_by: "mail", or "oauth:" and the provider's name.

        Returns:
            None if the account is not handed over: its address is already verified or was given up,
            or it is disabled or an administrator's. Then nothing is changed.
        """
        if user.email_verified or user.email_given_up:
            return None
        if user.role == "admin" or user.disabled_at is not None:
            return None
        changes = {User.password_hash: None, User.email_verified: True}
        User.update(changes).where(User.id == user.id).execute(db)
        user.password_hash, user.email_verified = None, True
        AccountLink.delete().where(AccountLink.user == user.id).execute(db)
        return self.clear(db, user, proven_by, REASON)

    def clear(
        self, db: peewee.Database, user: User, proven_by: str, reason: str, since: float = 0.0
    ) -> Handover:
        """Remove all credentials of an account except its password and its links. Call `finish`
        after the commit.

        Args:
            user: the row, locked; its attributes are brought up to date.
            reason: why its login sessions and keys end.
            since: epoch seconds; earlier API keys and invitations stay.
        """
        done = [act(db, user.id) for act in self._acts]
        afterwards: list[Callable[[], object]] = [after for after in done if callable(after)]
        for row in (KnownNetwork, Identity, Unlinked):
            row.delete().where(row.user == user.id).execute(db)
        made = (Invitation.created_by == user.id) & (Invitation.created_at >= since)
        Invitation.delete().where(made).execute(db)
        ended = self._ends.end_all_within(db, user.id, reason)
        ended += self._end_keys(db, user.id, reason, since)
        user.generation = User.select(User.generation).where(User.id == user.id).get(db).generation
        return Handover(user.id, proven_by, ended, afterwards)

    def _end_keys(
        self, db: peewee.Database, user_id: str, reason: str, since: float
    ) -> list[Revocation]:
        """Revoke the keys that the account created as an administrator's: they would be valid again
        if it became one again."""
        mine = (ApiKey.created_by == user_id) & ApiKey.revoked_at.is_null()
        mine &= ApiKey.created_at >= since
        ids = [key.id for key in ApiKey.select(ApiKey.id).where(mine).execute(db)]
        ApiKey.update({ApiKey.revoked_at: self._clock()}).where(mine).execute(db)
        return [self._revocations.record(db, "token", id_, user_id, reason) for id_ in ids]

    async def finish(self, handover: Handover | None) -> None:
        """Close the sockets of a committed handover on every node, and report it."""
        if handover is None:
            return
        await self._revocations.publish(handover.ended)
        for act in handover.afterwards:
            act()
        self._on_done(handover.user_id, handover.proven_by)
