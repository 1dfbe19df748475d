"""The joined sockets of this node, by session, user, login session and token, and closing them.

Everything here runs within one iteration of the event loop without waiting. So a socket is either
in the hub and reachable by a revocation, or has not joined yet and is stopped by one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Protocol

from services.grants.rules import Grant
from services.sockets.session_pool import SocketSession
from services.websocket.connection import Connection
from services.websocket.protocol import CloseCode


class HubRooms(Protocol):
    """The rooms of a socket that has joined. services/rooms/membership.py implements it."""

    def names(self) -> list[str]:
        """The rooms that the socket is in."""

    def leave(self, name: str) -> bool:
        """Leave a room. Returns False if the socket was not in it."""

    def channels(self) -> Collection[str]:
        """The channels in which the socket has a right."""
        ...

    def grant_in(self, room: str) -> Grant | None:
        """The socket's grant in a room; None if it may not read it."""

    async def change(self, channel_id: str, grant: Grant | None) -> bool:
        """Set the grant in a channel; None revokes it. Returns whether it changed."""


class HubSocket(Protocol):
    """The interface of a joined socket."""

    connection: Connection
    bearer_token_id: str | None
    """`jti` of the access token that is bound to this socket; None for tickets and cookies."""
    generation: int
    """Generation of its login session, see models/login_session.py. Not stored in Redis, as no
    other node needs it."""

    @property
    def session(self) -> SocketSession:
        """The socket session: user, login session and node."""

    @property
    def membership(self) -> HubRooms:
        """The rooms of the socket."""

    def rename(self, name: str) -> None:
        """Take over the user's new display name."""

    def close(self, code: CloseCode, after: float | None = None) -> None:
        """Close at once. `after`: seconds that the client should wait before it reconnects."""


class Hub:
    """The sockets of this node that have joined."""

    def __init__(self) -> None:
        self._by_session: dict[str, HubSocket] = {}
        self._by_user: dict[str, HubSocket | set[HubSocket]] = {}
        """Most users have one socket, and a set takes 216 bytes."""
        self._by_bearer: dict[str, HubSocket] = {}

    def __len__(self) -> int:
        return len(self._by_session)

    def __iter__(self) -> Iterator[HubSocket]:
        return iter(tuple(self._by_session.values()))

    def get(self, session_id: str) -> HubSocket | None:
        """The socket with this session id, if it is on this node."""
        return self._by_session.get(session_id)

    def of_user(self, user_id: str) -> frozenset[HubSocket]:
        """The sockets of a user on this node."""
        return frozenset(self._sockets_of(user_id))

    def count_of(self, user_id: str) -> int:
        """How many sockets of a user there are on this node."""
        return len(self._sockets_of(user_id))

    def of_login_session(self, user_id: str, login_session_id: str) -> list[HubSocket]:
        """The sockets of one login session on this node."""
        sockets = self._sockets_of(user_id)
        return [s for s in sockets if s.session.login_session_id == login_session_id]

    def add(self, socket: HubSocket) -> None:
        """Let a socket in."""
        session = socket.session
        self._by_session[session.session_id] = socket
        user_id = session.user_id
        there = self._by_user.get(user_id)
        if there is None:
            self._by_user[user_id] = socket
        elif isinstance(there, set):
            there.add(socket)
        else:
            self._by_user[user_id] = {there, socket}

    def _sockets_of(self, user_id: str) -> Collection[HubSocket]:
        there = self._by_user.get(user_id, ())
        return there if isinstance(there, (set, tuple)) else (there,)

    def bind_bearer(self, socket: HubSocket, token_id: str | None) -> None:
        """A bearer token holds one live socket: from now on this one. Another has to go (4409).

        A stolen token so makes itself known, and sharing one is of no use.
        """
        self._release_bearer(socket)
        socket.bearer_token_id = token_id
        if token_id is None:
            return
        holder = self._by_bearer.get(token_id)
        self._by_bearer[token_id] = socket
        if holder is not None and holder is not socket:
            holder.close(CloseCode.REPLACED)

    def holder_of(self, token_id: str) -> HubSocket | None:
        """The socket here that holds a bearer token."""
        return self._by_bearer.get(token_id)

    def close_bearer(self, token_id: str, holder: str, code: CloseCode) -> int:
        """Close the socket that holds a bearer token, unless its session is `holder`. Returns how
        many there were."""
        socket = self._by_bearer.get(token_id)
        if socket is None or socket.session.session_id == holder:
            return 0
        return self._close([socket], code)

    def _release_bearer(self, socket: HubSocket) -> None:
        held = socket.bearer_token_id
        if held is not None and self._by_bearer.get(held) is socket:
            del self._by_bearer[held]

    def remove(self, socket: HubSocket) -> bool:
        """Take a socket out. False when it was not in."""
        session = socket.session
        if self._by_session.pop(session.session_id, None) is None:
            return False
        user_id = session.user_id
        there = self._by_user[user_id]
        if isinstance(there, set):
            there.discard(socket)
            if len(there) == 1:
                (self._by_user[user_id],) = there
        else:
            del self._by_user[user_id]
        self._release_bearer(socket)
        return True

    def close_login_session(self, user_id: str, login_session_id: str, code: CloseCode) -> int:
        """Close every socket of a login session. Returns how many there were."""
        return self._close(self.of_login_session(user_id, login_session_id), code)

    def close_older_logins(
        self, user_id: str, generation: int, exempt: str, code: CloseCode
    ) -> int:
        """Close a user's sockets whose login session is of an older generation, and not the one
        that is `exempt`. Returns how many there were."""
        older = [
            s
            for s in self.of_user(user_id)
            if s.generation < generation and s.session.login_session_id != exempt
        ]
        return self._close(older, code)

    def close_user(self, user_id: str, code: CloseCode) -> int:
        """Close every socket of a user. Returns how many there were."""
        return self._close(self.of_user(user_id), code)

    def close_other_roles(self, user_id: str, role: str, code: CloseCode) -> int:
        """Close a user's sockets that came in with another role. Returns how many there were."""
        return self._close([s for s in self.of_user(user_id) if s.session.role != role], code)

    def hold(self) -> None:
        """Let nothing in or out of any socket until `release()`."""
        for socket in self._by_session.values():
            socket.connection.hold()

    def release(self) -> None:
        """Let things in and out again, what waited first."""
        for socket in self:  # a copy: what waited may end sockets
            socket.connection.release()

    def close_all(self, code: CloseCode, after: float | None = None) -> int:
        """Close every socket of this node, as when it stops."""
        return self._close(self._by_session.values(), code, after)

    @staticmethod
    def _close(sockets: Iterable[HubSocket], code: CloseCode, after: float | None = None) -> int:
        count = 0
        for socket in tuple(sockets):
            socket.close(code, after)
            count += 1
        return count
