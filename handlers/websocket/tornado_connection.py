"""One WebSocket through Tornado's handler, with the interface of the direct form.

`services.websocket.connection` documents the methods, `direct_connection` beside it implements the
direct form. Here Tornado reads and writes the frames, as TLS and compression require. Messages are
passed to Tornado's stream one at a time, so that a close, for example after a revocation, can still
drop the others.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from tornado.websocket import WebSocketClosedError

from services.event_loop.loop_watch import never_stalled
from services.websocket.connection import (
    ABNORMAL_CLOSURE,
    CLOSE_HANDSHAKE_SECONDS,
    LIGHT_BURST,
    LIGHT_RATE,
    OUTBOX_BYTES,
    READ_AWAY_BYTES,
    READ_AWAY_SECONDS,
    ConnectionOwner,
)
from services.websocket.first_frames import FirstFrames
from services.websocket.frames import Perishable, text_of
from services.websocket.message_rate import REST_SECONDS, TokenBucket
from services.websocket.protocol import MAX_UNJOINED_MESSAGE_BYTES, CloseCode, encode_closing

LEAST_READ_AWAY = 4096
"""Bytes that a message after the end counts for at least: each costs us about as much."""

if TYPE_CHECKING:
    from tornado.websocket import WebSocketHandler


class TornadoConnection:
    """A WebSocket after its handshake.

    Args:
        loop: the running event loop.
        handler: Tornado's handler of the socket.
        owner: receives messages and the close.
        stalled: as in the direct form.
    """

    __slots__ = (
        "_gate",
        "_gone",
        "_handler",
        "_held",
        "_is_over",
        "_is_writing",
        "_light",
        "_loop",
        "_max_message",
        "_open",
        "_opening",
        "_outbox",
        "_owner",
        "_paused",
        "_queued",
        "_read_away",
        "_resting",
        "_stalled",
        "_timer",
        "_unread",
        "last_heard",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        handler: WebSocketHandler,
        owner: ConnectionOwner,
        stalled: Callable[[], bool] = never_stalled,
    ) -> None:
        self._loop, self._handler, self._owner = loop, handler, owner
        self._stalled = stalled
        self._max_message = MAX_UNJOINED_MESSAGE_BYTES
        self._open = True
        self._paused = self._held = self._opening = self._is_writing = False
        self._light: TokenBucket | None = None
        self._resting: asyncio.TimerHandle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._outbox: deque[bytes] = deque()
        self._queued = self._read_away = 0
        self._unread: str | bytes | None = None
        self._gate: asyncio.Future[None] | None = None
        self._gone: Callable[[], None] | None = None
        self._is_over = False
        self.last_heard = loop.time()

    @property
    def is_open(self) -> bool:
        return self._open

    def open(
        self, head: bytes, first_frames: FirstFrames, leading: bytes = b"", at_once: bool = False
    ) -> None:
        """Begin a moment later, or `at_once`: Tornado reads once the handler's `open` has returned,
        and has already sent the handshake's response."""
        assert leading == head == b"", "Tornado has sent the one and reads the other"
        if not at_once:
            self._opening = True
            first_frames.add(self)

    def answer(self, head: bytes) -> None:
        """Tornado has answered."""

    def gather(self) -> None:
        """Tornado's stream sends each frame by itself."""

    def limit(self, max_message: int) -> None:
        """Set the maximum message size, in bytes."""
        self._max_message = max_message

    def begin(self) -> None:
        """Send and deliver from now on, what waited first."""
        self._opening = False
        self._continue_delivery()

    # ---- reading ---------------------------------------------------------------------------

    def receive(self, message: str | bytes) -> asyncio.Future[None] | None:
        """Handle a message that Tornado read. It reads the next one once the result is done."""
        self.last_heard = self._loop.time()
        if not self._open:
            return self._read_slowly(len(message))
        self._stalled()
        if self._is_delivery_blocked():
            self._unread = message
        else:
            self._deliver(message)
        return self._read_gate()

    def _read_gate(self) -> asyncio.Future[None] | None:
        if not (self._open and self._is_delivery_blocked()):
            return None
        self._gate = self._loop.create_future()
        return self._gate

    def _read_slowly(self, size: int) -> asyncio.Future[None] | None:
        """After our close frame, discard everything but the peer's close frame."""
        self._read_away += max(size, LEAST_READ_AWAY)
        if self._read_away <= READ_AWAY_BYTES:
            return None
        pause: asyncio.Future[None] = self._loop.create_future()
        self._loop.call_later(READ_AWAY_SECONDS, pause.set_result, None)
        return pause

    def record_activity(self) -> None:
        """Record a ping or pong of the peer, which Tornado has answered, or a small fragment.

        Tornado continues to read in any case, so a peer that floods is closed, not paused.
        """
        now = self.last_heard = self._loop.time()
        if self._light is None:
            self._light = TokenBucket(LIGHT_RATE, LIGHT_BURST, now)
        if self._light.take(now):
            self.end_flood()

    def _is_delivery_blocked(self) -> bool:
        return self._paused or self._held or self._opening or self._resting is not None

    def _deliver(self, message: str | bytes) -> None:
        payload = message.encode() if isinstance(message, str) else message
        if len(payload) > self._max_message:
            self.close(CloseCode.MESSAGE_TOO_BIG)
        else:
            self._owner.received(payload, isinstance(message, str))

    def pause(self) -> None:
        """Deliver nothing until `resume()`. Later data waits in the kernel."""
        self._paused = True

    def resume(self) -> None:
        """Resume delivery, beginning with data that was already read."""
        self._paused = False
        self._continue_delivery()

    def rest(self) -> None:
        """Deliver nothing for a while, because the peer exceeded its message rate."""
        if self._resting is None and self._open:
            self._resting = self._loop.call_later(REST_SECONDS, self._end_rest)

    def _end_rest(self) -> None:
        if self._resting is not None:
            self._resting.cancel()
            self._resting = None
        self._continue_delivery()

    def hold(self) -> None:
        """Deliver nothing and send nothing until `release()`, except the close."""
        self._held = self._open

    def release(self) -> None:
        """Resume delivery and sending, beginning with what waited."""
        self._held = False
        self._continue_delivery()

    def _continue_delivery(self) -> None:
        self._flush()
        if self._open and self._is_delivery_blocked():
            return
        message, self._unread = self._unread, None
        if message is not None and self._open:
            self._deliver(message)
        if self._gate is not None and not (self._open and self._is_delivery_blocked()):
            gate, self._gate = self._gate, None
            if not gate.done():
                gate.set_result(None)

    # ---- writing ---------------------------------------------------------------------------

    def send(self, text: bytes) -> None:
        """Send a text message. Does nothing once the connection is closed."""
        if not self._open:
            return
        if self._outbox or self._is_writing or self._held or self._opening:
            self._outbox.append(text)
            self._queued += len(text)
            if self._queued > OUTBOX_BYTES:
                self.close(CloseCode.SLOW_CONSUMER)
        else:
            self._write(text)

    def send_frame(self, frame: bytes) -> None:
        """Send the text of a frame that is already built; Tornado builds its own."""
        self.send(text_of(frame))

    def send_frames(self, frames: list[bytes], joined: bytes) -> None:
        """Send the texts of frames that are already built, one after the other."""
        for frame in frames:
            self.send_frame(frame)

    def send_perishable(self, frame: Perishable) -> None:
        """Send the text of a frame that may not leave any more from a moment on."""
        instead = text_of(frame.instead) if frame.instead else b""
        self.send(Perishable.of(text_of(frame), frame.is_over, instead))

    def ping(self) -> None:
        """Send a ping (RFC 6455 section 5.5.2)."""
        if self._open:
            try:
                self._handler.ping()
            except WebSocketClosedError:
                self._loop.call_soon(self._on_peer_lost)

    def _write(self, text: bytes) -> None:
        try:
            future = self._handler.write_message(text)
        except WebSocketClosedError:
            # Later, not here: the caller may be iterating over the members of a room.
            self._loop.call_soon(self._on_peer_lost)
            return
        self._is_writing = self._stream_is_writing()
        future.add_done_callback(self._on_written)

    def _stream_is_writing(self) -> bool:
        connection = self._handler.ws_connection
        stream = connection.stream if connection is not None else None
        return stream is not None and stream.writing()

    def _on_written(self, future: asyncio.Future[None]) -> None:
        if future.cancelled() or future.exception() is not None:
            self._on_peer_lost()
        elif self._is_writing:
            self._is_writing = self._stream_is_writing()
            self._flush()

    def _flush(self) -> None:
        while self._open and self._outbox and not (self._is_writing or self._held or self._opening):
            text = self._outbox.popleft()
            self._queued -= len(text)
            if isinstance(text, Perishable) and not (text := text.now()):
                continue
            self._write(text)

    # ---- closing ---------------------------------------------------------------------------

    def close(self, code: CloseCode, after: float | None = None) -> None:
        """Send `closing` and a close frame. Nothing else is received or sent."""
        if not self._open:
            return
        self._open = False
        self._outbox.clear()
        self._unread = None
        try:
            self._handler.write_message(encode_closing(code, after)).add_done_callback(
                _consume_result
            )
        except WebSocketClosedError:
            self._loop.call_soon(self.abort)
        else:
            self._handler.close(code, code.reason)
            self._timer = self._loop.call_later(CLOSE_HANDSHAKE_SECONDS, self.abort)
        self._end_rest()
        self._owner.closed(code)

    def end_flood(self) -> None:
        """Close a peer that stays above its rate (4429). Its remaining data is discarded slowly."""
        self._read_away = READ_AWAY_BYTES
        self.close(CloseCode.RATE_LIMITED)

    def abort(self) -> None:
        """Drop an unresponsive peer, without a closing handshake."""
        connection = self._handler.ws_connection
        if connection is not None and connection.stream is not None:
            connection.stream.close()
        self._on_peer_lost()
        self._on_stream_closed()

    def when_gone(self, act: Callable[[], None]) -> None:
        """Call `act` once Tornado has closed the stream."""
        if self._is_over:
            act()
        else:
            self._gone = act

    def ended(self, code: int | None) -> None:
        """Handle the end of the connection. `code`: the peer's close code, if any."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._on_peer_lost(ABNORMAL_CLOSURE if code is None else code)
        self._on_stream_closed()

    def _on_stream_closed(self) -> None:
        """The stream is closed. Tornado says so by `ended`, but for a client that left before it
        was answered."""
        self._is_over = True
        if self._gone is not None:
            act, self._gone = self._gone, None
            act()

    def _on_peer_lost(self, code: int = ABNORMAL_CLOSURE) -> None:
        if self._open:
            self._open = False
            self._outbox.clear()
            self._end_rest()
            self._owner.closed(code)


def _consume_result(future: asyncio.Future[None]) -> None:
    """Retrieve the result of the last write; a lost peer is reported by the end of the stream."""
    if not future.cancelled():
        future.exception()
