"""Socket sessions in Redis: all open sockets with their users and expiry.

A record is a key under a lease that its node renews; the records of a dead node expire with the
lease. There is no leader, no lock and no reaper. A record holds user id, name, role and times, but
no e-mail address and no token. While Redis is unavailable the sockets stay open. Their records come
back with the next renewal, because a renewal writes the whole record.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from itertools import islice

import msgspec

from services.redis.store import Command, Store
from services.sockets.room_index import RoomIndex

LEASE_SECONDS = 30.0
"""The contract: sessions of a dead node are gone after 30 s."""
LEASE_MS = int(LEASE_SECONDS * 1000)
RENEW_SECONDS = 10.0
"""Three chances within a lease."""
RENEW_BATCH = 200
"""Sockets renewed in one iteration of the loop, so that 100,000 of them never block it."""
LOOKUP_BATCH = 500
"""Records asked for in one round trip: the room of a lookup may have 10,000 sockets."""


class SocketSession(msgspec.Struct, frozen=True, gc=False):
    """What is known of an open socket. Times are epoch seconds."""

    session_id: str
    user_id: str
    login_session_id: str
    name: str
    role: str
    node: str
    connected_at: float
    expires_at: float


_DECODER = msgspec.json.Decoder(SocketSession)
_encode = msgspec.json.Encoder().encode


def session_key(session_id: str) -> str:
    """The record of one socket session."""
    return f"usher:socket:{{{session_id}}}"


def user_index_key(user_id: str) -> str:
    """The socket sessions of a user: `login session/socket session`, scored by lease end."""
    return f"usher:{{{user_id}}}:sockets"


class SessionPool:
    """Lookups and upkeep of socket sessions across all nodes."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._store, self._clock = store, clock
        self._rooms = RoomIndex(store, clock)

    # ---- upkeep ----------------------------------------------------------------------------

    def _write_commands(self, session: SocketSession) -> tuple[Command, ...]:
        return (
            record_command(session),
            *index_commands(session.user_id, _index_member(session), self._clock()),
        )

    def write(self, session: SocketSession) -> None:
        """Write or renew a record, without waiting: it is sent with the commands of this loop
        iteration.

        Fails quietly while Redis is away; the next renewal makes up for it.
        """
        self._store.tell(*self._write_commands(session))

    def write_record(self, session: SocketSession) -> None:
        """Like `write`, for a socket whose place in its user's index was just taken
        (socket_limit.py)."""
        self._store.tell(record_command(session))

    def remove(self, session: SocketSession) -> None:
        """Take a record out, without waiting."""
        self._store.tell(
            ("DEL", session_key(session.session_id)),
            ("ZREM", user_index_key(session.user_id), _index_member(session)),
        )

    async def renew(self, sessions: Iterable[SocketSession]) -> None:
        """Renew the leases of this node's sockets, a batch at a time.

        Args:
            sessions: read batch by batch, so that it may omit sockets that were closed meanwhile:
                the record of a closed socket must not be written again.

        Raises:
            StoreUnavailable: Redis is away; the sockets stay all the same.
        """
        waiting = iter(sessions)
        while batch := list(islice(waiting, RENEW_BATCH)):
            await self._store.call(*(c for s in batch for c in self._write_commands(s)))

    # ---- lookups ---------------------------------------------------------------------------

    async def get(self, session_id: str) -> SocketSession | None:
        """A socket session by its id.

        Raises:
            StoreUnavailable: Redis is away.
        """
        (record,) = await self._store.call(("GET", session_key(session_id)))
        return None if record is None else _DECODER.decode(record)

    async def user_id_of(self, session_id: str) -> str | None:
        """Whose a socket session is.

        Raises:
            StoreUnavailable: Redis is away.
        """
        session = await self.get(session_id)
        return session.user_id if session else None

    async def of_user(self, user_id: str) -> list[SocketSession]:
        """The socket sessions of a user, on every node.

        Raises:
            StoreUnavailable: Redis is away.
        """
        return await self._records(member for _, member in await self._index(user_id))

    async def of_login_session(self, user_id: str, login_session_id: str) -> list[SocketSession]:
        """The socket sessions of one login session, on every node.

        Raises:
            StoreUnavailable: Redis is away.
        """
        index = await self._index(user_id)
        return await self._records(member for sid, member in index if sid == login_session_id)

    async def of_room(self, room: str) -> list[SocketSession]:
        """The socket sessions that are in a room, on every node.

        In the room of a user's own sockets (`user:…`) that is all of them, also one that has left
        it: it has no index, because a join would pay for it.

        Raises:
            StoreUnavailable: Redis is away.
        """
        kind, _, subject = room.partition(":")
        if kind == "user":
            return await self.of_user(subject)
        return await self._records(entry.session_id for entry in await self._rooms.read(room))

    async def counts(self, user_id: str) -> dict[str, int]:
        """How many sockets each login session of a user has open, on every node.

        Raises:
            StoreUnavailable: Redis is away.
        """
        counted: dict[str, int] = {}
        for login_session_id, _ in await self._index(user_id):
            counted[login_session_id] = counted.get(login_session_id, 0) + 1
        return counted

    async def _index(self, user_id: str) -> list[tuple[str, str]]:
        """(login session, socket session) pairs whose lease holds; the rest is swept out."""
        key, now = user_index_key(user_id), self._clock()
        _, members = await self._store.call(
            ("ZREMRANGEBYSCORE", key, "-inf", now), ("ZRANGEBYSCORE", key, now, "+inf")
        )
        pairs = (member.decode().split("/", 1) for member in members)
        return [(login_session_id, session_id) for login_session_id, session_id in pairs]

    async def _records(self, session_ids: Iterable[str]) -> list[SocketSession]:
        found: list[SocketSession] = []
        waiting = iter(session_ids)
        while batch := list(islice(waiting, LOOKUP_BATCH)):
            records = await self._store.call(*(("GET", session_key(i)) for i in batch))
            found += (_DECODER.decode(record) for record in records if record is not None)
        return found


def index_commands(user_id: str, member: str, now: float) -> tuple[Command, Command]:
    """Write an entry of a user's index, or renew it. `now`: epoch seconds."""
    index = user_index_key(user_id)
    return ("ZADD", index, now + LEASE_SECONDS, member), ("PEXPIRE", index, LEASE_MS)


def record_command(session: SocketSession) -> Command:
    """Write a record, or renew it."""
    return ("SET", session_key(session.session_id), _encode(session), "PX", LEASE_MS)


def _index_member(session: SocketSession) -> str:
    return f"{session.login_session_id}/{session.session_id}"
