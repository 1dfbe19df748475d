"""Login sessions: opened by a sign-in, and looked up.

A session has an absolute end (ASVS 3.3.2); within it the expiry of refresh tokens slides
(services/refresh). `session_ends.py` ends sessions before that.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable
from typing import Any, cast

import msgspec
import peewee

from models.known_network import KnownNetwork
from models.login_session import LoginSession, RefreshToken
from models.user import User
from services.claims import Acr, Proof, Role
from services.errors import EmailUnverified, Unauthenticated
from services.grants.personal import PersonalGrants
from services.grants.rules import Reader
from services.limits.networks import network_of
from services.opaque import token_hash
from services.secret import Secret
from services.sessions import session_rows
from services.sessions.control import Revocation
from services.sessions.login_cache import LoginCache, LoginState
from services.sessions.revocations import Revocations
from services.sessions.session_views import (
    Account,
    Device,
    PastSession,
    Profile,
    ProviderSession,
    SessionRow,
    SignedIn,
    active_of,
    ended_of,
)
from services.sessions.tokens import Tokens
from services.storage.database import Database
from services.storage.row_locks import locked_one
from services.storage.statements import Statement

MAX_DEVICE_LENGTH = 200
SESSION_LIMIT = "session_limit"
"""Reason of a session that a newer one displaced."""

Opening = Callable[[peewee.Database, str, str, str, float], None]
BeforeOpening = Callable[[peewee.Database, User, Device], None]

log = logging.getLogger("usher.sessions")


class LoginSessions:
    """Opens and lists login sessions.

    Args:
        refresh_ttl: seconds, sliding.
        lifetime: seconds, absolute.
        limit: live sessions of one user; a new one ends the one longest unused.
        steady: as `clock`, but not set back while the process lives; for when
            somebody authenticated. The clock itself where it is left out.
        epoch: the current epoch of `Freshness`.
        verified_only: whether the address of the account has to be verified before a sign-in.
    """

    def __init__(
        self,
        database: Database,
        tokens: Tokens,
        cache: LoginCache,
        revocations: Revocations,
        refresh_ttl: float,
        lifetime: float,
        limit: int,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] | None = None,
        epoch: Callable[[], int] = lambda: 0,
        verified_only: bool = False,
    ) -> None:
        self._database, self._tokens, self._cache = database, tokens, cache
        self._revocations, self._clock = revocations, clock
        self._on_opened: Callable[[str, str, str], None] = lambda *_: None
        self._on_opening: Opening = lambda *_: None
        self._refresh_ttl, self._lifetime, self._limit = refresh_ttl, lifetime, limit
        self._steady = clock if steady is None else steady
        self._epoch, self._verified_only = epoch, verified_only
        self._before_opening: BeforeOpening = lambda *_: None
        self._keep_token, self._personal = Statement(_token_row, 5), PersonalGrants()

    # ---- opening ---------------------------------------------------------------------------

    async def open(
        self,
        user_id: str,
        method: str,
        device: Device,
        verified_hash: str | None = None,
        acr: Acr = "1",
    ) -> SignedIn:
        """Open a session for a user who has just authenticated.

        Args:
            method: "password".
            verified_hash: the password hash that was verified; the sign-in fails if the password
                was changed meanwhile.
            acr: by how many factors the user has authenticated.

        Raises:
            Unauthenticated: the account is disabled or deleted, or its password was changed.
        """

        def work(db: peewee.Database) -> SignedIn:
            user = locked_one(User.select().where(User.id == user_id), db)
            if user is None:
                raise Unauthenticated("sign-in: account gone")
            if verified_hash is not None and user.password_hash != verified_hash:
                raise Unauthenticated("sign-in: password changed meanwhile")
            return self.open_within(db, user, method, device, proof=Proof(acr))

        signed_in = await self._database.run(work)
        await self.announce(signed_in)
        return signed_in

    def open_within(
        self,
        db: peewee.Database,
        user: User,
        method: str,
        device: Device,
        origin: ProviderSession | None = None,
        proof: Proof | None = None,
    ) -> SignedIn:
        """The same within the caller's transaction; `announce` the result after the commit.

        Args:
            user: the row, locked.
            method: "password", or "oauth:" and a provider.
            proof: how the user authenticated, where it was not by one factor and just now.

        Raises:
            Unauthenticated: the account is disabled.
            EmailUnverified: its address must be confirmed first.
        """
        if user.disabled_at is not None:
            raise Unauthenticated("sign-in: account disabled")
        if self._verified_only and not user.email_verified:
            raise EmailUnverified("sign-in: address not confirmed")
        self._before_opening(db, user, device)
        now, sid = self._clock(), secrets.token_urlsafe(16)
        proven = self.dated(proof or Proof())
        LoginSession.insert(
            id=sid,
            user=user.id,
            method=method,
            device=device.description[:MAX_DEVICE_LENGTH],
            ip=device.ip,
            created_at=now,
            last_seen_at=now,
            expires_at=now + self._lifetime,
            generation=user.generation,
            provider=origin and origin.provider,
            provider_subject=origin and origin.subject,
            provider_sid=origin and origin.sid,
            client=device.client,
            auth_time=proven.at,
            acr=proven.acr,
            auth_epoch=proven.epoch,
        ).execute(db)
        network = {"user": user.id, "network": network_of(device.ip), "last_used_at": now}
        KnownNetwork.insert(network).on_conflict(
            conflict_target=[KnownNetwork.user, KnownNetwork.network],
            preserve=[KnownNetwork.last_used_at],
        ).execute(db)
        signed_in = self.issue_within(db, Account.of(user), sid, now + self._lifetime, proven)
        self._on_opening(db, user.id, sid, method, now + self._lifetime)
        displaced = self._displace(db, user, sid, now)
        return msgspec.structs.replace(signed_in, displaced=displaced, method=method)

    def issue_first_tokens_within(
        self, db: peewee.Database, session: LoginSession, user: User, device: Device
    ) -> SignedIn:
        """The first tokens of a session that was opened for another client (a native app), within
        the caller's transaction; `announce` the result after the commit.

        Args:
            session: the row, locked and active.
            user: its user.
            device: who has it from now on.
        """
        until = session.created_at + self._lifetime
        change = {
            LoginSession.device: device.description[:MAX_DEVICE_LENGTH],
            LoginSession.ip: device.ip,
            LoginSession.client: device.client,
            LoginSession.last_seen_at: self._clock(),
            LoginSession.expires_at: until,
        }
        LoginSession.update(change).where(LoginSession.id == session.id).execute(db)
        proof = session_rows.proof_of(session)
        return self.issue_within(db, Account.of(user), session.id, until, proof)

    def _displace(
        self, db: peewee.Database, user: User, opened: str, now: float
    ) -> tuple[Revocation, ...]:
        """End sessions over the limit, with the user's row locked."""
        excess = session_rows.longest_unused(db, user, opened, self._limit, now)
        session_rows.mark_ended(db, [sid for sid, _ in excess], SESSION_LIMIT, now)
        return tuple(self._revocations.record_sessions(db, excess, SESSION_LIMIT))

    def issue_within(
        self,
        db: peewee.Database,
        user: Account,
        sid: str,
        session_expires_at: float,
        proof: Proof,
        step: int = 1,
    ) -> SignedIn:
        """Issue an access token and a refresh token within the caller's transaction; `announce`
        the result after the commit.

        Args:
            user: the session's.
            sid: the session, locked and active.
            session_expires_at: of the session, epoch seconds.
            proof: how its user last authenticated.
            step: of the refresh token, see services/refresh/steps.py.
        """
        now = self._clock()
        role = cast("Role", user.role)
        access_token, claims = self._tokens.issue(
            user.id, sid, role, session_expires_at, proof.at, proof.acr
        )
        refresh_token = self._tokens.refresh.make(user.id)
        refresh_expires_at = min(now + self._refresh_ttl, session_expires_at)
        token_hash_ = token_hash(refresh_token.reveal())
        self._keep_token.run(db, token_hash_, sid, now, refresh_expires_at, step)
        reader = Reader(user.id, role, user.role_since, user.created_at)
        personal = self._personal.of(db, reader)
        return SignedIn(
            Profile(user.id, user.email, user.name, role),
            claims,
            Secret(access_token),
            refresh_token,
            refresh_expires_at,
            session_expires_at,
            personal,
            user.generation,
            reader,
            proof_epoch=proof.epoch or 0,
        )

    def on_opened(self, act: Callable[[str, str, str], None]) -> None:
        """Call `act` with the user, the session and the method of every sign-in."""
        self._on_opened = act

    def on_opening(self, act: Opening) -> None:
        """Call `act` with the user, the session, the method and the end (epoch seconds) of every
        sign-in, within its transaction."""
        self._on_opening = act

    def before_opening(self, act: BeforeOpening) -> None:
        """Call `act` with the user and the device of every sign-in, within its transaction and
        before the network of the device is recorded."""
        self._before_opening = act

    async def announce(self, signed_in: SignedIn) -> None:
        """Store a committed session in Redis without waiting, and close the sockets of sessions
        that it displaced."""
        user, claims = signed_in.user, signed_in.claims
        self._cache.remember(
            user.id,
            claims.sid,
            LoginState(
                user.name,
                user.role,
                signed_in.session_expires_at,
                claims.iat,
                signed_in.personal,
                signed_in.generation,
                signed_in.reader.role_since,
                signed_in.reader.created_at,
                signed_in.proof_epoch,
            ),
        )
        if signed_in.method:
            self._on_opened(user.id, claims.sid, signed_in.method)
        if signed_in.displaced:
            ended = ", ".join(entry.subject for entry in signed_in.displaced)
            log.warning("user=%s has too many sessions; ended, longest unused: %s", user.id, ended)
            await self._revocations.publish(signed_in.displaced)

    def dated(self, proof: Proof) -> Proof:
        """A proof with its time and epoch: those of now where it has none."""
        at = self._steady() if proof.at is None else proof.at
        return Proof(proof.acr, at, self._epoch() if proof.epoch is None else proof.epoch)

    # ---- looking up ------------------------------------------------------------------------

    async def active(self, user_id: str) -> list[SessionRow]:
        """The active sessions of a user, last seen first."""
        return await self._database.run(lambda db: active_of(db, user_id, self._clock()))

    async def ended(self, user_id: str) -> list[PastSession]:
        """The sessions of a user that ended before they expired, newest first."""
        return await self._database.run(ended_of, user_id)

    async def touch(self, seen: dict[str, float]) -> None:
        """Record when sessions were last seen: `sid` to epoch seconds, many in one transaction."""
        await self._database.run(session_rows.touch, seen)


def _token_row(
    _: peewee.Database, hash_: Any, sid: Any, created_at: Any, expires_at: Any, step: Any
) -> Any:
    return RefreshToken.insert(
        hash=hash_,
        session=sid,
        created_at=created_at,
        expires_at=expires_at,
        step=step,
        replaced=False,
    )
