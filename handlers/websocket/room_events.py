"""The events of rooms that a joined socket may send.

Each event is checked against the socket's own identity and current rights. Nothing in a message
can claim another identity.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import msgspec

from handlers.websocket.context import ClientEvent, client_event
from handlers.websocket.room_rights import (
    answer_from,
    current_grants,
    granted_among,
    granted_in,
    granted_now,
    look_up,
    refusal_of,
    wait_as_user,
)
from handlers.websocket.socket import ClientSocket
from services.bus.bus import Window
from services.errors import BadRequest, Forbidden, RateLimited, StepUpNeeded, Unavailable
from services.grants.rules import Grant, Right
from services.rooms import room_protocol as rooms
from services.rooms.presence import PEOPLE_BYTES, as_fit
from services.rooms.room_names import CHANNEL
from services.websocket.protocol import Frame, Member, Refusal, encode_event

MAX_PEOPLE = 1000
"""Named in one answer: more would not fit into what may wait for one reader."""
HISTORY_PAGE = 100
HISTORY_BYTES = 63 * 1024
"""Of messages: with the rest of the frame that is 64 KiB, the read limit of many clients. One
message alone may be longer than the rest."""
ROOM_PAGE, ROOMS_AT_ONCE = 20, 25
"""Messages of each room at least, and rooms read in one go, where several are asked for."""
AROUND_A_ROOM = 80
"""Bytes of JSON around the messages of one room."""


def _member_of(socket: ClientSocket) -> Member:
    return Member(socket.session.user_id, socket.session.name)


async def join_channels(socket: ClientSocket, frame: Frame, _: object) -> None:
    """Look up the user's rights again, and leave and enter rooms to match."""
    grants = await current_grants(socket)
    await socket.membership.match(grants)
    socket.answer(frame, rooms.RoomList(socket.membership.names()))


async def join(socket: ClientSocket, frame: Frame, data: rooms.InRoom) -> None:
    """Join a room."""
    await look_up(socket, data.room)
    granted_in(socket, data.room, Right.READ)
    await socket.membership.enter_subscribed((data.room,))
    granted_in(socket, data.room, Right.READ)
    socket.answer(frame, rooms.OneRoom(data.room))


def leave(socket: ClientSocket, frame: Frame, data: rooms.InRoom) -> None:
    """Leave a room, which stops its notifications."""
    if not socket.membership.leave(data.room) and socket.membership.grant_in(data.room) is None:
        raise Forbidden("no right to read in the room")
    socket.answer(frame, rooms.OneRoom(data.room))


def message(socket: ClientSocket, frame: Frame, data: rooms.Say) -> Awaitable[None]:
    """Send a message to all members of a room, including the sender.

    The right is checked and the message is issued in the loop iteration that read it. Only the
    reply waits for Redis, so several messages of one socket may overlap.
    """
    granted_in(socket, data.room, Right.WRITE)
    context = socket.context
    body = rooms.message_body(data.room, _member_of(socket), data.data, context.clock())
    kept = context.services.bus.keep(data.room, body, socket.session.user_id)
    return _reply_with_id(socket, frame, kept)


async def _reply_with_id(socket: ClientSocket, frame: Frame, message_id: Awaitable[str]) -> None:
    socket.answer(frame, rooms.Said(await message_id))


def typing(socket: ClientSocket, frame: Frame, data: rooms.InRoom) -> None:
    """Notify the other members of a room that the user is typing."""
    granted_in(socket, data.room, Right.WRITE)
    event = encode_event("typing", rooms.Typing(data.room, _member_of(socket)))
    socket.context.rooms.send_frame(data.room, event, but=socket.session_id)
    socket.answer(frame, rooms.OneRoom(data.room))


async def presence(socket: ClientSocket, frame: Frame, data: rooms.InRoom) -> None:
    """Reply with the users in a room, on all nodes."""
    grant = granted_in(socket, data.room, Right.READ)
    users = await socket.context.services.presence.people(data.room)
    if not data.room.startswith(CHANNEL):
        users = [_member_of(socket)]
    named, _ = as_fit(users, MAX_PEOPLE, PEOPLE_BYTES - len(frame.id))
    answer_from(socket, frame, rooms.People(named, len(users)), grant.step_up)


def watch_sessions(socket: ClientSocket, frame: Frame, _: object) -> None:
    """Notify the socket from now on when other sockets of its user open and close."""
    socket.context.services.session_watch.watch(socket.session.user_id, socket)
    socket.answer(frame, rooms.WatchesSessions())


async def usage(socket: ClientSocket, frame: Frame, data: rooms.UseModel) -> None:
    """Record that the session uses a model. The use expires unless it is repeated."""
    context = socket.context
    wait_as_user(socket)
    if not await context.services.models.is_known(data.model):
        detail = "data.model: not one of the models that are registered"
        raise BadRequest("usage of a model that is not registered", detail=detail)
    session = socket.session
    in_use = await context.services.usage.use(data.model, session.session_id, session.user_id)
    size = PEOPLE_BYTES - len(frame.id)
    socket.answer(frame, rooms.ModelsInUse(rooms.models_that_fit(in_use, data.model, size)))


async def history(socket: ClientSocket, frame: Frame, data: rooms.AskHistory) -> None:
    """Reply with the messages of a room that the user has the right to read.

    The right is looked up now, not taken from the join, because its `since` decides which messages
    are shown.
    """
    if data.rooms is not msgspec.UNSET and data.room is msgspec.UNSET:
        await _history_of_many(socket, frame, data.rooms)
        return
    if data.room is msgspec.UNSET or data.rooms is not msgspec.UNSET:
        raise BadRequest("history: room or rooms", detail="data: either room or rooms is needed")
    grant = await granted_now(socket, data.room)
    bus = socket.context.services.bus
    read = await bus.read(data.room, data.after, HISTORY_PAGE, grant.since)
    window = await socket.context.services.authors.shown(read, set())
    texts, _ = _take_fitting(window, HISTORY_BYTES - len(frame.id), at_least_one=True)
    more = window.more or len(texts) < len(window.messages)
    answer = rooms.History(texts, window.complete, more)
    answer_from(socket, frame, answer, grant.step_up)


def _take_fitting(
    window: Window, size: int, *, at_least_one: bool
) -> tuple[list[msgspec.Raw], int]:
    """The first messages of a window that fit into a number of bytes, and the bytes left."""
    texts: list[msgspec.Raw] = []
    for kept in window.messages:
        text = rooms.message_with_id(kept.id, kept.body)
        if len(text) + 1 > size and not (at_least_one and not texts):
            break
        size -= len(text) + 1
        texts.append(rooms.raw(text))
    return texts, size


async def _history_of_many(socket: ClientSocket, frame: Frame, asked: list[rooms.AskRoom]) -> None:
    """The history of several rooms in one reply: as many as fit into a frame, at least one."""
    granted = await granted_among(socket, [each.room for each in asked])
    answers: list[rooms.RoomHistory] = []
    left = HISTORY_BYTES - len(frame.id)
    existing: set[str] = set()
    limit = max(ROOM_PAGE, HISTORY_PAGE // len(asked))  # few that were silent for long, far away
    for start in range(0, len(asked), ROOMS_AT_ONCE):
        some = asked[start : start + ROOMS_AT_ONCE]
        windows = await _read_many(socket, some, granted, limit, existing)
        for each, read in zip(some, windows, strict=True):
            # Checked again: rights may have been revoked while the logs were read.
            refusal = refusal_of(socket, each.room, granted)
            part, left = _part_of(each, refusal or read, left, first=not answers)
            if part is not None:
                answers.append(part)
            if left <= 0:
                break
        if left <= 0:
            break
    told = [answer.room for answer in answers if answer.error is msgspec.UNSET]
    needs_proof = any(granted[room].step_up for room in told)
    answer_from(socket, frame, rooms.History(rooms=answers), needs_proof)


def _part_of(
    asked: rooms.AskRoom,
    window: Window | type[Forbidden] | type[StepUpNeeded],
    left: int,
    *,
    first: bool,
) -> tuple[rooms.RoomHistory | None, int]:
    """The reply for one room, and the bytes that are left; 0 once the frame is full."""
    left -= AROUND_A_ROOM + len(asked.room.encode())
    if isinstance(window, type):
        error = Refusal(window.code, window.title)
        return rooms.RoomHistory(asked.room, error=error), left - len(window.title)
    texts, left = _take_fitting(window, left, at_least_one=first)
    if len(texts) < len(window.messages):
        part = rooms.RoomHistory(asked.room, texts, window.complete, more=True)
        return (part if texts else None), 0
    return rooms.RoomHistory(asked.room, texts, window.complete, window.more), left


async def _read_many(
    socket: ClientSocket,
    asked: list[rooms.AskRoom],
    granted: dict[str, Grant],
    limit: int,
    existing: set[str],
) -> list[Window | type[Forbidden]]:
    """The logs of several rooms, read concurrently, where there is the right to read."""
    bus, authors = socket.context.services.bus, socket.context.services.authors

    async def read(each: rooms.AskRoom) -> Window | type[Forbidden]:
        grant = granted.get(each.room)
        if grant is None:
            return Forbidden
        window = await bus.read(each.room, each.after, limit, grant.since)
        return await authors.shown(window, existing)

    return await asyncio.gather(*map(read, asked))


_ROOM_ERRORS = (BadRequest, Forbidden, StepUpNeeded)
_STORED_ERRORS = (*_ROOM_ERRORS, Unavailable)

ROOM_EVENTS: dict[str, ClientEvent] = {
    "join-channels": client_event(
        join_channels,
        Any,
        rooms.RoomList,
        "Look your rights up anew, and leave and enter rooms to match.",
        (Unavailable,),
    ),
    "join": client_event(join, rooms.InRoom, rooms.OneRoom, "Enter a room.", _ROOM_ERRORS),
    "leave": client_event(leave, rooms.InRoom, rooms.OneRoom, "Leave a room.", _ROOM_ERRORS),
    "message": client_event(
        message,
        rooms.Say,
        rooms.Said,
        "Say something to everybody in a room, yourself included.",
        _STORED_ERRORS,
        overlaps=True,
    ),
    "typing": client_event(
        typing,
        rooms.InRoom,
        rooms.OneRoom,
        "Let the others in a room know that you are typing.",
        _ROOM_ERRORS,
    ),
    "presence": client_event(
        presence, rooms.InRoom, rooms.People, "Who is in a room, on every node.", _STORED_ERRORS
    ),
    "watch-sessions": client_event(
        watch_sessions,
        Any,
        rooms.WatchesSessions,
        "Hear (`sessions-changed`) when sockets of yours open and close, on every node.",
        (),
    ),
    "usage": client_event(
        usage,
        rooms.UseModel,
        rooms.ModelsInUse,
        "Report that you are using a model, and get those in use. Repeat it within 3 s.",
        (BadRequest, RateLimited, Unavailable),
    ),
    "history": client_event(
        history,
        rooms.AskHistory,
        rooms.History,
        "What was said in a room while you may have been away, oldest first.",
        _STORED_ERRORS,
    ),
}
