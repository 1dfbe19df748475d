"""The server's events as types. Each is parsed from untrusted JSON."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from usher_client.wire import number


@dataclass(frozen=True)
class User:
    """A user. `role` is only known for the signed-in user."""

    id: str
    name: str
    role: str | None = None


@dataclass(frozen=True)
class Session:
    """A joined socket. `expires_at`: the expiry of its token, epoch seconds by the server's
    clock."""

    session_id: str
    user: User
    rooms: tuple[str, ...]
    expires_at: float


@dataclass(frozen=True)
class Message:
    """A message of a user, or an event that a backend published.

    Args:
        event: `message`, or the name given by a backend.
        sender: the user who sent it; None if a backend published it.
        published: whether a backend published it.
        id, sent_at: None if it is not in the room's history.
        after_gap: whether messages before this one were missed and are no longer in the history.
    """

    room: str
    event: str
    data: Any
    sender: User | None = None
    id: str | None = None
    sent_at: float | None = None
    published: bool = False
    after_gap: bool = False


@dataclass(frozen=True)
class Typing:
    """A user is typing. There is no event when they stop."""

    room: str
    sender: User


@dataclass(frozen=True)
class Presence:
    """The users who joined or left a room since the last event."""

    room: str
    joined: tuple[User, ...]
    left: tuple[User, ...]


@dataclass(frozen=True)
class Gap:
    """Messages of a room were missed and are no longer in the history: reload the room."""

    room: str


Event = Message | Typing | Presence | Gap


@dataclass(frozen=True)
class History:
    """Messages of a room, oldest first.

    Args:
        complete: no message between `after` and the first one is missing.
        more: there are further messages after the last one.
    """

    messages: tuple[Message, ...]
    complete: bool
    more: bool


@dataclass(frozen=True)
class People:
    """The users in a room. `total`: their number; `users` has at most 1,000."""

    users: tuple[User, ...]
    total: int


def user(value: object) -> User | None:
    """Parse a user; None if it is invalid."""
    if not isinstance(value, dict) or not isinstance(value.get("id"), str):
        return None
    name, role = value.get("name"), value.get("role")
    return User(
        value["id"],
        name if isinstance(name, str) else "",
        role if isinstance(role, str) else None,
    )


def users(value: object) -> tuple[User, ...]:
    """Parse a list of users, without invalid entries."""
    found = (user(one) for one in value) if isinstance(value, list) else ()
    return tuple(one for one in found if one is not None)


def names(value: object) -> tuple[str, ...]:
    """Names of rooms."""
    return tuple(texts(value)) if isinstance(value, list) else ()


def texts(values: Iterable[object]) -> Iterable[str]:
    return (value for value in values if isinstance(value, str))


def session(data: object) -> Session | None:
    """The session of a `joined` event; None if it is invalid."""
    if not isinstance(data, dict):
        return None
    me, expires_at = user(data.get("user")), number(data.get("expires_at"))
    if me is None or expires_at is None or not isinstance(data.get("session_id"), str):
        return None
    return Session(data["session_id"], me, names(data.get("rooms")), expires_at)


def message(frame: dict[str, Any]) -> Message | None:
    """A live message or published event; None for another event.

    An event of a backend is recognised by its `room` next to `data`, whatever its data contains.
    """
    if isinstance(room := frame.get("room"), str):
        return _published(room, frame)
    if frame["event"] != "message":
        return None
    return entry(frame.get("data"))


def _published(room: str, frame: dict[str, Any]) -> Message:
    found, sent_at = frame.get("id"), number(frame.get("sent_at"))
    name = found if isinstance(found, str) else None
    return Message(room, frame["event"], frame.get("data"), None, name, sent_at, published=True)


def entry(value: object) -> Message | None:
    """An entry of a room's history."""
    if not isinstance(value, dict) or not isinstance(room := value.get("room"), str):
        return None
    if isinstance(value.get("event"), str):
        return _published(room, value)
    found = value.get("id")
    if not isinstance(found, str):
        return None
    sender, sent_at = user(value.get("from")), number(value.get("sent_at"))
    return Message(room, "message", value.get("data"), sender, found, sent_at)


def history(value: object) -> History:
    """A reply to `history`."""
    if not isinstance(value, dict):
        return History((), complete=False, more=False)
    listed = value.get("messages")
    found = (entry(one) for one in listed) if isinstance(listed, list) else ()
    kept = tuple(one for one in found if one is not None)
    return History(kept, value.get("complete") is True, value.get("more") is True)


def room_event(frame: dict[str, Any]) -> Event | None:
    """An event of a room; None for another."""
    if (said := message(frame)) is not None:
        return said
    data = frame.get("data")
    if not isinstance(data, dict) or not isinstance(room := data.get("room"), str):
        return None
    if frame["event"] == "gap":
        return Gap(room)
    if frame["event"] == "presence":
        return Presence(room, users(data.get("joined")), users(data.get("left")))
    if frame["event"] == "typing" and (sender := user(data.get("from"))) is not None:
        return Typing(room, sender)
    return None
