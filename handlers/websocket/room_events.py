"""The events of rooms that a joined socket may send.

Each event is checked against the socket's own identity and current rights. Nothing in a message
can claim another identity.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable
from typing import Any

import msgspec

from handlers.websocket.context import ClientEvent, client_event
from handlers.websocket.socket import ClientSocket
from services.bus.bus import Window
from services.errors import BadRequest, Forbidden, RateLimited, StepUpNeeded, Unavailable
from services.grants.rules import Grant, Right
from services.rooms import room_protocol as rooms
from services.rooms.presence import PEOPLE_BYTES, as_fit
from services.rooms.room_names import CHANNEL
from services.sessions.admission import REREADS
from services.websocket.protocol import Frame, Member, Refusal, encode_event

MAX_PEOPLE = 1000
"""Named in one answer: more would not fit into what may wait for one reader."""
_CHANNEL_ID = re.compile(r"[A-Za-z0-9_-]{22}", re.ASCII)
HISTORY_PAGE = 100
HISTORY_BYTES = 63 * 1024
"""Of messages: with the rest of the frame that is 64 KiB, the read limit of many clients. One
message alone may be longer than the rest."""
ROOM_PAGE, ROOMS_AT_ONCE = 20, 25
"""Messages of each room at least, and rooms read in one go, where several are asked for."""
AROUND_A_ROOM = 80
"""Bytes of JSON around the messages of one room."""


def _granted(socket: ClientSocket, room: str, right: Right) -> Grant:
    """The right in a room, and the proof that the room may need.

    Raises:
        Forbidden: it is not enough.
        StepUpNeeded: the proof of the socket's token has ended, by the clock of this moment.
    """
    grant = socket.membership.grant_in(room)
    if grant is None or grant.right < right:
        raise Forbidden(f"no right to {right.name.lower()} in the room")
    if grant.step_up and not socket.membership.is_proven():
        raise StepUpNeeded
    return grant


def _answer_from(socket: ClientSocket, frame: Frame, data: object, needs_proof: bool) -> None:
    """Reply with what was said or who is in rooms; never after the end of the proof it needs."""
    if not needs_proof:
        socket.answer(frame, data)
        return
    clock, ends_at = socket.context.rooms.proof_clock, socket.membership.proof_ends_at
    if clock() >= ends_at:
        raise StepUpNeeded
    socket.answer_while(frame, data, lambda: clock() >= ends_at)


def _member_of(socket: ClientSocket) -> Member:
    return Member(socket.session.user_id, socket.session.name)


def _wait_as_user(socket: ClientSocket) -> None:
    """Wait for the database in the name of the socket's user from now on. Otherwise all sockets
    would be one caller, and one user's would keep those of all others waiting."""
    callers = socket.context.services.infrastructure.database.callers
    callers.enter("users", socket.session.user_id)


async def join_channels(socket: ClientSocket, frame: Frame, _: object) -> None:
    """Look up the user's rights again, and leave and enter rooms to match."""
    grants = await _current_grants(socket)
    await socket.membership.match(grants)
    socket.answer(frame, rooms.RoomList(socket.membership.names()))


async def _current_grants(socket: ClientSocket) -> dict[str, Grant]:
    """The user's rights up to the limit, and those in rooms beyond it that the socket is in.

    All are read again if a right changes before the last is read: one that was revoked meanwhile
    may have been taken from the socket already, and must not be restored.
    """
    services, user_id = socket.context.services, socket.session.user_id
    _wait_as_user(socket)
    grants: dict[str, Grant] = {}
    for _ in range(REREADS):
        as_of, version = socket.context.clock(), services.shared_grants.version
        inside = socket.membership.channels()
        joined = services.shared_grants.joined_by(socket.session.role, inside)
        grants = await services.channels.grants_of(user_id, joined)
        # Rooms beyond the limit, which were joined by name, stay joined if still allowed.
        names = socket.membership.names()
        channels = [name.removeprefix(CHANNEL) for name in names if name.startswith(CHANNEL)]
        if beyond := [channel_id for channel_id in channels if channel_id not in grants]:
            grants |= await services.channels.grants_among(user_id, beyond)
        changed = services.revocations.changed_since(user_id, as_of)
        if not changed and version == services.shared_grants.version:
            break
    return grants


async def _look_up(socket: ClientSocket, room: str) -> None:
    """Look up the right in a room beyond the limit of rooms that are joined by themselves. So too
    before a room is refused for want of a proof: it may need none any more."""
    channel_id = room.removeprefix(CHANNEL)
    if channel_id == room or socket.membership.may_enter(room):
        return
    if _CHANNEL_ID.fullmatch(channel_id):
        found = await _looked_up(socket, [channel_id])
        await socket.membership.change(channel_id, found.get(channel_id), by_name=True)


async def _looked_up(socket: ClientSocket, channel_ids: list[str]) -> dict[str, Grant]:
    """The current rights in channels, read again if a right changes during the read."""
    services, user_id = socket.context.services, socket.session.user_id
    _wait_as_user(socket)
    found: dict[str, Grant] = {}
    for _ in range(REREADS):
        as_of, version = socket.context.clock(), services.shared_grants.version
        found = await services.channels.grants_among(user_id, channel_ids)
        changed = services.revocations.changed_since(user_id, as_of)
        if not changed and version == services.shared_grants.version:
            break
    return found


async def join(socket: ClientSocket, frame: Frame, data: rooms.InRoom) -> None:
    """Join a room."""
    await _look_up(socket, data.room)
    _granted(socket, data.room, Right.READ)
    await socket.membership.enter_subscribed((data.room,))
    _granted(socket, data.room, Right.READ)
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
    _granted(socket, data.room, Right.WRITE)
    context = socket.context
    body = rooms.message_body(data.room, _member_of(socket), data.data, context.clock())
    kept = context.services.bus.keep(data.room, body, socket.session.user_id)
    return _reply_with_id(socket, frame, kept)


async def _reply_with_id(socket: ClientSocket, frame: Frame, message_id: Awaitable[str]) -> None:
    socket.answer(frame, rooms.Said(await message_id))


def typing(socket: ClientSocket, frame: Frame, data: rooms.InRoom) -> None:
    """Notify the other members of a room that the user is typing."""
    _granted(socket, data.room, Right.WRITE)
    event = encode_event("typing", rooms.Typing(data.room, _member_of(socket)))
    socket.context.rooms.send_frame(data.room, event, but=socket.session_id)
    socket.answer(frame, rooms.OneRoom(data.room))


async def presence(socket: ClientSocket, frame: Frame, data: rooms.InRoom) -> None:
    """Reply with the users in a room, on all nodes."""
    grant = _granted(socket, data.room, Right.READ)
    users = await socket.context.services.presence.people(data.room)
    if not data.room.startswith(CHANNEL):
        users = [_member_of(socket)]
    named, _ = as_fit(users, MAX_PEOPLE, PEOPLE_BYTES - len(frame.id))
    _answer_from(socket, frame, rooms.People(named, len(users)), grant.step_up)


def watch_sessions(socket: ClientSocket, frame: Frame, _: object) -> None:
    """Notify the socket from now on when other sockets of its user open and close."""
    socket.context.services.session_watch.watch(socket.session.user_id, socket)
    socket.answer(frame, rooms.WatchesSessions())


async def usage(socket: ClientSocket, frame: Frame, data: rooms.UseModel) -> None:
    """Record that the session uses a model. The use expires unless it is repeated."""
    context = socket.context
    _wait_as_user(socket)
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
    grant = await _granted_now(socket, data.room)
    bus = socket.context.services.bus
    read = await bus.read(data.room, data.after, HISTORY_PAGE, grant.since)
    window = await socket.context.services.authors.shown(read, set())
    texts, _ = _take_fitting(window, HISTORY_BYTES - len(frame.id), at_least_one=True)
    more = window.more or len(texts) < len(window.messages)
    answer = rooms.History(texts, window.complete, more)
    _answer_from(socket, frame, answer, grant.step_up)


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
    granted = await _granted_among(socket, [each.room for each in asked])
    answers: list[rooms.RoomHistory] = []
    left = HISTORY_BYTES - len(frame.id)
    existing: set[str] = set()
    limit = max(ROOM_PAGE, HISTORY_PAGE // len(asked))  # few that were silent for long, far away
    for start in range(0, len(asked), ROOMS_AT_ONCE):
        some = asked[start : start + ROOMS_AT_ONCE]
        windows = await _read_many(socket, some, granted, limit, existing)
        for each, read in zip(some, windows, strict=True):
            # Checked again: rights may have been revoked while the logs were read.
            refusal = _refusal(socket, each.room, granted)
            part, left = _part_of(each, refusal or read, left, first=not answers)
            if part is not None:
                answers.append(part)
            if left <= 0:
                break
        if left <= 0:
            break
    told = [answer.room for answer in answers if answer.error is msgspec.UNSET]
    needs_proof = any(granted[room].step_up for room in told)
    _answer_from(socket, frame, rooms.History(rooms=answers), needs_proof)


def _refusal(
    socket: ClientSocket, room: str, granted: dict[str, Grant]
) -> type[Forbidden] | type[StepUpNeeded] | None:
    """Why a room may not be read; None if it may be."""
    grant = granted.get(room)
    if grant is None or socket.membership.grant_in(room) is None:
        return Forbidden
    return StepUpNeeded if grant.step_up and not socket.membership.is_proven() else None


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


async def _granted_among(socket: ClientSocket, names: list[str]) -> dict[str, Grant]:
    """The current rights in these rooms, without rooms that the user may not read."""
    had = {name: socket.membership.grant_in(name) for name in names}
    may = {name: grant for name, grant in had.items() if grant is not None}
    ids = [name.removeprefix(CHANNEL) for name in may if name.startswith(CHANNEL)]
    user_id = socket.session.user_id
    _wait_as_user(socket)
    found = await socket.context.services.channels.grants_among(user_id, ids) if ids else {}
    now = {name: found.get(name.removeprefix(CHANNEL)) for name in may if name.startswith(CHANNEL)}
    may.update({name: grant for name, grant in now.items() if grant is not None})
    return {name: grant for name, grant in may.items() if now.get(name, grant) is not None}


async def _granted_now(socket: ClientSocket, room: str) -> Grant:
    grant = _granted(socket, room, Right.READ)
    if not room.startswith(CHANNEL):
        return grant
    user_id = socket.session.user_id
    channels = socket.context.services.channels
    now = await channels.grant_of(user_id, room.removeprefix(CHANNEL))
    if now is None:
        raise Forbidden("no right to read the room any more")
    if now.step_up and not socket.membership.is_proven():
        raise StepUpNeeded
    return now


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
