"""The rooms of one socket: the ones it may enter, and the ones it is in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from services.grants.rules import MAX_ROOMS, Grant, Right
from services.rooms.local_room import RoomMember
from services.rooms.presence import Presence
from services.rooms.room_names import CHANNEL, channel_room, user_room
from services.rooms.rooms import Rooms
from services.websocket.protocol import Member

OWN_ROOM = Grant(Right.WRITE, 0.0)
"""What everybody may do in the room of their own sockets, from the beginning."""


class Membership:
    """The rooms of a joined socket.

    Args:
        member: the socket.
        user: the socket's user.
        grants: the user's rights, by channel id.
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
        """The socket's right in a room; None if it may not read it."""
        if room == user_room(self._user.id):
            return OWN_ROOM
        kind, _, channel_id = room.partition(":")
        return self._grants.get(channel_id) if f"{kind}:" == CHANNEL else None

    def allowed(self) -> list[str]:
        """Every room that the socket may enter."""
        return [user_room(self._user.id), *map(channel_room, self._grants)]

    # ---- going in and out ------------------------------------------------------------------

    def enter(self, names: Iterable[str]) -> None:
        """Enter rooms that are subscribed. Does not wait."""
        for name in names:
            if name not in self._joined:
                self._joined[name] = None
                self._rooms.enter(self._member, name)
                self._presence.on_enter(name, self._user, self._member.session_id)

    def rename(self, name: str) -> None:
        """Take over the user's new display name."""
        self._user = Member(self._user.id, name)
        for room in self._joined:
            self._presence.renamed(room, self._user, self._member.session_id)

    def leave(self, name: str) -> bool:
        """Leave a room. Returns False if the socket was not in it."""
        if name not in self._joined:
            return False
        del self._joined[name]
        self._rooms.leave(self._member, name)
        self._presence.on_leave(name, self._member.session_id)
        return True

    def leave_all(self) -> None:
        """Leave every room."""
        for name in self.names():
            self.leave(name)

    async def enter_subscribed(self, names: Iterable[str]) -> None:
        """Enter rooms once they are subscribed, except those whose right was revoked meanwhile."""
        wanted = [name for name in names if name not in self._joined]
        try:
            await self._rooms.wait_subscribed(self._rooms.subscribe(wanted))
            if self._member.connection.is_open:
                self.enter(name for name in wanted if self.grant_in(name) is not None)
        finally:
            self._rooms.unsubscribe(wanted)

    # ---- rights ----------------------------------------------------------------------------

    async def match(self, grants: Mapping[str, Grant]) -> None:
        """Replace the rights with newly read ones, and leave and enter rooms to match."""
        self._grants = dict(grants)
        for name in self.names():
            if self.grant_in(name) is None:
                self.leave(name)
        await self.enter_subscribed(self.allowed())

    async def change(self, channel_id: str, grant: Grant | None, by_name: bool = False) -> bool:
        """Replace the right in one channel. Leaves the room at once if the right is revoked.

        Args:
            by_name: the client asked for the room by name.

        Returns:
            Whether the right changed.
        """
        before = self._grants.get(channel_id)
        if before == grant:
            return False
        if grant is None:
            del self._grants[channel_id]
            self.leave(channel_room(channel_id))
        else:
            self._grants[channel_id] = grant
            # Beyond this number, rooms are entered by name only: other users can add a user to any
            # number of channels.
            if before is None and (by_name or len(self._joined) <= MAX_ROOMS):
                await self.enter_subscribed((channel_room(channel_id),))
        return True
