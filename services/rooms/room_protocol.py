"""The events of rooms: requests, replies, and notifications to members."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from services.rooms.presence import PresenceChange
from services.sockets.session_watch import SessionsChanged
from services.websocket.protocol import Author, Member, Refusal, ServerEvent, encode_event

MAX_ROOM_NAME = 128
MAX_HISTORY_ROOMS = 250
"""Rooms in one `history`. Their names and ids fit into a frame, and so do replies without
messages."""
RoomName = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ROOM_NAME)]
ModelName = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
MessageId = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]


def null() -> msgspec.Raw:
    """The default of `data`. It is a function because a JSON schema cannot hold raw JSON."""
    return msgspec.Raw(b"null")


class InRoom(msgspec.Struct):
    """`room`: `user:{id}` (the user's own) or `channel:{id}`."""

    room: RoomName


class Say(msgspec.Struct):
    """`data`: any JSON value; it is forwarded unchanged."""

    room: RoomName
    data: msgspec.Raw


class UseModel(msgspec.Struct):
    """`model`: one of the registered ones, or any name while none is registered."""

    model: ModelName


class AskRoom(msgspec.Struct):
    """`after`: the id of the last message known to the client; without it, the whole history."""

    room: RoomName
    after: MessageId | None = None


class AskHistory(msgspec.Struct):
    """One `room`, with `after` as in each of `rooms`; or `rooms`, of which as many are answered as
    fit into one frame."""

    room: RoomName | msgspec.UnsetType = msgspec.UNSET
    after: MessageId | None = None
    rooms: (
        Annotated[list[AskRoom], msgspec.Meta(min_length=1, max_length=MAX_HISTORY_ROOMS)]
        | msgspec.UnsetType
    ) = msgspec.UNSET


class RoomList(msgspec.Struct, frozen=True):
    rooms: list[str]


class OneRoom(msgspec.Struct, frozen=True):
    room: str


class Said(msgspec.Struct, frozen=True):
    """`id`: the message's id; ids increase within a room."""

    id: str


class People(msgspec.Struct, frozen=True):
    """`total`: number of users in the room; `users` has only a part of very many."""

    users: list[Member]
    total: int


class WatchesSessions(msgspec.Struct, frozen=True):
    """The reply `{}` to `watch-sessions`."""


class ModelsInUse(msgspec.Struct, frozen=True):
    """`models`: as many as fit into a frame, and always the one that was named."""

    models: list[str]


class Message(msgspec.Struct, frozen=True, rename={"sender": "from"}):
    """`sent_at`: epoch seconds."""

    id: str
    room: str
    sender: Author
    data: Any
    sent_at: float


class RoomHistory(msgspec.Struct, frozen=True, omit_defaults=True):
    """The history of one room, as in `History`; or `error`, if it may not be read."""

    room: str
    messages: list[msgspec.Raw] | msgspec.UnsetType = msgspec.UNSET
    complete: bool | msgspec.UnsetType = msgspec.UNSET
    more: bool | msgspec.UnsetType = msgspec.UNSET
    error: Refusal | msgspec.UnsetType = msgspec.UNSET


class History(msgspec.Struct, frozen=True, omit_defaults=True):
    """`complete`: no message that the user may read is missing between `after` and the first
    message. `more`: ask again, after the last one. `rooms`: instead, where several were asked for,
    in their order; ask again for those that are not among them."""

    messages: list[msgspec.Raw] | msgspec.UnsetType = msgspec.UNSET
    complete: bool | msgspec.UnsetType = msgspec.UNSET
    more: bool | msgspec.UnsetType = msgspec.UNSET
    rooms: list[RoomHistory] | msgspec.UnsetType = msgspec.UNSET


class Typing(msgspec.Struct, frozen=True, rename={"sender": "from"}):
    room: str
    sender: Member


class _Body(msgspec.Struct, frozen=True, rename={"sender": "from"}):
    room: str
    sender: Member
    data: msgspec.Raw
    sent_at: float


_encode = msgspec.json.Encoder().encode
KEPT = b'"event":'


def message_body(room: str, sender: Member, data: msgspec.Raw, sent_at: float) -> bytes:
    """The JSON members of a message without its id, which the room's log assigns. It has no opening
    brace."""
    return _encode(_Body(room, sender, data, sent_at))[1:]


def message_with_id(message_id: str, body: bytes) -> bytes:
    """The JSON of a message with its id."""
    return b'{"id":"%b",%b' % (message_id.encode(), body)


def message_event(message_id: str, body: bytes) -> bytes:
    """The text of the event of a logged message: `message`, or the event a backend published."""
    if body.startswith(KEPT):
        return message_with_id(message_id, body)
    return b'{"event":"message","data":%b}' % message_with_id(message_id, body)


def kept_body(event: str, room: str, data: msgspec.Raw, sent_at: float) -> bytes:
    """The log entry of an event that a backend published with history. Its first member
    distinguishes it from a message, whose first member is `room`."""
    parts = KEPT, _encode(event), _encode(room), bytes(data), _encode(sent_at)
    return b'%b%b,"room":%b,"data":%b,"sent_at":%b}' % parts


def gap_event(room: str) -> bytes:
    """The text of the event `gap`."""
    return encode_event("gap", OneRoom(room))


ROOM_SERVER_EVENTS: dict[str, ServerEvent] = {
    "message": ServerEvent(
        Message, "A message in a room that the socket is in, including the user's own."
    ),
    "typing": ServerEvent(Typing, "Another socket is typing in a room."),
    "presence": ServerEvent(PresenceChange, "Users entered or left a room."),
    "gap": ServerEvent(
        OneRoom, "Messages of a room may be lost that are not in `history`: reload the room."
    ),
    "access-changed": ServerEvent(
        RoomList, "The user's rights have changed; `rooms` are those that the socket is in now."
    ),
    "sessions-changed": ServerEvent(
        SessionsChanged,
        "Sockets of the user have opened or closed; only after `watch-sessions`.",
    ),
}


def models_that_fit(models: list[str], own: str, size: int) -> list[str]:
    """As many of these models as take at most so many bytes of JSON, with `own` among them."""
    fit: list[str] = []
    for model in (own, *(other for other in models if other != own)):
        size -= len(_encode(model)) + 1
        if size < 0:
            break
        fit.append(model)
    return sorted(fit)


def raw(text: bytes) -> msgspec.Raw:
    """JSON that is forwarded unchanged."""
    return msgspec.Raw(text)


def published(event: str, room: str, data: msgspec.Raw) -> bytes:
    """The text of an event that a backend publishes: as given, with the room added."""
    parts = _encode(event), _encode(room), bytes(data)
    return b'{"event":%b,"room":%b,"data":%b}' % parts
