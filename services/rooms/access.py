"""Applies changed channel rights to the affected sockets of this node."""

from __future__ import annotations

import asyncio
import logging

from services.errors import Unavailable
from services.grants.shared import SharedGrants
from services.rooms.channels import Channels
from services.rooms.room_names import channel_room
from services.rooms.room_protocol import RoomList
from services.sessions.control import Revocation
from services.sessions.revocations import ANYBODY
from services.sockets.hub import Hub
from services.websocket.protocol import encode_event

MAX_WAITING = 10_000
"""Changes that could not be looked up while the database is away."""

log = logging.getLogger("usher.access")


class Access:
    """Applies changed rights to this node's sockets."""

    def __init__(self, hub: Hub, channels: Channels, shared: SharedGrants) -> None:
        self._hub, self._channels, self._shared = hub, channels, shared
        self._waiting: dict[tuple[str, str], Revocation] = {}
        self._turn = asyncio.Lock()

    async def apply(self, change: Revocation) -> None:
        """Look the rights up again and apply them. A failed look-up is retried later."""
        try:
            async with self._turn:  # applied in the order of the reads, or an old right could win
                await self._apply(change)
        except Unavailable as error:
            log.warning("rights not looked up yet: %s", error.evidence)
            if len(self._waiting) < MAX_WAITING:
                self._waiting[change.subject, change.user_id] = change

    async def try_again(self) -> None:
        """Retry failed look-ups. Call it about once a second."""
        waiting, self._waiting = self._waiting, {}
        for change in waiting.values():
            await self.apply(change)

    async def _apply(self, change: Revocation) -> None:
        if change.user_id == ANYBODY:
            users = await self._affected_users(change.subject)
        else:
            users = {change.user_id} if self._hub.of_user(change.user_id) else set()
        if not users:
            return
        grants = await self._channels.grants_in(change.subject, sorted(users))
        for user_id in users:
            for client in self._hub.of_user(user_id):
                if await client.membership.change(change.subject, grants.get(user_id)):
                    rooms = RoomList(client.membership.names())
                    client.connection.send(encode_event("access-changed", rooms))
            await asyncio.sleep(0)

    async def _affected_users(self, channel_id: str) -> set[str]:
        """The users whose sockets a change of the whole channel may affect."""
        anybody = await self._shared.refresh(channel_id)
        room = channel_room(channel_id)
        return {
            client.session.user_id
            for client in self._hub  # only now: sockets that join from here on use what was read
            if anybody or client.membership.grant_in(room) is not None
        }
