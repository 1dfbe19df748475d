"""The identity and expiry of a socket: joining, token refresh, expiry, and leaving.

socket.py has the frames of a socket and their replies.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from handlers.websocket.context import SocketContext
from services.event_loop.deadlines import NEAR_SECONDS
from services.opaque import random_id
from services.outbox import SocketJoinedEvent, SocketLeftEvent
from services.redis.store import Command
from services.rooms.joins import Credential
from services.rooms.membership import Membership
from services.sessions.admission import Identity
from services.sockets.session_pool import SocketSession, record_command
from services.websocket import protocol
from services.websocket.connection import Connection
from services.websocket.protocol import CloseCode

EXPIRY_NOTICE_SECONDS = 60.0


class SocketIdentity:
    """The identity of one socket. Joined once it has a `session`."""

    __slots__ = (
        "_address",
        "_group",
        "_issued_at",
        "_membership",
        "_renewed_at",
        "_second",
        "_session",
        "_timer",
        "bearer_token_id",
        "connection",
        "context",
        "generation",
        "session_id",
    )

    connection: Connection

    def __init__(self, context: SocketContext, address: str, session_id: str = "") -> None:
        self.context, self._address = context, address
        self.session_id = session_id or random_id()
        self._session: SocketSession | None = None
        self.bearer_token_id: str | None = None
        self.generation = 0
        self._issued_at = 0.0
        self._membership: Membership | None = None
        self._renewed_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._second = 0
        self._group = ""

    # ---- the hub's interface ---------------------------------------------------------------

    @property
    def session(self) -> SocketSession:
        """The socket session. Only a joined socket is in the hub, so only then is this called."""
        assert self._session is not None, "not joined"
        return self._session

    @property
    def membership(self) -> Membership:
        """The rooms of a joined socket."""
        assert self._membership is not None, "not joined"
        return self._membership

    def close(self, code: CloseCode, after: float | None = None) -> None:
        """Close at once. No further frame is received or sent."""
        self.connection.close(code, after)

    # ---- identity --------------------------------------------------------------------------

    def _identify(self, credential: Credential) -> Awaitable[Identity]:
        if self._session is None:
            return self.context.admit(credential, self._address, session_id=self.session_id)
        return self.context.joins.renew(credential, self._session)

    def _enter(self, identity: Identity, bearer: bool) -> protocol.Joined:
        """Set the identity, and add the socket to the hub, Redis and rooms. Does not wait."""
        context, claims, now = self.context, identity.claims, self.context.clock()
        self._end_unauthenticated()
        self._issued_at, self._renewed_at = claims.iat, now
        self.generation = identity.generation
        self.session_id = identity.session_id or self.session_id
        session = self._session = SocketSession(
            session_id=self.session_id,
            user_id=claims.sub,
            login_session_id=claims.sid,
            name=identity.name,
            role=claims.role,
            node=context.services.node,
            connected_at=now,
            expires_at=claims.exp,
        )
        self.connection.limit(protocol.MAX_MESSAGE_BYTES)
        context.hub.add(self)
        if bearer:
            self._bind_bearer(claims.jti, record_command(session))
        else:
            self._bind_bearer(None)
            context.services.pool.write_record(session)
        self._enter_rooms(identity)
        context.services.last_seen.record(claims.sid)
        context.metrics.joins.inc("joined")
        self._audit("socket.joined", "bearer" if bearer else "")
        if context.socket_events.wanted:
            self._record_event()
        self._watch_expiry()
        return self._joined()

    def _audit(self, kind: str, reason: str) -> None:
        """Record an entry in the audit trail: a log line, written later, and no row."""
        session = self.session
        self.context.services.audit.record_line(
            kind,
            session.user_id,
            session.login_session_id,
            self._address,
            reason,
            session.session_id,
        )

    def _record_event(self, code: int | None = None) -> None:
        """Record a webhook event for a join, or for a close with a code. Callers first check that
        the event is wanted, to keep joins quick."""
        user_id, session_id = self.session.user_id, self.session.login_session_id
        at, events = self.context.clock(), self.context.socket_events
        if code is None:
            joined = SocketJoinedEvent(user_id, session_id, self.session_id, at)
            events.record("socket.joined", user_id, joined)
        else:
            left = SocketLeftEvent(user_id, session_id, self.session_id, at, code)
            events.record("socket.left", user_id, left)

    def _enter_rooms(self, identity: Identity) -> None:
        services = self.context.services
        user = protocol.Member(identity.user_id, identity.name)
        self._membership = Membership(
            services.rooms,
            services.presence,
            self,
            user,
            identity.grants,
            self._proof_ends(identity),
        )
        self._membership.enter(self._membership.allowed())
        self.context.joins.release(identity)
        services.session_watch.moved(identity.user_id)

    def _proof_ends(self, identity: Identity) -> float:
        """When the proof in the token of an identity ends, by the clock of `Freshness`."""
        freshness = self.context.services.freshness
        return freshness.ends_at(identity.claims, identity.proof_epoch)

    def _bind_bearer(self, token_id: str | None, *beside: Command) -> None:
        """Bind the bearer token to this socket: it may hold one live socket on all nodes.

        Args:
            beside: commands for Redis that leave with it.
        """
        self.context.hub.bind_bearer(self, token_id)
        if token_id is not None:
            self.context.services.token_binding.bind(self.session, token_id, *beside)

    def _adopt(self, identity: Identity, bearer: bool) -> None:
        """Replace the token with a newer one of the same identity."""
        claims = identity.claims
        self._issued_at, self.generation = claims.iat, identity.generation
        self._session = msgspec.structs.replace(
            self.session,
            name=identity.name,
            role=claims.role,
            expires_at=claims.exp,
        )
        if bearer and self.bearer_token_id is not None:
            self._bind_bearer(claims.jti)
        self.context.services.pool.write(self.session)
        self.context.services.last_seen.record(claims.sid)
        self._watch_expiry()

    def rename(self, name: str) -> None:
        """Take over the user's new display name: in what the socket sends from now on, and in
        presence."""
        self._session = msgspec.structs.replace(self.session, name=name)
        self.membership.rename(name)
        self.context.services.pool.write(self.session)

    def _joined(self) -> protocol.Joined:
        session = self.session
        user = protocol.JoinedUser(session.user_id, session.name, session.role)
        rooms = self.membership.names()
        return protocol.Joined(self.session_id, user, rooms, session.expires_at)

    # ---- leaving ---------------------------------------------------------------------------

    def _leave(self, code: int) -> None:
        """Remove the socket from everything that it has joined. Called once, after the close."""
        self._stop_timer()
        self.context.unauthenticated.discard(self)
        if self._group:  # it uses a file descriptor until its closing handshake is over
            self.connection.when_gone(self._stop_counting)
        if self._session is not None:
            self.context.hub.remove(self)
            self.membership.leave_all()
            self.context.services.pool.remove(self._session)
            watch = self.context.services.session_watch
            watch.forget(self._session.user_id, self)
            watch.moved(self._session.user_id)
            self._audit("socket.closed", str(int(code)))
            if self.context.socket_events.wanted:
                self._record_event(int(code))

    def _end_unauthenticated(self) -> None:
        self.context.unauthenticated.discard(self)
        self._stop_counting()

    def _stop_counting(self) -> None:
        if self._group:
            self.context.unjoined.leave(self._group)
            self._group = ""

    # ---- expiry ----------------------------------------------------------------------------

    def _watch_expiry(self) -> None:
        expires_at = self.session.expires_at
        notice = min(EXPIRY_NOTICE_SECONDS, (expires_at - self._issued_at) / 2)
        delay = expires_at - notice - self.context.clock()
        if not self._wait_until_near(delay, SocketIdentity._watch_expiry):
            self._timer = self.context.loop.call_later(max(0.0, delay), self._expiring)

    def _watch_end(self) -> None:
        delay = self.session.expires_at - self.context.clock()
        if not self._wait_until_near(delay, SocketIdentity._watch_end):
            self._timer = self.context.loop.call_later(max(0.0, delay), self._expired)

    def _wait_until_near(self, delay: float, again: Callable[[SocketIdentity], None]) -> bool:
        """Cancel the timer. Call `again` near the end of a delay; False if that is now."""
        self._stop_timer()
        if delay <= NEAR_SECONDS:
            return False
        self._second = self.context.deadlines.add(self, delay, again)
        return True

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._second:
            self.context.deadlines.discard(self, self._second)
            self._second = 0

    def _expiring(self) -> None:
        expires_at = self.session.expires_at
        self.connection.send(protocol.encode_event("token-expiring", protocol.Expiry(expires_at)))
        self._watch_end()

    def _expired(self) -> None:
        if self.context.clock() < self.session.expires_at:  # timers and the wall clock may differ
            self._watch_end()
        else:
            self.close(CloseCode.TOKEN_EXPIRED)
