"""What sign-ins and refreshes return, and login sessions as their user sees them."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import peewee

from models.login_session import LoginSession
from models.user import User
from services.claims import Claims, Role
from services.grants.rules import Grant, Reader
from services.secret import Secret
from services.sessions import session_rows
from services.sessions.control import Revocation

MAX_ENDED = 20
"""Ended sessions that are listed."""


class Profile(msgspec.Struct, frozen=True):
    """A user, as shown to that user."""

    id: str
    email: str
    name: str
    role: Role


class Device(msgspec.Struct, frozen=True):
    """The origin of a sign-in, for the list of sessions.

    Attributes:
        kept: the device cookie that was presented; see services/accounts/devices.py.
        client: "browser" or "native".
    """

    description: str
    ip: str
    kept: str = ""
    client: str = "browser"


class SignedIn(msgspec.Struct, frozen=True):
    """The result of a sign-in or a refresh. Times are epoch seconds."""

    user: Profile
    claims: Claims
    access_token: Secret
    refresh_token: Secret
    refresh_expires_at: float
    session_expires_at: float
    personal: dict[str, Grant]
    generation: int
    reader: Reader
    displaced: tuple[Revocation, ...] = ()
    """Sessions of the same user that were ended because of the limit."""
    method: str = ""
    """How the session was opened; empty after a refresh."""
    proof_epoch: int = 0
    """Of the clock by which its user last authenticated."""


class Account(NamedTuple):
    """The user that tokens are issued for.

    Attributes:
        role_since, created_at: epoch seconds.
    """

    id: str
    email: str
    name: str
    role: str
    generation: int
    role_since: float
    created_at: float

    @classmethod
    def of(cls, user: User) -> Account:
        """From the row."""
        since = user.created_at if user.role_since is None else user.role_since
        return cls(
            user.id, user.email, user.name, user.role, user.generation, since, user.created_at
        )


class ProviderSession(msgspec.Struct, frozen=True):
    """The sign-in at a provider that opened a login session. `sid`: the provider's own session,
    None if it does not name one."""

    provider: str
    subject: str
    sid: str | None


class SessionRow(msgspec.Struct, frozen=True):
    """A login session, as shown to its user. Times are epoch seconds."""

    id: str
    device: str
    ip: str
    client: str
    method: str
    created_at: float
    last_seen_at: float
    expires_at: float


class PastSession(msgspec.Struct, frozen=True):
    """An ended login session, as shown to its user. Times are epoch seconds."""

    id: str
    device: str
    ip: str
    method: str
    created_at: float
    ended_at: float
    reason: str


def active_of(db: peewee.Database, user_id: str, now: float) -> list[SessionRow]:
    """The active login sessions of a user, last used first."""
    rows = (
        LoginSession.select()
        .where((LoginSession.user == user_id) & session_rows.is_active(now))
        .order_by(LoginSession.last_seen_at.desc(), LoginSession.id)
        .execute(db)
    )
    return [
        SessionRow(
            r.id, r.device, r.ip, r.client, r.method, r.created_at, r.last_seen_at, r.expires_at
        )
        for r in rows
    ]


def ended_of(db: peewee.Database, user_id: str) -> list[PastSession]:
    """The sessions of a user that ended before they expired, newest first."""
    rows = (
        LoginSession.select()
        .where((LoginSession.user == user_id) & LoginSession.ended_at.is_null(False))
        .order_by(LoginSession.ended_at.desc(), LoginSession.id)
        .limit(MAX_ENDED)
        .execute(db)
    )
    return [
        PastSession(
            r.id, r.device, r.ip, r.method, r.created_at, r.ended_at, r.end_reason or "unknown"
        )
        for r in rows
    ]
