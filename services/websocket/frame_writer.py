"""Writes frames on a raw non-blocking socket, with a bounded outbox.

A write is a `send(2)` at once when nothing is queued: a fan-out then costs one system call a member
and no task.
"""

from __future__ import annotations

import asyncio
import socket
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable

from services.websocket.connection import OUTBOX_BYTES
from services.websocket.frames import Opcode, Perishable, encode_frame, encode_text
from services.websocket.protocol import CloseCode

MORE = getattr(socket, "MSG_MORE", 0)
"""Holds bytes back for what follows (Linux): the last frame then leaves together with the FIN."""


class FrameWriter(ABC):
    """The sending half of a connection. It is a base class and no part of its own, because a call
    more for each frame would be felt in a fan-out.

    Args:
        loop: the running event loop.
        sock: a connected non-blocking socket.
        stalled: asked before an answer leaves: whether the loop has stood still.
    """

    __slots__ = (
        "_begun",
        "_corked",
        "_ending",
        "_fd",
        "_held",
        "_loop",
        "_open",
        "_opening",
        "_outbox",
        "_perishes",
        "_queued",
        "_sock",
        "_stalled",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        stalled: Callable[[], bool],
    ) -> None:
        self._loop, self._sock, self._stalled = loop, sock, stalled
        self._fd = sock.fileno()
        self._open = True
        self._held = self._opening = self._ending = False
        self._corked: list[bytes] | None = None
        self._outbox: deque[bytes] | None = None
        self._queued = 0
        self._begun = self._perishes = False

    @property
    def is_open(self) -> bool:
        return self._open

    @abstractmethod
    def close(self, code: CloseCode, after: float | None = None) -> None:
        """See `Connection.close`."""

    @abstractmethod
    def _on_peer_lost(self) -> None:
        """Handle the loss of the peer."""

    @abstractmethod
    def _end_sending(self) -> None:
        """Everything has left after the close frame."""

    def send(self, text: bytes) -> None:
        """Send a text message; ignored once the connection is closed."""
        if self._corked is None:
            self._stalled()
        self.send_frame(encode_text(text))

    def send_frame(self, frame: bytes) -> None:
        """Send a frame that is already built; the same bytes may go to any number of wires."""
        if self._open:
            self._write(frame)

    def send_frames(self, frames: list[bytes], joined: bytes) -> None:
        """Send frames that are already built, in one write. `joined`: the same in one piece, made
        once for all who get them."""
        if not self._open:
            return
        if self._corked is not None:
            self._corked.extend(frames)
        else:
            self._put(frames, joined)

    def send_perishable(self, frame: Perishable) -> None:
        """Send a frame that may not leave any more from a moment on, see `Connection`."""
        if self._open:
            self._perishes = True
            self._write(frame)

    def ping(self) -> None:
        """Ask the peer for a sign of life (section 5.5.2)."""
        self.send_frame(encode_frame(Opcode.PING, b""))

    def _uncork(self, flags: int = 0) -> None:
        frames, self._corked = self._corked, None
        if frames:
            self._stalled()
            if self._perishes and not (frames := _fresh(frames)):
                return
            self._put(frames, frames[0] if len(frames) == 1 else b"".join(frames), flags)

    def _write(self, frame: bytes) -> None:
        if self._corked is not None:
            self._corked.append(frame)
        else:
            self._put([frame], frame)

    def _put(self, frames: list[bytes], data: bytes, flags: int = 0) -> None:
        """Send frames in one write. What the kernel does not take waits, each frame by itself:
        a close has to be able to drop those that are not begun. `data`: all of them joined."""
        if self._outbox is None:
            sent = self._send(data, flags)
            if sent == len(data):
                return
            frames = self._begin(frames, sent)
        assert self._outbox is not None
        self._outbox.extend(frames)
        self._queued += sum(map(len, frames))
        if self._queued > OUTBOX_BYTES and self._open:
            self.close(CloseCode.SLOW_CONSUMER)

    def _send(self, data: bytes, flags: int) -> int:
        """How much the kernel took. A peer that is gone takes everything."""
        if self._sock.fileno() < 0:
            return len(data)
        try:
            return self._sock.send(data, flags)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError:
            # Later, not here: the caller may be walking over the members of a room.
            self._loop.call_soon(self._on_peer_lost)
            return len(data)

    def _begin(self, frames: list[bytes], sent: int) -> list[bytes]:
        """Start an outbox, and give what is left of `frames` after so many bytes."""
        self._outbox, self._queued = deque(), 0
        self._loop.add_writer(self._fd, self._on_writable)
        done = 0
        while sent >= len(frames[done]):
            sent -= len(frames[done])
            done += 1
        self._begun = sent > 0
        rest = frames[done][sent:] if sent else frames[done]
        return [rest, *frames[done + 1 :]]

    def _on_writable(self) -> None:
        if self._stalled() and self._held:
            return
        outbox = self._outbox
        while outbox:
            frame = outbox[0]
            if self._perishes and (fresh := _fresh([frame])) != [frame]:
                self._queued -= len(frame)
                outbox.popleft()
                outbox.extendleft(fresh)
                self._queued += sum(map(len, fresh))
                continue
            try:
                sent = self._sock.send(frame)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                self._on_peer_lost()
                return
            self._queued -= sent
            if sent < len(frame):
                outbox[0], self._begun = frame[sent:], True
                return
            outbox.popleft()
            self._begun = False
        self._outbox = None
        self._loop.remove_writer(self._fd)
        if self._ending:
            self._end_sending()

    def _drop_waiting(self) -> None:
        """Forget frames not yet begun; the rest of a begun one has to go, or the next breaks."""
        if self._opening:
            self._corked = []
        if self._outbox is not None:
            begun = [self._outbox[0]] if self._begun else []
            self._outbox = deque(begun)
            self._queued = sum(map(len, begun))

    def _hold_writes(self) -> None:
        """Keep in the outbox whatever is sent from now on."""
        if self._outbox is None:
            self._outbox, self._queued, self._begun = deque(), 0, False
        else:
            self._loop.remove_writer(self._fd)

    def _release_writes(self) -> None:
        """Send again, what waited first."""
        if not self._outbox:
            self._outbox = None
        else:
            self._loop.add_writer(self._fd, self._on_writable)


def _fresh(frames: list[bytes]) -> list[bytes]:
    """Frames that may leave now."""
    now = (frame.now() if isinstance(frame, Perishable) else frame for frame in frames)
    return [frame for frame in now if frame]
