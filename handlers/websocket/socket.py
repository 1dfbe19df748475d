"""One client's socket: its frames are handled, and replies are sent in order.

The socket's identity and expiry are in socket_identity.py.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from handlers.websocket.context import ClientEvent, SocketContext, client_event
from handlers.websocket.replies import ReplyQueue
from handlers.websocket.socket_identity import SocketIdentity
from services.audit.events import Caller
from services.errors import (
    BadRequest,
    Forbidden,
    IdentityMismatch,
    RateLimited,
    StepUpNeeded,
    TokenExpired,
    Unauthenticated,
    Unavailable,
    UnknownEvent,
    UsherError,
)
from services.rooms.joins import Credential
from services.sessions.admission import Identity
from services.websocket import protocol
from services.websocket.connection import Connection, ConnectionOwner
from services.websocket.frames import Perishable, encode_text
from services.websocket.message_rate import (
    BURST_SECONDS,
    QUIET_SECONDS,
    REST_SECONDS,
    Excess,
    TokenBucket,
)
from services.websocket.protocol import CloseCode, Frame

RENEW_AFTER_SECONDS = 5.0
"""A heartbeat renews the lease, but not more often than this is of any use."""
CLOCK_STEP_SECONDS = 0.001
"""The clock of uvloop goes in such steps: an announced pause has to be over on the next one."""
COUNTED = frozenset((1000, 1001, 1002, 1006, 1007, *CloseCode))
"""Close codes with a counter of their own; a client may send any of a thousand others."""

log = logging.getLogger("usher.socket")


class ClientSocket(SocketIdentity):
    """A WebSocket after its handshake. Joined once it has a `session`."""

    __slots__ = (
        "_excess",
        "_rate",
        "_replies",
        "_task",
    )

    def __init__(
        self,
        context: SocketContext,
        connect: Callable[[ConnectionOwner], Connection],
        address: str = "",
        session_id: str = "",
    ) -> None:
        super().__init__(context, address, session_id)
        self.connection = connect(self)
        self._replies: ReplyQueue | None = None
        self._task: asyncio.Task[None] | None = None
        self._rate: TokenBucket | None = None
        self._excess: Excess | None = None

    # ---- opening ---------------------------------------------------------------------------

    def open_joined(self, head: bytes, leading: bytes, identity: Identity, bearer: bool) -> None:
        """Open with an identity. `joined` is sent right after the handshake's response."""
        joined = self._enter(identity, bearer)
        self.connection.open(head, self.context.first_frames, leading)
        self.connection.send(protocol.encode_event("joined", joined))

    def open_unauthenticated(self, head: bytes, leading: bytes, group: str = "") -> None:
        """Open without an identity. The client must send `user-join` in time.

        Args:
            group: the address that the socket counts for until it joins.
        """
        self._group = group
        self.context.unauthenticated.add(self)
        self.connection.open(head, self.context.first_frames, leading, at_once=True)

    def open_refused(self, head: bytes, code: CloseCode, group: str = "") -> None:
        """Open only to close with a code, because a browser cannot see an HTTP status.

        Args:
            group: the address that it counts for until it is gone.
        """
        self._group = group
        self.connection.open(head, self.context.first_frames)
        self._refuse(code)

    def join_overdue(self) -> None:
        """Close, because no `user-join` came in time."""
        self._refuse(CloseCode.JOIN_TIMEOUT)

    def _refuse(self, code: CloseCode) -> None:
        self.context.metrics.joins.inc(code.reason)
        by = Caller(address=self._address)
        self.context.services.audit.record(
            "socket.refused", reason=code.reason, target=self.session_id, by=by, kept=False
        )
        self.close(code)

    # ---- frames from the connection --------------------------------------------------------

    def received(self, message: bytes, is_text: bool) -> None:
        """Handle a message: reply, or send an error, or close the socket."""
        try:
            if not is_text:
                raise protocol.NotAFrame("binary message")
            frame = protocol.decode_frame(message)
        except protocol.NotAFrame as error:
            log.info("socket=%s closed: %s", self.session_id, error.evidence)
            self.close(CloseCode.BAD_REQUEST)
            return
        # Before the join there is no rate: one frame is read, and decides.
        if self._session is not None and (wait := self._take_token()):
            self._refuse_excess(frame, wait, len(message))
            return
        event = self.context.events.get(frame.event)
        self.context.metrics.frames.inc(frame.event if event else "unknown")
        if self._session is None and frame.event != "user-join":
            self._answer_refusal(frame, Unauthenticated("event before user-join"))
            self._refuse(CloseCode.UNAUTHENTICATED)
        else:
            self._dispatch(event, frame)

    def _take_token(self) -> float:
        if self._rate is None:  # idle sockets have no bucket, to save memory
            rate = self.context.message_rate
            self._rate = TokenBucket(rate, rate * BURST_SECONDS, self.connection.last_heard)
        return self._rate.take(self.connection.last_heard)

    def _refuse_excess(self, frame: Frame, wait: float, size: int) -> None:
        """Enforce the message rate: send an error, then pause reading, then close the socket."""
        now, metrics = self.context.loop.time(), self.context.metrics
        metrics.frames.inc("rate_limited")
        excess = self._excess
        if excess is None:
            excess = self._excess = Excess()
        if excess.is_persistent(now):
            log.info("socket=%s closed: over its rate for too long", self.session_id)
            self.connection.end_flood()
            return
        wait += CLOCK_STEP_SECONDS
        error = RateLimited("over the rate of its socket", retry_after=wait)
        if self._replies is None:
            self._answer_refusal(frame, error)
        else:
            self._wait(frame, _refused(error), alone=False)
        if excess.should_pause(size):
            assert self._rate is not None
            self._rate.restrict_burst(now, REST_SECONDS + QUIET_SECONDS)
            self.connection.rest()

    def _dispatch(self, event: ClientEvent | None, frame: Frame) -> None:
        overlaps = event is not None and event.overlaps and self.context.may_overlap
        if self._replies is not None and not overlaps:
            self._wait(frame, self._handle_in_order(event, frame), alone=True)
            return
        try:
            outcome = self._act(event, frame)
        except UsherError as error:
            if self._replies is None:
                self._answer_refusal(frame, error)
                if self._session is None:  # a user-join without what could be a credential
                    self._refuse(CloseCode.UNAUTHENTICATED)
                return
            outcome = _refused(error)
        if outcome is not None:
            self._wait(frame, outcome, alone=not overlaps)

    def _act(self, event: ClientEvent | None, frame: Frame) -> Awaitable[None] | None:
        if event is None:
            raise UnknownEvent(repr(frame.event[:64]))
        outcome: Awaitable[None] | None = event.act(
            self, frame, protocol.decode_data(frame, event.decoder)
        )
        return outcome

    async def _handle_in_order(self, event: ClientEvent | None, frame: Frame) -> None:
        """Handle a frame once the replies to all earlier frames are sent."""
        if self.context.stalled():
            await self.context.services.infrastructure.watch.passed()
        if self.connection.is_open:
            outcome = self._act(event, frame)
            if outcome is not None:
                await outcome

    def _wait(self, frame: Frame, outcome: Awaitable[None], alone: bool) -> None:
        """Queue the reply to a frame. Frames that must not overlap with it stay unread."""
        replies = self._replies
        if replies is None and alone:  # the only one until it is sent: it needs no queue
            self._task = self.context.loop.create_task(self._finish(frame, outcome, alone=True))
            self.connection.pause()
            return
        if replies is None:
            replies = self._replies = ReplyQueue()
            replies.task = self.context.loop.create_task(self._send_replies(replies))
        if replies.add(frame, outcome, alone):
            self.connection.pause()

    async def _send_replies(self, replies: ReplyQueue) -> None:
        while (turn := replies.first()) is not None:
            await self._finish(*turn)
            if replies.done():
                self.context.readers.call_soon(self.connection.resume)
        self._replies = None

    async def _finish(self, frame: Frame, outcome: Awaitable[None], alone: bool = False) -> None:
        try:
            await outcome
        except UsherError as error:
            self._answer_refusal(frame, error)
        except Exception:  # an error must neither leave the socket hanging nor affect others
            log.exception("socket=%s event=%s failed", self.session_id, frame.event[:64])
            self._answer_refusal(frame, UsherError())
        if alone:
            self._task = None
            self.context.readers.call_soon(self.connection.resume)

    def closed(self, code: int) -> None:
        """Leave everything that was joined, because the connection is closed."""
        self.context.metrics.closes.inc(str(code) if code in COUNTED else "other")
        self._leave(code)

    # ---- replies ---------------------------------------------------------------------------

    def answer(self, frame: Frame, data: object) -> None:
        """Send the successful reply to a frame."""
        if frame.id:  # a frame without an id needs no reply
            self.connection.send(protocol.encode_reply(bytes(frame.id), data))

    def answer_while(self, frame: Frame, data: object, is_over: Callable[[], bool]) -> None:
        """Send the successful reply to a frame, with what may not leave once something is over;
        then the refusal leaves instead."""
        if not frame.id:
            return
        self.context.stalled()
        frame_id, refused = bytes(frame.id), StepUpNeeded()
        reply = Perishable.of(
            encode_text(protocol.encode_reply(frame_id, data)),
            is_over,
            encode_text(protocol.encode_refusal(frame_id, refused)),
        )
        self.connection.send_perishable(reply)

    def _answer_refusal(self, frame: Frame, error: UsherError) -> None:
        log.debug("socket=%s %s: %s", self.session_id, error.code, error.evidence)
        if frame.id:
            self.connection.send(protocol.encode_refusal(bytes(frame.id), error))

    # ---- events ----------------------------------------------------------------------------

    def user_join(self, frame: Frame, data: protocol.UserJoin) -> Awaitable[None]:
        """Join with a credential; on a joined socket, replace the token with a newer one."""
        return self._join(frame, Credential("message", data.auth.token))

    async def _join(self, frame: Frame, credential: Credential) -> None:
        try:
            identity = await self._identify(credential)
        except UsherError as error:
            if self._session is None and self.connection.is_open:
                log.info("socket=%s join refused: %s", self.session_id, error.evidence)
                self._answer_refusal(frame, error)
                self._refuse(close_code_for(error))
                return
            raise
        if not self.connection.is_open:
            if self._session is None:
                self.context.joins.release(identity)
            return
        if self._session is None:
            joined = self._enter(identity, credential.is_bearer)
            self.connection.gather()
        else:
            self._adopt(identity, credential.is_bearer)
            await self.membership.prove(self._proof_ends(identity))
            joined = self._joined()
        if frame.id:
            self.answer(frame, joined)
        else:
            self.connection.send(protocol.encode_event("joined", joined))

    def token_refresh(self, frame: Frame, data: protocol.TokenRefresh) -> Awaitable[None]:
        """Replace the token with a newer one of the same user and login session, and no other."""
        return self._refresh(frame, Credential("message", data.token))

    async def _refresh(self, frame: Frame, credential: Credential) -> None:
        identity = await self._identify(credential)
        if self.connection.is_open:
            self._adopt(identity, credential.is_bearer)
            self.answer(frame, protocol.Expiry(identity.claims.exp))
            await self.membership.prove(self._proof_ends(identity))

    def heartbeat(self, frame: Frame, data: object) -> None:
        """Renew the lease of the socket session."""
        now = self.context.clock()
        if self._session is not None and now - self._renewed_at >= RENEW_AFTER_SECONDS:
            self._renewed_at = now
            self.context.services.pool.write(self.session)
            self.context.services.last_seen.record(self.session.login_session_id)
        self.answer(frame, protocol.ServerTime(now))


async def _refused(error: UsherError) -> None:
    raise error


_CREDENTIAL_ERRORS = (BadRequest, Unauthenticated, TokenExpired, IdentityMismatch, Unavailable)

EVENTS: dict[str, ClientEvent] = {
    "user-join": client_event(
        ClientSocket.user_join,
        protocol.UserJoin,
        protocol.Joined,
        "Say who you are, where no credential came on open. A refusal ends a socket that has not "
        "joined; a joined socket is not affected.",
        _CREDENTIAL_ERRORS,
    ),
    "token-refresh": client_event(
        ClientSocket.token_refresh,
        protocol.TokenRefresh,
        protocol.Expiry,
        "Continue with a newer token of the same user and login session. After a refusal, the old "
        "token stays valid.",
        _CREDENTIAL_ERRORS,
    ),
    "heartbeat": client_event(
        ClientSocket.heartbeat,
        Any,
        protocol.ServerTime,
        "Renews the session's lease, and returns the server's clock.",
    ),
}


def close_code_for(error: UsherError) -> CloseCode:
    """The close code of an error."""
    for kind, code in _CLOSE_CODES:
        if isinstance(error, kind):
            return code
    return CloseCode.BAD_REQUEST


_CLOSE_CODES: tuple[tuple[type[UsherError], CloseCode], ...] = (
    (TokenExpired, CloseCode.TOKEN_EXPIRED),
    (Unauthenticated, CloseCode.UNAUTHENTICATED),
    (Forbidden, CloseCode.FORBIDDEN),
    (RateLimited, CloseCode.RATE_LIMITED),
    (Unavailable, CloseCode.UNAVAILABLE),
)
