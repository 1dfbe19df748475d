"""The port to the bus between nodes: a message to a room reaches every node with a member.

There are two kinds of message. A *logged* message is appended to the room's log, gets an
increasing id, and is delivered everywhere in the order of the log; nodes that missed it can read it
again. An *ephemeral* message (typing, presence) reaches only current subscribers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Protocol

import msgspec

MAX_DIGITS = 19
"""Of each half of an id: what Redis can hold in 64 bits."""
MAX_NUMBER = 10**MAX_DIGITS - 1


class LoggedMessage(msgspec.Struct, frozen=True):
    """A message of a room's log. `id`: milliseconds since the epoch, a hyphen and a number."""

    id: str
    body: bytes

    @property
    def order(self) -> tuple[int, int]:
        """To compare ids with: as text, "9-0" would come after "10-0"."""
        return id_order(self.id)


class Window(msgspec.Struct, frozen=True):
    """A part of a room's log, oldest first.

    Attributes:
        complete: nothing between `after` and the first of `messages` has been forgotten.
        more: the log goes on behind the last of `messages`.
        now: of `read_behind`: when it was read, epoch seconds by the clock that ids are made of.
        epoch: of `read_behind`: see `Bus.epoch`.
        known: of `read_behind`: the log has the message `after` itself.
        in_time: of `read_behind`: ids tell when their messages were said. False where Redis' clock
            has gone back: each node goes on from what it knows, and one that is new does not.
    """

    messages: Sequence[LoggedMessage]
    complete: bool
    more: bool = False
    now: float = 0.0
    epoch: str = ""
    known: bool = False
    in_time: bool = True


class BusListener(Protocol):
    """Receives messages. Called within the loop; must not wait."""

    def logged(self, room: str, message: LoggedMessage) -> None:
        """A logged message, in the order of its room's log; may be delivered twice after a gap."""

    def ephemeral(self, room: str, body: bytes) -> None:
        """An ephemeral message."""

    def gap(self, room: str) -> None:
        """Messages of the room may have been missed: the log knows those that were kept."""


class Bus(Protocol):
    """Carries messages of rooms between nodes."""

    def listen(self, listener: BusListener) -> None:
        """Tell this listener; there is one."""

    def subscribe(self, room: str) -> asyncio.Future[None] | None:
        """Subscribe to a room. Issued when called; None if it is subscribed already, else a
        future that is done when the subscription is confirmed."""

    def unsubscribe(self, room: str) -> None:
        """Unsubscribe from a room."""

    @property
    def keeps_order(self) -> bool:
        """Whether a room's log has the order of the calls of `keep`, also of those that were
        issued before the last was answered."""

    @property
    def epoch(self) -> str:
        """What goes with the logs: another one means that all began anew. Empty while it is not
        known."""

    @property
    def in_time(self) -> bool:
        """Whether every new id is larger than those before, whoever gives it."""

    def keep(self, room: str, body: bytes, sender: str = "") -> Awaitable[str]:
        """Append to the room's log and send to every node. Issued when called; gives the id.

        Args:
            sender: who says it. In a log that is full, a sender that has more than half of it loses
                their own oldest message for the new one: nobody empties it for the others.

        Raises:
            StoreUnavailable: when awaited: it may or may not have been appended.
        """

    def send(self, room: str, body: bytes) -> Awaitable[object]:
        """Send an ephemeral message. Issued when called; raises a failure when awaited.

        Raises:
            StoreUnavailable: when awaited.
        """

    async def read(self, room: str, after: str | None, limit: int, since: float = 0.0) -> Window:
        """The room's log behind `after`, or from its beginning.

        Args:
            since: epoch seconds; what was said before is passed over, and makes the window
                incomplete.

        Raises:
            StoreUnavailable: the log can't be read.
        """

    async def read_behind(self, room: str, after: str, limit: int) -> Window:
        """The log behind an id, whether or not that id is in it: `complete` says that.

        Raises:
            StoreUnavailable: the log can't be read.
        """

    async def touch(self, room: str) -> None:
        """Write beside the room's log, and say nothing.

        Raises:
            StoreUnavailable: nobody could say anything in the room now.
        """

    def forget_old(self) -> None:
        """Drop logs that are too old, where nobody else does. To be called now and then."""

    async def close(self) -> None:
        """Close all subscriptions."""


def id_order(message_id: str) -> tuple[int, int]:
    """The order of an id; (0, 0) for what is none."""
    milliseconds, _, number = message_id.partition("-")
    digits = milliseconds + number
    if not (milliseconds and number and digits.isascii() and digits.isdecimal()):
        return 0, 0
    if max(len(milliseconds), len(number)) > MAX_DIGITS:
        return 0, 0
    return int(milliseconds), int(number)
