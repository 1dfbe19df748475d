"""What a joined socket may in rooms: its rights, looked up and checked for each event."""

from __future__ import annotations

import re

from handlers.websocket.socket import ClientSocket
from services.errors import Forbidden, StepUpNeeded
from services.grants.rules import Grant, Right
from services.rooms.room_names import CHANNEL
from services.sessions.admission import REREADS
from services.websocket.protocol import Frame

_CHANNEL_ID = re.compile(r"[A-Za-z0-9_-]{22}", re.ASCII)


def granted_in(socket: ClientSocket, room: str, right: Right) -> Grant:
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


def answer_from(socket: ClientSocket, frame: Frame, data: object, needs_proof: bool) -> None:
    """Reply with what was said or who is in rooms; never after the end of the proof it needs.

    Raises:
        StepUpNeeded: the proof has ended.
    """
    if not needs_proof:
        socket.answer(frame, data)
        return
    clock, ends_at = socket.context.rooms.proof_clock, socket.membership.proof_ends_at
    if clock() >= ends_at:
        raise StepUpNeeded
    socket.answer_while(frame, data, lambda: clock() >= ends_at)


def wait_as_user(socket: ClientSocket) -> None:
    """Wait for the database in the name of the socket's user from now on. Otherwise all sockets
    would be one caller, and one user's would keep those of all others waiting."""
    callers = socket.context.services.infrastructure.database.callers
    callers.enter("users", socket.session.user_id)


async def current_grants(socket: ClientSocket) -> dict[str, Grant]:
    """The user's rights up to the limit, and those in rooms beyond it that the socket is in.

    All are read again if a right changes before the last is read: one that was revoked meanwhile
    may have been taken from the socket already, and must not be restored.
    """
    services, user_id = socket.context.services, socket.session.user_id
    wait_as_user(socket)
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


async def look_up(socket: ClientSocket, room: str) -> None:
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
    wait_as_user(socket)
    found: dict[str, Grant] = {}
    for _ in range(REREADS):
        as_of, version = socket.context.clock(), services.shared_grants.version
        found = await services.channels.grants_among(user_id, channel_ids)
        changed = services.revocations.changed_since(user_id, as_of)
        if not changed and version == services.shared_grants.version:
            break
    return found


def refusal_of(
    socket: ClientSocket, room: str, granted: dict[str, Grant]
) -> type[Forbidden] | type[StepUpNeeded] | None:
    """Why a room may not be read; None if it may be."""
    grant = granted.get(room)
    if grant is None or socket.membership.grant_in(room) is None:
        return Forbidden
    return StepUpNeeded if grant.step_up and not socket.membership.is_proven() else None


async def granted_among(socket: ClientSocket, names: list[str]) -> dict[str, Grant]:
    """The current rights in these rooms, without rooms that the user may not read."""
    had = {name: socket.membership.grant_in(name) for name in names}
    may = {name: grant for name, grant in had.items() if grant is not None}
    ids = [name.removeprefix(CHANNEL) for name in may if name.startswith(CHANNEL)]
    user_id = socket.session.user_id
    wait_as_user(socket)
    found = await socket.context.services.channels.grants_among(user_id, ids) if ids else {}
    now = {name: found.get(name.removeprefix(CHANNEL)) for name in may if name.startswith(CHANNEL)}
    may.update({name: grant for name, grant in now.items() if grant is not None})
    return {name: grant for name, grant in may.items() if now.get(name, grant) is not None}


async def granted_now(socket: ClientSocket, room: str) -> Grant:
    """The right to read a room, looked up at this moment.

    Raises:
        Forbidden: there is none.
        StepUpNeeded: the room needs a proof that the socket's token has not.
    """
    grant = granted_in(socket, room, Right.READ)
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
