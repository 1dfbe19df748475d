"""The rooms of one socket: the ones it may enter, and the ones it is in.

A room whose channel asks for a step-up is guarded: the socket is in it only while the proof of its
token is fresh. The end of the proof is exact. A timer leaves the rooms and notifies the client, but
what goes in or out is decided by the clock each time, as a timer of a busy loop is late.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet

from services.grants.rules import MAX_ROOMS, Grant, Right
from services.rooms.local_room import RoomMember
from services.rooms.presence import Presence
from services.rooms.room_names import CHANNEL, channel_room, user_room
from services.rooms.room_protocol import RoomList
from services.rooms.rooms import Rooms
from services.websocket.protocol import Member, encode_event

OWN_ROOM = Grant(Right.WRITE, 0.0)
"""What everybody may do in the room of their own sockets, from the beginning."""
NO_ROOMS: frozenset[str] = frozenset()
LEAST_DELAY = 0.001
"""Seconds, of a timer that came too early."""


class Membership:
    """The rooms of a joined socket.

    Args:
        member: the socket.
        user: the socket's user.
        grants: the user's rights, by channel id.
        proof_ends_at: when the proof of the socket's token ends, by `Rooms.proof_clock`.
    """

    __slots__ = (
        "_grants",
        "_guarded",
        "_joined",
        "_member",
        "_presence",
        "_rooms",
        "_timer",
        "_user",
        "proof_ends_at",
    )

    def __init__(
        self,
        rooms: Rooms,
        presence: Presence,
        member: RoomMember,
        user: Member,
        grants: Mapping[str, Grant],
        proof_ends_at: float = float("-inf"),
    ) -> None:
        self._rooms, self._presence = rooms, presence
        self._member: RoomMember | None = member
        """None once it has left all: a socket that is gone is in no cycle of references."""
        self._user = user
        # Neither is changed in place.
        self._grants: Mapping[str, Grant] = {rooms.shared_id(c): g for c, g in grants.items()}
        self._guarded = _guarded(grants)
        """Rooms that need a proof."""
        self.proof_ends_at = proof_ends_at
        self._timer: asyncio.TimerHandle | None = None
        self._joined: tuple[str, ...] = ()

    def names(self) -> list[str]:
        """The rooms that the socket is in."""
        return list(self._joined)

    def channels(self) -> Collection[str]:
        """The channels in which the socket has a right, whether or not it is in the room."""
        return self._grants.keys()

    def grant_in(self, room: str) -> Grant | None:
        """The socket's right in a room; None if it may not read it."""
        if room == user_room(self._user.id):
            return OWN_ROOM
        kind, _, channel_id = room.partition(":")
        return self._grants.get(channel_id) if f"{kind}:" == CHANNEL else None

    def allowed(self) -> list[str]:
        """Every room that the socket may enter now."""
        names = [user_room(self._user.id), *map(channel_room, self._grants)]
        if self._guarded and not self.is_proven():
            return [name for name in names if name not in self._guarded]
        return names

    def is_proven(self) -> bool:
        """Whether the proof of the socket's token is fresh."""
        return self._rooms.proof_clock() < self.proof_ends_at

    def may_enter(self, room: str) -> bool:
        """Whether there is a right to read a room, and the proof that it needs."""
        return self.grant_in(room) is not None and (room not in self._guarded or self.is_proven())

    # ---- going in and out ------------------------------------------------------------------

    def enter(self, names: Iterable[str]) -> None:
        """Enter rooms that are subscribed. Does not wait."""
        inside, now, member = dict.fromkeys(self._joined), self._rooms.clock(), self._member
        if member is None:
            return
        for name in names:
            if name not in inside:
                shared = self._rooms.enter(member, name, now)
                inside[shared] = None
                self._presence.on_enter(shared, self._user, member.session_id)
        self._joined = tuple(inside)
        if self._guarded:
            self._guard()

    def rename(self, name: str) -> None:
        """Take over the user's new display name."""
        self._user = Member(self._user.id, name)
        if self._member is not None:
            for room in self._joined:
                self._presence.renamed(room, self._user, self._member.session_id)

    def leave(self, name: str) -> bool:
        """Leave a room. Returns False if the socket was not in it."""
        if name not in self._joined:
            return False
        self._leave({name})
        return True

    def leave_all(self) -> None:
        """Leave every room for good: the socket is closed."""
        self._stop_timer()
        member, joined = self._member, self._joined
        self._member, self._joined = None, ()
        if member is not None:
            for name in joined:
                self._rooms.leave(member, name)
                self._presence.on_leave(name, member.session_id)

    def _leave(self, names: AbstractSet[str]) -> None:
        joined, member = self._joined, self._member
        if member is None:
            return
        self._joined = tuple(name for name in joined if name not in names)
        for name in joined:
            if name in names:
                self._rooms.leave(member, name)
                self._presence.on_leave(name, member.session_id)

    async def enter_subscribed(self, names: Iterable[str]) -> None:
        """Enter rooms once they are subscribed, except those whose right was revoked meanwhile, or
        whose proof has ended."""
        inside = frozenset(self._joined)
        wanted = [name for name in names if name not in inside]
        try:
            await self._rooms.wait_subscribed(self._rooms.subscribe(wanted))
            if self._member is not None and self._member.connection.is_open:
                self.enter(name for name in wanted if self.may_enter(name))
        finally:
            self._rooms.unsubscribe(wanted)

    # ---- rights ----------------------------------------------------------------------------

    async def match(self, grants: Mapping[str, Grant]) -> None:
        """Replace the rights with newly read ones, and leave and enter rooms to match."""
        before, self._grants, self._guarded = self._guarded, grants, _guarded(grants)
        for room in before - self._guarded:
            self._guard_room(room, None)
        self._leave({name for name in self._joined if not self.may_enter(name)})
        await self.enter_subscribed(self.allowed())

    async def change(self, channel_id: str, grant: Grant | None, by_name: bool = False) -> bool:
        """Replace the right in one channel. Leaves the room at once if the right is revoked.

        Args:
            by_name: the client asked for the room by name.

        Returns:
            Whether the right changed.
        """
        before, room = self._grants.get(channel_id), channel_room(channel_id)
        if before == grant:
            return False
        if grant is None:
            self._grants = {c: had for c, had in self._grants.items() if c != channel_id}
            self._guarded -= {room}
            self.leave(room)
            return True
        self._grants = {**self._grants, channel_id: grant}
        is_unguarded = before is not None and before.step_up and not grant.step_up
        if grant.step_up:
            self._guarded |= {room}
            if not self.is_proven():
                self.leave(room)
        elif is_unguarded:
            self._guarded -= {room}
            self._guard_room(room, None)
        # Beyond this number, rooms are entered by name only: other users can add a user to any
        # number of channels.
        if is_unguarded or (before is None and (by_name or len(self._joined) <= MAX_ROOMS)):
            await self.enter_subscribed((room,))
        elif grant.step_up:
            self._guard()
        return True

    # ---- proof -----------------------------------------------------------------------------

    async def prove(self, ends_at: float) -> None:
        """Take the proof of another token of the same login session. Enters the guarded rooms if
        none counted before. An older proof changes nothing.

        Args:
            ends_at: when it ends, by `Rooms.proof_clock`.
        """
        if ends_at <= self.proof_ends_at:
            return
        was_proven = self.is_proven()
        if not was_proven:
            self._fall_back()  # the timer may be late, and what was said meanwhile is missed
        self.proof_ends_at = ends_at
        if not self._guarded or not self.is_proven():
            return
        self._guard()
        if not was_proven:
            before = len(self._joined)
            await self.enter_subscribed([room for room in self.allowed() if room in self._guarded])
            if len(self._joined) > before:
                self._tell()

    def _guard(self) -> None:
        """Let nothing of the guarded rooms out once the proof ends, and leave them then."""
        inside = [room for room in self._joined if room in self._guarded]
        for room in inside:
            self._guard_room(room, self.proof_ends_at)
        self._stop_timer()
        if inside:
            delay = max(LEAST_DELAY, self.proof_ends_at - self._rooms.proof_clock())
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(delay, self._fall_back)

    def _fall_back(self) -> None:
        """Leave the guarded rooms, because the proof has ended."""
        if self.is_proven():  # the timer's clock and the proof's may differ a little
            self._guard()
            return
        self._stop_timer()
        left = self._guarded.intersection(self._joined)
        self._leave(left)
        if left:
            self._tell()

    def _tell(self) -> None:
        """Notify the client of its rooms."""
        if self._member is not None:
            event = encode_event("access-changed", RoomList(self.names()))
            self._member.connection.send(event)

    def _guard_room(self, room: str, ends_at: float | None) -> None:
        if self._member is not None:
            self._rooms.guard(self._member, room, ends_at)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _guarded(grants: Mapping[str, Grant]) -> frozenset[str]:
    rooms = [channel_room(channel_id) for channel_id, had in grants.items() if had.step_up]
    return frozenset(rooms) if rooms else NO_ROOMS
