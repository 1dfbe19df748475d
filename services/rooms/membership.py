"""The rooms of one socket: those it may enter, and those it is in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from services.grants.rules import MAX_ROOMS, Grant, Right
from services.rooms.presence import Presence
from services.rooms.rooms import CHANNEL, RoomMember, Rooms, channel_room, user_room
from services.websocket.protocol import Member

OWN_ROOM = Grant(Right.WRITE, 0.0)
"""What everybody may do in the room of their own sockets, from the beginning."""


class Membership:
    """The rooms of a socket that has joined.

    Args:
        member: the socket.
        user: who it is.
        grants: what the user may do, by channel id.
    """

    __slots__ = ("_grants", "_joined", "_member", "_presence", "_rooms", "_user")

    def __init__(
        self,
        rooms: Rooms,
        presence: Presence,
        member: RoomMember,
        user: Member,
        grants: Mapping[str, Grant],
    ) -> None:
        self._rooms, self._presence = rooms, presence
        self._member, self._user = member, user
        self._grants = dict(grants)
        self._joined: dict[str, None] = {}

    def names(self) -> list[str]:
        """The rooms that the socket is in."""
        return list(self._joined)

    def grant_in(self, room: str) -> Grant | None:
        """What the socket may do in a room; None when it may not even listen."""
        if room == user_room(self._user.id):
            return OWN_ROOM
        kind, _, channel_id = room.partition(":")
        return self._grants.get(channel_id) if f"{kind}:" == CHANNEL else None

    def allowed(self) -> list[str]:
        """Every room that the socket may enter."""
        return [user_room(self._user.id), *map(channel_room, self._grants)]

    # ---- going in and out ------------------------------------------------------------------

    def enter(self, names: Iterable[str]) -> None:
        """Go into rooms that are held. No waiting."""
        for name in names:
            if name not in self._joined:
                self._joined[name] = None
                self._rooms.enter(self._member, name)
                self._presence.came(name, self._user, self._member.session_id)

    def leave(self, name: str) -> bool:
        """Go out of a room. False when the socket was not in it."""
        if name not in self._joined:
            return False
        del self._joined[name]
        self._rooms.leave(self._member, name)
        self._presence.went(name, self._member.session_id)
        return True

    def leave_all(self) -> None:
        """Go out of every room."""
        for name in self.names():
            self.leave(name)

    async def go_in(self, names: Iterable[str]) -> None:
        """Enter rooms once they are subscribed. A right that is lost meanwhile counts."""
        wanted = [name for name in names if name not in self._joined]
        try:
            await self._rooms.wait_subscribed(self._rooms.subscribe(wanted))
            if self._member.connection.is_open:
                self.enter(name for name in wanted if self.grant_in(name) is not None)
        finally:
            self._rooms.unsubscribe(wanted)

    # ---- rights ----------------------------------------------------------------------------

    async def match(self, grants: Mapping[str, Grant]) -> None:
        """Take over rights that were looked up anew; leave and enter rooms to match."""
        self._grants = dict(grants)
        for name in self.names():
            if self.grant_in(name) is None:
                self.leave(name)
        await self.go_in(self.allowed())

    async def change(self, channel_id: str, grant: Grant | None, by_name: bool = False) -> bool:
        """Take over the right in one channel. What is lost is left at once. True if it changed.

        Args:
            by_name: the socket asks for it by name.
        """
        before = self._grants.get(channel_id)
        if before == grant:
            return False
        if grant is None:
            del self._grants[channel_id]
            self.leave(channel_room(channel_id))
        else:
            self._grants[channel_id] = grant
            # Beyond so many a room is entered by name only: others may add one to any number.
            if before is None and (by_name or len(self._joined) <= MAX_ROOMS):
                await self.go_in((channel_room(channel_id),))
        return True
