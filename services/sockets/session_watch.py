"""Tells a user's sockets that ask for it when other sockets of the user open and close.

Nobody watches most users, so a join and a close only look up a name in a dictionary. A node with a
watcher tells the other nodes through the user's own room, which each node with a socket of the user
has subscribed to, and repeats it: a node whose first socket of the user opens later hears it then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

import msgspec

from services.sockets.hub import HubSocket
from services.websocket.protocol import encode_event

WATCHED, MOVED = b"w", b"m"
"""Kinds of ephemeral messages: somebody watches this user; sockets of this user have moved."""
PAUSE_SECONDS = 0.15
"""Changes within this time are told together, and the session pool has them by then."""
HEARD_SECONDS = 30.0
"""How long another node's watcher counts: three times what it is repeated after."""
RENEW_BATCH = 200
"""Messages in one turn of the loop."""
USER = "user:"


class SessionsChanged(msgspec.Struct, frozen=True):
    """Nothing but the news: `GET /api/sessions` has what there is now."""


class Ephemerals(Protocol):
    """The messages between nodes, by room."""

    def on_ephemeral(self, kind: bytes, act: Callable[[str, bytes], None]) -> None: ...

    def send_ephemeral(self, name: str, kind: bytes, body: bytes) -> None: ...


class SessionWatch:
    """The watchers of this node, and whom other nodes watch.

    Args:
        node: the id of this process.
    """

    def __init__(self, rooms: Ephemerals, node: str) -> None:
        self._rooms, self._node = rooms, node.encode()
        self._watchers: dict[str, set[HubSocket]] = {}
        self._elsewhere: dict[str, float] = {}
        """Users whom another node watches, until when by the loop's clock."""
        self._pending: dict[str, asyncio.TimerHandle] = {}
        self._unsaid: set[str] = set()
        """Users of whom the other nodes are to be told, too, when those of `_pending` are."""
        rooms.on_ephemeral(WATCHED, self._on_watched)
        rooms.on_ephemeral(MOVED, self._on_moved)

    def watch(self, user_id: str, socket: HubSocket) -> None:
        """From now on a socket is told. `forget` ends it. To ask again costs nobody anything."""
        watchers = self._watchers.setdefault(user_id, set())
        if socket not in watchers:
            watchers.add(socket)
            self._rooms.send_ephemeral(f"{USER}{user_id}", WATCHED, self._node)

    def forget(self, user_id: str, socket: HubSocket) -> None:
        """A socket does not watch any more, or never did."""
        watchers = self._watchers.get(user_id)
        if watchers is not None:
            watchers.discard(socket)
            if not watchers:
                del self._watchers[user_id]

    def moved(self, user_id: str) -> None:
        """A socket of a user has opened or closed here."""
        if user_id in self._watchers or user_id in self._elsewhere:
            self._unsaid.add(user_id)
            self._tell_soon(user_id)

    async def renew(self) -> None:
        """Tell the other nodes again, and forget what they no longer say. Call it every 10 s."""
        for number, user_id in enumerate(tuple(self._watchers), 1):
            if user_id in self._watchers:
                self._rooms.send_ephemeral(f"{USER}{user_id}", WATCHED, self._node)
            if number % RENEW_BATCH == 0:
                await asyncio.sleep(0)
        now = asyncio.get_running_loop().time()
        self._elsewhere = {user: until for user, until in self._elsewhere.items() if until > now}

    def _on_watched(self, room: str, node: bytes) -> None:
        user_id = room.removeprefix(USER)
        if node == self._node:
            return
        until = asyncio.get_running_loop().time() + HEARD_SECONDS
        is_new = user_id not in self._elsewhere
        self._elsewhere[user_id] = until
        if is_new:  # its sockets may be news to the watcher
            self._unsaid.add(user_id)
            self._tell_soon(user_id)

    def _on_moved(self, room: str, node: bytes) -> None:
        user_id = room.removeprefix(USER)
        if node != self._node and user_id in self._watchers:
            self._tell_soon(user_id)

    def _tell_soon(self, user_id: str) -> None:
        if user_id not in self._pending:
            loop = asyncio.get_running_loop()
            self._pending[user_id] = loop.call_later(PAUSE_SECONDS, self._tell, user_id)

    def _tell(self, user_id: str) -> None:
        self._pending.pop(user_id, None)
        is_unsaid = user_id in self._unsaid
        self._unsaid.discard(user_id)
        if is_unsaid and user_id in self._elsewhere:
            self._rooms.send_ephemeral(f"{USER}{user_id}", MOVED, self._node)
        frame = encode_event("sessions-changed", SessionsChanged())
        for watcher in tuple(self._watchers.get(user_id, ())):
            watcher.connection.send(frame)
