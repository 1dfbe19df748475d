"""What other systems are told: events, written in the transaction of what they tell.

The parts that change something are handed an Outbox. services/webhooks/ has the real one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec
import peewee

EventType = Literal[
    "user.created",
    "user.changed",
    "user.disabled",
    "user.deleted",
    "session.opened",
    "session.ended",
    "socket.joined",
    "socket.left",
    "channel.changed",
]


class OutgoingEvent(msgspec.Struct, frozen=True, gc=False):
    """One event.

    Attributes:
        type: what happened.
        subject: whom or what it is about; events of one subject are delivered in order.
        data: told as JSON. Ids, names and stable words only: no e-mail address, no secret.
    """

    type: EventType
    subject: str
    data: object


class Outbox(Protocol):
    """Where events are written."""

    def add(self, db: peewee.Database, events: Sequence[OutgoingEvent]) -> None:
        """Write events, within the caller's transaction; where nobody wants them, nothing."""


class NoOutbox(msgspec.Struct, frozen=True):
    """Tells nobody: for parts that are used without webhooks."""

    def add(self, db: peewee.Database, events: Sequence[OutgoingEvent]) -> None:
        """Writes nothing."""


NO_OUTBOX = NoOutbox()


def user_subject(user_id: str) -> str:
    """The subject of events about a user, their login sessions and sockets."""
    return f"user:{user_id}"


def channel_subject(channel_id: str) -> str:
    """The subject of events about a channel."""
    return f"channel:{channel_id}"
