"""The room index in Redis: which sockets are in a room, on all nodes.

One sorted set per room has an entry for each socket in it, scored by the end of a lease that the
socket's node renews. Presence writes it and reads users from it, the session pool reads sockets; so
a join writes it once for both. The entries of a dead node expire with their lease.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import msgspec

from services.redis.store import Store

HERE_SECONDS = 20.0
"""Lease of an entry. Nodes read the index every 10 s, so users of a dead node disappear within the
30 s of the contract."""
HERE_MS = int(HERE_SECONDS * 1000)


class Here(msgspec.Struct, frozen=True, array_like=True):
    """A user's presence on a node."""

    user_id: str
    node: str
    name: str


class Entry(Here, frozen=True, array_like=True):
    """An entry in Redis: a socket of a user on a node."""

    session_id: str


_ENTRY = msgspec.json.Decoder(Entry)
_encode = msgspec.json.Encoder().encode


def room_index_key(room: str) -> str:
    """The key of a room's sorted set: entries, scored by the end of their lease."""
    return f"usher:{{{room}}}:here"


class RoomIndex:
    """The indexes of all rooms. Writes are sent with the other commands of this loop iteration."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store, self._clock = store, clock

    def write(self, room: str, entries: Iterable[Entry]) -> Awaitable[list[Any]]:
        """Write entries, or renew them. Issued when called.

        Raises:
            StoreUnavailable: when awaited: Redis is unavailable; the next renewal repairs it.
        """
        key, end = room_index_key(room), self._clock() + HERE_SECONDS
        scored = (part for entry in entries for part in (end, _encode(entry)))
        return self._store.call(("ZADD", key, *scored), ("PEXPIRE", key, HERE_MS))

    def remove(self, room: str, entry: Entry) -> None:
        """Remove an entry, without waiting."""
        self._store.tell(("ZREM", room_index_key(room), _encode(entry)))

    async def read(self, room: str) -> list[Entry]:
        """Read the entries with a valid lease, and remove the expired ones.

        Raises:
            StoreUnavailable: Redis is unavailable.
        """
        key, now = room_index_key(room), self._clock()
        _, found = await self._store.call(
            ("ZREMRANGEBYSCORE", key, "-inf", now), ("ZRANGEBYSCORE", key, now, "+inf")
        )
        return [entry for text in found if (entry := _read(text)) is not None]


def _read(text: bytes) -> Entry | None:
    try:
        return _ENTRY.decode(text)
    except msgspec.DecodeError:
        return None  # of a node of another version
