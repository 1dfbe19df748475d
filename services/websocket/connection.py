"""The port to one WebSocket after its handshake, and what both of its forms keep to.

`direct_connection.py` implements it on a raw socket, `handlers/websocket/tornado_connection.py`
through Tornado, as TLS and compression require.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from services.websocket.first_frames import FirstFrames
from services.websocket.frames import LIGHT_FRAMES, Perishable
from services.websocket.protocol import CloseCode

READ_BYTES = 64 * 1024
FIRST_READ_BYTES = 4 * 1024
"""Until a peer has filled it once: to read a few bytes into 64 KiB costs twice as much."""
OUTBOX_BYTES = 256 * 1024
"""What may wait for one slow reader: four of the largest messages, beside the kernel's buffer."""
CLOSE_HANDSHAKE_SECONDS = 1.0
"""How long a peer may take to answer our close frame (RFC 6455 section 7.1.1)."""
ABNORMAL_CLOSURE = 1006
READ_AWAY_BYTES = 16 * 1024 * 1024
"""What a peer may still send after the end. It is read away, because closing TCP with unread bytes
resets the connection, and the close frame may be lost."""
READ_AWAY_SECONDS = 0.02
"""Who sends more than that is read this slowly: one read, then a pause."""
LIGHT_RATE, LIGHT_BURST = 50.0, float(LIGHT_FRAMES)
"""Pings, pongs and tiny fragments of one peer, a second and at once. Above it nothing is read for a
while, then again. A peer that continues for long is closed with 4429."""


class ConnectionOwner(Protocol):
    """Receives what a connection reads."""

    def received(self, message: bytes, is_text: bool) -> None:
        """A whole message came in."""

    def closed(self, code: int) -> None:
        """The connection is closed. Called once. `code`: RFC 6455 7.1.5."""


class Connection(Protocol):
    """A WebSocket after its handshake, in whichever form: this one, or through Tornado."""

    last_heard: float
    """When the peer last said anything, seconds by the loop's clock."""

    @property
    def is_open(self) -> bool:
        """Whether anything may still go in or out."""

    def open(
        self, head: bytes, first_frames: FirstFrames, leading: bytes = b"", at_once: bool = False
    ) -> None:
        """Answer the handshake with `head`, and begin a moment later, or `at_once`."""

    def gather(self) -> None:
        """Let what is sent from now on leave a little later, in one write."""

    def limit(self, max_message: int) -> None:
        """Allow messages of so many bytes from now on."""

    def pause(self) -> None:
        """Deliver nothing until `resume()`."""

    def resume(self) -> None:
        """Resume delivery, beginning with data that was already read."""

    def rest(self) -> None:
        """Deliver nothing for a while, because the peer exceeded its message rate."""

    def hold(self) -> None:
        """Deliver nothing and send nothing until `release()`, except the close."""

    def release(self) -> None:
        """Resume delivery and sending, beginning with what waited."""

    def send(self, text: bytes) -> None:
        """Send a text message."""

    def send_frame(self, frame: bytes) -> None:
        """Send a frame that is already built."""

    def send_frames(self, frames: list[bytes], joined: bytes) -> None:
        """Send frames that are already built. `joined`: the same in one piece."""

    def send_perishable(self, frame: Perishable) -> None:
        """Send a frame that may not leave any more from a moment on. Where it waits until then, as
        for a slow reader, it is dropped or replaced."""

    def ping(self) -> None:
        """Ask the peer for a sign of life."""

    def close(self, code: CloseCode, after: float | None = None) -> None:
        """Say `closing`, send a close frame and let nothing else in or out."""

    def end_flood(self) -> None:
        """Close a peer that stays above its message rate (4429)."""

    def abort(self) -> None:
        """Drop a peer that does not answer, without a closing handshake."""

    def when_gone(self, act: Callable[[], None]) -> None:
        """Call `act` once the connection uses no file descriptor any more: a closed one does until
        its closing handshake is over. Of several calls the last one counts."""
