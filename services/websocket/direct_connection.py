"""One WebSocket on a raw non-blocking socket: reading, and the closing handshake.

Tornado parses the HTTP request and hands the connection over (handlers/websocket/upgrade.py); from
then on bytes go straight between the kernel and the frame codec. `frame_writer.py` is the sending
half.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from services.event_loop.loop_watch import never_stalled
from services.event_loop.readers import LoopReaders, Readers
from services.websocket.connection import (
    ABNORMAL_CLOSURE,
    CLOSE_HANDSHAKE_SECONDS,
    FIRST_READ_BYTES,
    LIGHT_BURST,
    LIGHT_RATE,
    READ_AWAY_BYTES,
    READ_AWAY_SECONDS,
    READ_BYTES,
    ConnectionOwner,
)
from services.websocket.first_frames import FirstFrames
from services.websocket.frame_writer import MORE, FrameWriter
from services.websocket.frames import (
    CLOSE,
    TEXT,
    FrameError,
    FrameReader,
    Opcode,
    close_code_of,
    encode_close,
    encode_frame,
    encode_text,
)
from services.websocket.message_rate import REST_SECONDS, Excess, TokenBucket
from services.websocket.protocol import MAX_UNJOINED_MESSAGE_BYTES, CloseCode, encode_closing

NEVER = float("-inf")
RARELY, RARE_SECONDS = 2, 1.0
"""Light frames in one read, and seconds since the last ones, for which no bucket is made."""


class _Nobody:
    """The owner of a connection that is gone."""

    __slots__ = ()

    def received(self, message: bytes, is_text: bool) -> None:
        """Nothing is read any more."""

    def closed(self, code: int) -> None:
        """Its owner was told before."""


class WebSocketConnection(FrameWriter):
    """A WebSocket after its handshake.

    Args:
        loop: the running event loop.
        sock: a connected non-blocking socket, now owned by the connection.
        owner: receives messages and the close.
        max_message: bytes a message may have; `limit()` changes it.
        stalled: asked once for what one read brings and before an answer leaves: whether the
            loop has stood still. It calls `hold()` where nothing may go in or out then.
        readers: calls back when there is something to read; those of the loop by default.
    """

    __slots__ = (
        "_bad_frame",
        "_excess",
        "_gone",
        "_is_over",
        "_is_watched",
        "_light",
        "_light_at",
        "_owner",
        "_paused",
        "_read_away",
        "_read_bytes",
        "_reader",
        "_readers",
        "_resting",
        "_timer",
        "_was_ready",
        "last_heard",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        owner: ConnectionOwner,
        max_message: int = MAX_UNJOINED_MESSAGE_BYTES,
        stalled: Callable[[], bool] = never_stalled,
        readers: Readers | None = None,
    ) -> None:
        super().__init__(loop, sock, stalled)
        self._readers: Readers = readers or LoopReaders(loop)
        self._is_watched = False
        self._read_bytes = FIRST_READ_BYTES
        self._owner: ConnectionOwner = owner
        self._reader = FrameReader(max_message)
        self._paused = self._was_ready = False
        self._resting: asyncio.TimerHandle | None = None
        self._light: TokenBucket | None = None
        self._light_at = NEVER
        self._excess: Excess | None = None
        self._bad_frame = self._is_over = False
        self._read_away = 0
        self._timer: asyncio.TimerHandle | None = None
        self._gone: Callable[[], None] | None = None
        self.last_heard = loop.time()

    def open(
        self, head: bytes, first_frames: FirstFrames, leading: bytes = b"", at_once: bool = False
    ) -> None:
        """Answer the handshake with `head`, and begin a moment later, or `at_once`.

        What is sent meanwhile waits for that moment, and leaves in one write. What the peer sends
        waits in the kernel. `leading`: what it had already sent behind its handshake.
        """
        if leading:
            self._reader.feed(leading)
        self._corked, self._opening = [], True
        first_frames.add(self, head, at_once)

    def answer(self, head: bytes) -> None:
        """Send the response to the handshake, before everything else."""
        if self._send(head, 0) < len(head):  # a new connection has room for more than that
            self.abort()

    def begin(self) -> None:
        """Send and deliver from now on, what waited first."""
        self._opening = False
        self._uncork()
        self._read_on()

    def gather(self) -> None:
        """Let what is sent from now on leave in the next iteration of the loop, in one write."""
        if self._corked is None and self._open:
            self._corked, self._opening = [], True
            self._readers.call_soon(self.begin)

    def limit(self, max_message: int) -> None:
        """Allow messages of so many bytes from now on."""
        self._reader.max_message = max_message

    # ---- reading ---------------------------------------------------------------------------

    def pause(self) -> None:
        """Deliver nothing until `resume()`: data received meanwhile waits in the kernel."""
        # The socket stays watched: most pauses end before something comes, or just after.
        self._paused, self._was_ready = True, False

    def resume(self) -> None:
        """Deliver again, first what was already read."""
        if self._paused:
            self._paused = False
            self._read_on()

    def rest(self) -> None:
        """Deliver nothing for a while, because the peer exceeded its message rate."""
        if self._resting is None and self._open:
            self._resting = self._loop.call_later(REST_SECONDS, self._end_rest)
            self._unwatch()

    def _end_rest(self) -> None:
        if self._resting is not None:
            self._resting.cancel()
            self._resting = None
            self._read_on()

    def _read_on(self) -> None:
        idle = self._paused or self._held or self._resting or self._opening
        if not idle and self._sock.fileno() >= 0:
            self._watch()
            if self._reader.has_more:
                self._take(b"")

    def hold(self) -> None:
        """Deliver nothing and send nothing until `release()`, but for the end: a close leaves at
        once. Received data waits in the kernel, sent data in the outbox."""
        if self._held or not self._open:
            return
        self._held = True
        self._unwatch()
        self._hold_writes()

    def release(self) -> None:
        """Deliver and send again, what waited first."""
        if self._held:
            self._unhold()
            if self._outbox is not None:
                self._on_writable()
            self._read_on()

    def _unhold(self) -> None:
        self._held = False
        if self._sock.fileno() < 0:
            return
        self._release_writes()
        if not (self._paused or self._resting or self._opening):
            self._watch()

    def _watch(self) -> None:
        if not self._is_watched:
            self._is_watched = True
            self._readers.add_reader(self._fd, self._readable)

    def _unwatch(self) -> None:
        if self._is_watched:
            self._is_watched = False
            self._readers.remove_reader(self._fd)

    def _readable(self) -> None:
        if self._stalled() and self._held:
            return
        if self._paused:
            self._wait_for_resume()
            return
        try:
            data = self._sock.recv(self._read_bytes)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._on_peer_lost()
            return
        if len(data) == self._read_bytes:
            self._read_bytes = READ_BYTES
        if not self._open:
            self._count_after_end(len(data))
        self._take(data)

    def _wait_for_resume(self) -> None:
        """Something came during a pause. As a rule the pause ends within this iteration of the
        loop; the socket is not watched any more only if it does not."""
        if self._was_ready:
            self._unwatch()
        self._was_ready = True

    def _count_after_end(self, size: int) -> None:
        self._read_away += size
        if self._read_away > READ_AWAY_BYTES and self._resting is None:
            self._resting = self._loop.call_later(READ_AWAY_SECONDS, self._end_rest)
            self._unwatch()

    def _take(self, data: bytes) -> None:
        """Deliver every complete message. Replies that are sent meanwhile are one write."""
        if self._bad_frame:
            return  # the stream can no longer be parsed: discard it until its end
        if data:
            self.last_heard = self._loop.time()
            self._reader.feed(data)
        if self._corked is not None:
            return  # called from within the loop below, which continues
        self._corked = []
        try:
            self._deliver_all()
        except FrameError as error:
            self._bad_frame = True
            self._refuse(error)
        finally:
            self._uncork()
            if self._bad_frame and not self._is_over:
                self._end_sending()

    def _deliver_all(self) -> None:
        reader = self._reader
        while not (self._paused or self._held or self._resting):
            message = reader.next()
            if message is not None:
                self._deliver(*message)
            elif self._bad_frame or not (reader.light and self._count_light_frame()):
                return

    def _deliver(self, opcode: Opcode, payload: bytes) -> None:
        if opcode is TEXT:  # nearly all are
            if self._open:
                self._owner.received(payload, True)
        elif opcode is CLOSE:
            self._peer_closes(payload)
        elif not self._open:
            return  # after our close frame nothing counts any more but the peer's
        elif opcode == Opcode.PING:
            self._write(encode_frame(Opcode.PONG, payload))
        elif opcode != Opcode.PONG:
            self._owner.received(payload, False)

    def _count_light_frame(self) -> bool:
        """Count a control frame or small fragment. Returns whether it is within the rate."""
        reader, now = self._reader, self._loop.time()
        if self._light is None:
            if self._is_rare():
                reader.light = 0
                return True
            self._light = TokenBucket(LIGHT_RATE, LIGHT_BURST, now)
        left = self._light.take_all(reader.light, now)
        reader.light, reader.max_light = 0, max(1, int(left))
        if left >= 1 or not self._open:
            return left >= 1
        if self._excess is None:
            self._excess = Excess()
        if self._excess.is_persistent(now):
            self.end_flood()
        else:
            self.rest()
        return False

    def _is_rare(self) -> bool:
        """Whether light frames come so rarely that they need no bucket, as answers to pings do."""
        before, self._light_at = self._light_at, self.last_heard
        return self._reader.light <= RARELY and self.last_heard - before >= RARE_SECONDS

    def _refuse(self, error: FrameError) -> None:
        if error.close_code == CloseCode.MESSAGE_TOO_BIG:
            self.close(CloseCode.MESSAGE_TOO_BIG)
        else:
            self._finish(error.close_code, encode_close(error.close_code, error.code))

    # ---- the end ---------------------------------------------------------------------------

    def close(self, code: CloseCode, after: float | None = None) -> None:
        """Say `closing`, send a close frame and let nothing else in or out.

        Messages that still waited are dropped: after a revocation none of them may leave.
        """
        if self._open:
            last = encode_text(encode_closing(code, after)) + encode_close(code, code.reason)
            self._finish(code, last)

    def end_flood(self) -> None:
        """Close a peer that continues above its rate (4429). Its data is read and discarded,
        and slowly."""
        self._bad_frame, self._read_away = True, READ_AWAY_BYTES
        self.close(CloseCode.RATE_LIMITED)

    def abort(self) -> None:
        """Drop a peer that does not answer, without a closing handshake."""
        self._on_peer_lost()

    def when_gone(self, act: Callable[[], None]) -> None:
        """Call `act` once the socket is closed."""
        if self._sock.fileno() < 0:
            act()
        else:
            self._gone = act

    def _finish(self, code: int, last_bytes: bytes) -> None:
        if not self._open:
            return
        # Reading on may end TCP, after which there is no owner.
        self._open, owner = False, self._owner
        self._drop_waiting()
        if self._held:
            self._unhold()
        self._write(last_bytes)
        if self._sock.fileno() >= 0:
            self._timer = self._loop.call_later(CLOSE_HANDSHAKE_SECONDS, self._close_transport)
            self._end_rest()
            self.resume()
        owner.closed(code)

    def _peer_closes(self, payload: bytes) -> None:
        if self._is_over:
            return
        try:
            code = close_code_of(payload)
        except FrameError as error:
            self._refuse(error)  # the close frame is bad, but it is one: nothing follows it
        else:
            if self._open:
                self._open = False
                self._drop_waiting()
                self._write(encode_close(code))
                self._owner.closed(code)
        self._uncork(MORE)
        self._bad_frame = self._is_over = True  # whatever follows is discarded
        # Not at once: the ends of one iteration of the loop leave together.
        self._readers.call_soon(self._end_sending)

    def _end_sending(self) -> None:
        """Both sides have sent a close frame: end TCP once the queue is sent.

        After a frame that can't be read, only our direction is ended: bytes of the peer that are
        still under way would turn a whole close into a reset, which may lose our close frame.
        """
        if self._sock.fileno() < 0:
            return
        if self._outbox is not None:
            self._ending = True
            if self._timer is None:
                self._timer = self._loop.call_later(CLOSE_HANDSHAKE_SECONDS, self._close_transport)
            return
        try:  # first only our direction: the close frame leaves, even if there is something unread
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._close_transport()
        else:
            if self._is_over:
                self._close_transport()

    def _on_peer_lost(self) -> None:
        if self._open:
            self._open = False
            self._owner.closed(ABNORMAL_CLOSURE)
        self._close_transport()

    def _close_transport(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._resting is not None:
            self._resting.cancel()
            self._resting = None
        if self._sock.fileno() < 0:
            return
        if self._is_watched:
            self._is_watched = False
            self._readers.forget(self._fd)
        if self._outbox is not None:
            self._loop.remove_writer(self._fd)
            self._outbox = None
        socket.close(self._sock.detach())  # half the time of the object's own `close`
        self._bad_frame = True
        # Else both would wait for the garbage collector, and new sockets take new memory till then.
        self._owner = _Nobody()
        if self._gone is not None:
            act, self._gone = self._gone, None
            act()
