"""The port to the bus between nodes: a message to a room reaches every node with a member.

There are two kinds of message. A *logged* message is appended to the room's log, gets an
increasing id, and is delivered everywhere in the order of the log; nodes that missed it can read it
again. An *ephemeral* message (typing, presence) reaches only current subscribers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Collection, Sequence
from typing import Protocol

import msgspec

MAX_DIGITS = 19
"""The maximum of each half of an id: Redis stores 64 bits."""
MAX_NUMBER = 10**MAX_DIGITS - 1
LARGE_BYTES = 1024
"""Messages above this count for the bytes of their sender. The number of the others limits them."""
SENDER_BYTES = 1024 * 1024
"""What a room's log keeps of one sender's large messages, unless the settings say otherwise."""


class LoggedMessage(msgspec.Struct, frozen=True):
    """A message of a room's log. `id`: milliseconds since the epoch, a hyphen and a number."""

    id: str
    body: bytes

    @property
    def order(self) -> tuple[int, int]:
        """The id as a sort key: as text, "9-0" would sort after "10-0"."""
        return id_order(self.id)


class Window(msgspec.Struct, frozen=True):
    """A part of a room's log, oldest first.

    Attributes:
        complete: no message between `after` and the first of `messages` has been removed.
        more: the log has messages after the last of `messages`.
        now: `read_behind` only: when the log was read, epoch seconds by the clock used for ids.
        epoch: `read_behind` only: see `Bus.epoch`.
        known: `read_behind` only: the log still has the message `after`.
        in_time: `read_behind` only: the ids contain the time of sending. False if the clock of
            Redis was set back: nodes then continue from the latest time that they know, and new
            nodes do not know it.
    """

    messages: Sequence[LoggedMessage]
    complete: bool
    more: bool = False
    now: float = 0.0
    epoch: str = ""
    known: bool = False
    in_time: bool = True


class BusListener(Protocol):
    """Receives messages. Its methods are called on the event loop and must not block."""

    def logged(self, room: str, message: LoggedMessage) -> None:
        """A logged message, in the order of its room's log; may be delivered twice after a gap."""

    def ephemeral(self, room: str, body: bytes) -> None:
        """An ephemeral message."""

    def gap(self, room: str) -> None:
        """Messages of the room may have been missed. Logged ones can be read from the log."""


class Bus(Protocol):
    """Carries messages of rooms between nodes."""

    def listen(self, listener: BusListener) -> None:
        """Set the listener; there is exactly one."""

    def subscribe(self, room: str) -> asyncio.Future[None] | None:
        """Subscribe to a room. The command is issued when this is called.

        Returns:
            None if the room is already subscribed, else a future that is done when the
            subscription is confirmed.
        """

    def unsubscribe(self, room: str) -> None:
        """Unsubscribe from a room."""

    @property
    def keeps_order(self) -> bool:
        """Whether messages are logged in the order of the calls of `keep`, even if a call is
        issued before the reply to the previous one."""

    @property
    def epoch(self) -> str:
        """A value stored with the logs. If it changes, all logs were lost and started again. Empty
        while it is not known."""

    @property
    def in_time(self) -> bool:
        """Whether every new id is larger than all earlier ones, on every node."""

    def keep(self, room: str, body: bytes, sender: str = "") -> Awaitable[str]:
        """Append a message to the room's log and send it to every node. Issued when called.

        Args:
            sender: the sender's id. If the log is full and more than half of it is this sender's,
                the sender's oldest message is removed, so that one sender cannot displace the
                messages of the others.

        Returns:
            An awaitable of the message's id. While the backend is nearly full, a message with a
            sender replaces the sender's oldest ones in the room. Where these are too few, it is
            sent, and only counted in the log: windows with it are not complete.

        Raises:
            StoreUnavailable: when awaited; the message may or may not have been appended.
        """

    def send(self, room: str, body: bytes) -> Awaitable[object]:
        """Send an ephemeral message. Issued when called; failures are raised when awaited.

        Raises:
            StoreUnavailable: when awaited.
        """

    async def read(self, room: str, after: str | None, limit: int, since: float = 0.0) -> Window:
        """Read the room's log after the id `after`, or from its beginning.

        Args:
            since: epoch seconds; older messages are skipped, and make the window incomplete.

        Raises:
            StoreUnavailable: the log cannot be read.
        """

    async def read_behind(self, room: str, after: str, limit: int) -> Window:
        """Read the log after an id, which need not be in the log any more; see `Window.known`.

        Raises:
            StoreUnavailable: the log cannot be read.
        """

    async def touch(self, room: str) -> None:
        """Check that the room's log accepts writes, without sending a message.

        Raises:
            StoreUnavailable: no message could be sent to the room now.
        """

    def forget(self, room: str, senders: Collection[str]) -> None:
        """Remove the log of a room that is gone, and what is stored about these senders in it.
        Does not wait. Without the backend the log stays until it expires."""

    def forget_old(self) -> None:
        """Remove expired logs if the backend does not do so itself. Call it periodically."""

    async def close(self) -> None:
        """Close all subscriptions."""


def id_order(message_id: str) -> tuple[int, int]:
    """The sort key of a message id; (0, 0) if the text is not a message id."""
    milliseconds, _, number = message_id.partition("-")
    digits = milliseconds + number
    if not (milliseconds and number and digits.isascii() and digits.isdecimal()):
        return 0, 0
    if max(len(milliseconds), len(number)) > MAX_DIGITS:
        return 0, 0
    return int(milliseconds), int(number)
