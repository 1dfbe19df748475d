"""Login sessions: opened by a sign-in, extended by refresh tokens, ended by revocation or expiry.

A session has an absolute end (ASVS 3.3.2); within it the expiry of refresh tokens slides. A refresh
token works once, and again as long as nothing shows that its response arrived (refresh_tokens.py).
A token that is reused later was copied, and the whole session ends (RFC 9700 section 4.14.2).
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable
from typing import cast

import msgspec
import peewee

from models.known_network import KnownNetwork
from models.login_session import LoginSession, RefreshToken
from models.user import User
from services.claims import Acr, Claims, Proof, Role
from services.errors import NotFound, Unauthenticated
from services.grants.queries import personal_grants
from services.limits.networks import network_of
from services.opaque import token_hash
from services.secret import Secret
from services.sessions import session_rows
from services.sessions.control import Revocation
from services.sessions.login_cache import LoginCache, LoginState
from services.sessions.refresh_tokens import Moment, current_tick, step_of_next
from services.sessions.revocations import Revocations
from services.sessions.session_views import (
    Device,
    PastSession,
    Profile,
    ProviderSession,
    SessionRow,
    SignedIn,
    ended_of,
    living_of,
)
from services.sessions.tokens import Tokens
from services.storage.database import Database
from services.storage.row_locks import locked_one

MAX_DEVICE_LENGTH = 200
SESSION_LIMIT = "session_limit"
"""Reason of a session that a newer one displaced."""

Opening = Callable[[peewee.Database, str, str, str, float], None]

log = logging.getLogger("usher.sessions")


class LoginSessions:
    """Opens, refreshes, lists and ends login sessions.

    Args:
        refresh_ttl: seconds, sliding.
        lifetime: seconds, absolute.
        limit: live sessions of one user; a new one ends the one longest unused.
        steady: as `clock`, but not set back while the process lives; for the grace of racing
            tabs, and for when somebody authenticated. The clock itself where it is left out.
        epoch: the current epoch of `Freshness`.
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
    ) -> None:
        self._database, self._tokens, self._cache = database, tokens, cache
        self._revocations, self._clock = revocations, clock
        self._on_opened: Callable[[str, str, str], None] = lambda *_: None
        self._on_opening: Opening = lambda *_: None
        self._refresh_ttl, self._lifetime, self._limit = refresh_ttl, lifetime, limit
        self._steady = clock if steady is None else steady
        self._epoch = epoch

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
        """
        if user.disabled_at is not None:
            raise Unauthenticated("sign-in: account disabled")
        now, sid = self._clock(), secrets.token_urlsafe(16)
        proven = self._dated(proof or Proof())
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
        signed_in = self._sign_in(db, user, sid, now + self._lifetime, proven)
        self._on_opening(db, user.id, sid, method, now + self._lifetime)
        displaced = self._displace(db, user, now)
        return msgspec.structs.replace(signed_in, displaced=displaced, method=method)

    def hand_over_within(
        self, db: peewee.Database, session: LoginSession, user: User, device: Device
    ) -> SignedIn:
        """The first tokens of a session that was opened for somebody else to have it, within the
        caller's transaction; `announce` the result after the commit.

        Args:
            session: the row, locked and alive.
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
        return self._sign_in(db, user, session.id, until, session_rows.proof_of(session))

    def _displace(self, db: peewee.Database, user: User, now: float) -> tuple[Revocation, ...]:
        """End sessions over the limit, with the user's row locked."""
        excess = session_rows.longest_unused(db, user, self._limit, now)
        session_rows.mark_ended(db, [sid for sid, _ in excess], SESSION_LIMIT, now)
        return tuple(self._revocations.record_sessions(db, excess, SESSION_LIMIT))

    def _sign_in(
        self,
        db: peewee.Database,
        user: User,
        sid: str,
        session_expires_at: float,
        proof: Proof,
        step: int = 1,
    ) -> SignedIn:
        """Issue an access token and a refresh token."""
        now = self._clock()
        role = cast("Role", user.role)
        access_token, claims = self._tokens.issue(
            user.id, sid, role, session_expires_at, proof.at, proof.acr
        )
        refresh_token = self._tokens.refresh.make(user.id)
        refresh_expires_at = min(now + self._refresh_ttl, session_expires_at)
        RefreshToken.insert(
            hash=token_hash(refresh_token.reveal()),
            session=sid,
            created_at=now,
            expires_at=refresh_expires_at,
            step=step,
        ).execute(db)
        reader, personal = personal_grants(db, user.id)
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

    # ---- refreshing ------------------------------------------------------------------------

    async def refresh(self, refresh_token: str) -> SignedIn:
        """Exchange a refresh token for new tokens (RFC 6749 section 6).

        Raises:
            Unauthenticated: unknown, expired, of an ended session, or reused. Reuse ends the whole
                session, because one of two holders stole the token.
        """
        outcome = await self._database.run(self._rotate, token_hash(refresh_token))
        if isinstance(outcome, Revocation):
            await self._revocations.publish([outcome])
            raise Unauthenticated("refresh: a used token came back; its session was ended")
        await self.announce(outcome)
        return outcome

    def _rotate(self, db: peewee.Database, hash_: str) -> SignedIn | Revocation:
        now = self._clock()
        token = RefreshToken.select().where(RefreshToken.hash == hash_).get_or_none(db)
        if token is None:
            raise Unauthenticated("refresh: unknown token")
        session, user = self._refreshable(db, token.session_id, now)
        # Read again behind the session's lock: of racing tabs only one finds it unused.
        token = RefreshToken.select().where(RefreshToken.hash == hash_).get_or_none(db)
        if token is None or token.expires_at <= now:
            raise Unauthenticated("refresh: token expired")
        step = step_of_next(db, session, token, Moment(self._steady(), current_tick(db)))
        if step is None:
            return self._end(db, session.id, user.id, "refresh_reuse")
        LoginSession.update({LoginSession.last_seen_at: now}).where(
            LoginSession.id == session.id
        ).execute(db)
        proof = session_rows.proof_of(session)
        return self._sign_in(db, user, session.id, session.expires_at, proof, step)

    # ---- authenticating again --------------------------------------------------------------

    async def step_up(
        self, user_id: str, sid: str, acr: Acr, verified_hash: str | None = None
    ) -> SignedIn:
        """New tokens of a session whose user has just authenticated again (RFC 9470).

        Args:
            acr: by how many factors.
            verified_hash: the password hash that was verified; it fails if the password was
                changed meanwhile.

        Raises:
            Unauthenticated: the session has ended, or the password was changed.
        """

        def work(db: peewee.Database) -> SignedIn:
            session, user = self._refreshable(db, sid, self._clock())
            if user.id != user_id:
                raise Unauthenticated("step-up: a session of another user")
            if verified_hash is not None and user.password_hash != verified_hash:
                raise Unauthenticated("step-up: password changed meanwhile")
            proof = self._dated(Proof(acr))
            change = {
                LoginSession.auth_time: proof.at,
                LoginSession.acr: proof.acr,
                LoginSession.auth_epoch: proof.epoch,
                LoginSession.last_seen_at: self._clock(),
            }
            LoginSession.update(change).where(LoginSession.id == sid).execute(db)
            # Beside the refresh token that the client has: this answer may be lost.
            return self._sign_in(db, user, sid, session.expires_at, proof, session.step + 1)

        signed_in = await self._database.run(work)
        await self.announce(signed_in)
        return signed_in

    def _dated(self, proof: Proof) -> Proof:
        """A proof with its time and epoch: those of now where it has none."""
        at = self._steady() if proof.at is None else proof.at
        return Proof(proof.acr, at, self._epoch() if proof.epoch is None else proof.epoch)

    def _refreshable(self, db: peewee.Database, sid: str, now: float) -> tuple[LoginSession, User]:
        query = LoginSession.select().where(LoginSession.id == sid)
        session = locked_one(query, db)
        if session is None or session.ended_at is not None or session.expires_at <= now:
            raise Unauthenticated("refresh: login session is over")
        user = User.select().where(User.id == session.user_id).get(db)
        if user.disabled_at is not None or session.generation != user.generation:
            raise Unauthenticated("refresh: account disabled, or all its sessions ended")
        return session, user

    # ---- looking up ------------------------------------------------------------------------

    async def state(self, claims: Claims) -> LoginState | None:
        """The state of a token's login session in the database; None if it has ended.

        Raises:
            DatabaseUnavailable: the database can't be asked.
        """
        return await self._database.run(lambda db: session_rows.state_of(db, claims, self._clock()))

    async def living(self, user_id: str) -> list[SessionRow]:
        """The living sessions of a user, last seen first."""
        return await self._database.run(lambda db: living_of(db, user_id, self._clock()))

    async def ended(self, user_id: str) -> list[PastSession]:
        """The sessions of a user that ended before they expired, newest first."""
        return await self._database.run(ended_of, user_id)

    async def touch(self, seen: dict[str, float]) -> None:
        """Record when sessions were last seen: `sid` to epoch seconds, many in one transaction."""
        await self._database.run(session_rows.touch, seen)

    def is_recent(self, db: peewee.Database, user_id: str, sid: str) -> bool:
        """Whether a live session of a user was opened lately, within the caller's transaction."""
        return session_rows.is_recent(db, user_id, sid, self._clock())

    # ---- ending ----------------------------------------------------------------------------

    async def end(
        self,
        user_id: str,
        sid: str,
        reason: str,
        token_id: str | None = None,
        request: str = "",
    ) -> int:
        """End one session of a user: its refresh tokens, its access tokens, its sockets.

        Args:
            token_id: `jti` of the access token that was presented, which is revoked too.
            request: id of a request for acknowledgements, see `Control.request`.

        Returns:
            How many sockets were closed on this node.

        Raises:
            NotFound: the user has no such session.
        """
        revocations = await self._database.run(self._end_one, user_id, sid, reason, token_id)
        return await self._revocations.publish(revocations, request)

    def _end_one(
        self, db: peewee.Database, user_id: str, sid: str, reason: str, token_id: str | None
    ) -> list[Revocation]:
        same = (LoginSession.id == sid) & (LoginSession.user == user_id)
        query = LoginSession.select().where(same & LoginSession.ended_at.is_null())
        session = locked_one(query, db)
        if session is None or not self._is_current(db, session):
            raise NotFound("no such living session of this user")
        ended = [self._end(db, sid, user_id, reason)]
        if token_id is not None:
            ended.append(self._revocations.record(db, "token", token_id, user_id, reason))
        return ended

    @staticmethod
    def _is_current(db: peewee.Database, session: LoginSession) -> bool:
        current = User.select(User.generation).where(User.id == session.user_id).get_or_none(db)
        return current is not None and bool(current.generation == session.generation)

    async def end_all(self, user_id: str, reason: str, but: str | None = None) -> int:
        """End all sessions of a user except `but`, at constant cost.

        Returns:
            How many sockets were closed on this node.
        """
        revocations = await self._database.run(self.end_all_within, user_id, reason, but)
        return await self._revocations.publish(revocations)

    def end_all_within(
        self, db: peewee.Database, user_id: str, reason: str, but: str | None = None
    ) -> list[Revocation]:
        """The same within the caller's transaction; publish the result after the commit."""
        generation = session_rows.next_generation(db, user_id)
        if generation is None:
            return []
        now, spared = self._clock(), ""
        if but is not None and session_rows.spare(db, user_id, but, generation, now):
            spared = but
        row = self._revocations.record(
            db, "user", user_id, user_id, reason, generation=generation, spared=spared
        )
        return [row]

    async def forget(self, user_id: str) -> None:
        """Delete all sessions of a user, ended ones too, batch by batch: an account that has been
        abused may have a hundred thousand."""
        while await self._database.run(session_rows.delete_some, user_id) == session_rows.BATCH:
            pass

    def end_of_provider_within(
        self, db: peewee.Database, provider: str, subject: str | None, sid: str | None, reason: str
    ) -> list[Revocation]:
        """End the sessions opened with an account at a provider, or with one session there.

        Args:
            subject: the account; None for the account of session `sid`.
            sid: the provider's session; None for all of `subject`.
        """
        condition = LoginSession.provider == provider
        if subject is not None:
            condition &= LoginSession.provider_subject == subject
        if sid is not None:
            # Sessions that the provider did not name could be this one.
            unnamed = LoginSession.provider_sid.is_null() if subject is not None else None
            same = LoginSession.provider_sid == sid
            condition &= same if unnamed is None else same | unnamed
        return self._end_where(db, condition, reason)

    def _end_where(
        self, db: peewee.Database, condition: peewee.Expression, reason: str
    ) -> list[Revocation]:
        now = self._clock()
        ended = session_rows.lock_living(db, condition, now)
        session_rows.mark_ended(db, [sid for sid, _ in ended], reason, now)
        return self._revocations.record_sessions(db, ended, reason)

    def end_within(self, db: peewee.Database, session: LoginSession, reason: str) -> Revocation:
        """End a session within the caller's transaction, which holds its lock; publish the result
        after the commit."""
        return self._end(db, session.id, session.user_id, reason)

    def _end(self, db: peewee.Database, sid: str, user_id: str, reason: str) -> Revocation:
        change = {LoginSession.ended_at: self._clock(), LoginSession.end_reason: reason}
        LoginSession.update(change).where(LoginSession.id == sid).execute(db)
        return self._revocations.record(db, "session", sid, user_id, reason)
