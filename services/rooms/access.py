"""Applies changed channel rights to the affected sockets of this node."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Set as AbstractSet

from services.errors import Unavailable
from services.grants.shared import SharedGrants
from services.rooms.channels import Channels
from services.rooms.room_names import channel_room
from services.rooms.room_protocol import RoomList
from services.sessions.control import Revocation
from services.sessions.revocations import ANYBODY
from services.sockets.hub import Hub, HubSocket
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
        channel_id, room = change.subject, channel_room(change.subject)
        roles: AbstractSet[str] = frozenset()
        if change.user_id == ANYBODY:
            roles = await self._shared.refresh(channel_id)
            # Only now: sockets that join from here on use what was read.
            users = {
                client.session.user_id
                for client in self._hub
                if client.session.role in roles or client.membership.grant_in(room) is not None
            }
        else:
            users = {change.user_id} if self._hub.of_user(change.user_id) else set()
        if not users:
            return
        grants = await self._channels.grants_in(channel_id, sorted(users))
        for user_id in users:
            for client in self._hub.of_user(user_id):
                if change.user_id == ANYBODY and not self._concerns(client, channel_id, roles):
                    continue
                if await client.membership.change(channel_id, grants.get(user_id)):
                    rooms = RoomList(client.membership.names())
                    client.connection.send(encode_event("access-changed", rooms))
            await asyncio.sleep(0)

    def _concerns(self, client: HubSocket, channel_id: str, roles: AbstractSet[str]) -> bool:
        """Whether a change of an open channel concerns a socket: it has a right in the channel, or
        is to join it by itself."""
        if client.membership.grant_in(channel_room(channel_id)) is not None:
            return True
        inside = client.membership.channels()
        return client.session.role in roles and self._shared.has_place(channel_id, inside)
