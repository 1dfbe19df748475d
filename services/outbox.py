"""Events for other systems, written in the transaction of the change.

Services that change something receive an Outbox. services/webhooks/ has the implementation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec
import peewee

from services.claims import Role

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


RightWord = Literal["read", "write", "manage"]
Changed = Literal["name", "role", "email", "disabled"]
ChannelChange = Literal[
    "created", "updated", "deleted", "member_set", "member_removed", "member_left"
]


class UserEvent(msgspec.Struct, frozen=True):
    """An account as it is now, or was before it was deleted, without its e-mail address.

    Attributes:
        changed: what has changed, only in `user.changed`; `disabled` if it was enabled again.
    """

    id: str
    name: str
    role: Role
    disabled: bool
    changed: Changed | msgspec.UnsetType = msgspec.UNSET


class SessionOpenedEvent(msgspec.Struct, frozen=True):
    """A sign-in. `method`: "password", or "oauth:" and a provider. `expires_at`: epoch seconds."""

    user_id: str
    session_id: str
    method: str
    expires_at: float


class SessionEndedEvent(msgspec.Struct, frozen=True):
    """The end of a login session, or of all sessions of a user.

    Attributes:
        session_id: the session; None if all sessions ended.
        but: if all sessions ended, the one that continues, or None.
        reason: the reason, a fixed word.
    """

    user_id: str
    session_id: str | None
    all: bool
    but: str | None
    reason: str


class SocketJoinedEvent(msgspec.Struct, frozen=True):
    """A socket that has joined.

    Attributes:
        session_id: the login session.
        socket_id: the `session_id` of the socket's `joined`.
        at: epoch seconds.
    """

    user_id: str
    session_id: str
    socket_id: str
    at: float


class SocketLeftEvent(SocketJoinedEvent, frozen=True):
    """A socket that has joined and is closed. `code`: the close code."""

    code: int


class EventMember(msgspec.Struct, frozen=True):
    """A member of a channel; `right`: the right that was granted, if any."""

    id: str
    right: RightWord | msgspec.UnsetType = msgspec.UNSET


class ChannelEvent(msgspec.Struct, frozen=True):
    """A channel as it is now, or was before it was deleted.

    Attributes:
        owner_id: None once the owner's account is gone.
        change: what has happened.
        member: the affected member, if there is one.
    """

    id: str
    name: str
    private: bool
    owner_id: str | None
    change: ChannelChange
    member: EventMember | msgspec.UnsetType = msgspec.UNSET


EventData = (
    UserEvent
    | SessionOpenedEvent
    | SessionEndedEvent
    | SocketJoinedEvent
    | SocketLeftEvent
    | ChannelEvent
)
EVENT_DATA: dict[EventType, type[msgspec.Struct]] = {
    "user.created": UserEvent,
    "user.changed": UserEvent,
    "user.disabled": UserEvent,
    "user.deleted": UserEvent,
    "session.opened": SessionOpenedEvent,
    "session.ended": SessionEndedEvent,
    "socket.joined": SocketJoinedEvent,
    "socket.left": SocketLeftEvent,
    "channel.changed": ChannelEvent,
}
"""The data of an event."""


class OutgoingEvent(msgspec.Struct, frozen=True, gc=False):
    """One event.

    Attributes:
        type: what happened.
        subject: the user or channel concerned; events of one subject are delivered in order.
        data: encoded as JSON: ids, names and fixed words, no e-mail address, no secret.
    """

    type: EventType
    subject: str
    data: EventData


class Outbox(Protocol):
    """The interface for writing events."""

    def add(self, db: peewee.Database, events: Sequence[OutgoingEvent]) -> None:
        """Write events in the caller's transaction, if there is a webhook for them."""


class NoOutbox(msgspec.Struct, frozen=True):
    """Writes nothing, for services that are used without webhooks."""

    def add(self, db: peewee.Database, events: Sequence[OutgoingEvent]) -> None:
        """Do nothing."""


NO_OUTBOX = NoOutbox()


def user_subject(user_id: str) -> str:
    """The subject of events about a user, their login sessions and sockets."""
    return f"user:{user_id}"


def channel_subject(channel_id: str) -> str:
    """The subject of events about a channel."""
    return f"channel:{channel_id}"
