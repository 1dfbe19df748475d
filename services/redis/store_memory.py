"""The store in the memory of this process, for one node without Redis.

It is used only where no redis-server binary can be found. It implements the commands listed in
`services.redis.store` and replies as Redis does. One contract suite runs against both.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable, Iterable
from typing import Any

from services.errors import StoreUnavailable
from services.redis.memory_arguments import (
    INT64,
    ReplyError,
    bound,
    integer,
    packed_argument,
    pairs_of,
    range_options,
    score_of,
    score_text,
    set_options,
)
from services.redis.store import Command, Then, pass_on

Hash = dict[bytes, bytes]
SortedSet = dict[bytes, float]

MAX_ENTRIES = 200_000
"""Keys, hash fields and sorted-set members in all: some tens of MB at the sizes Usher uses."""


class MemoryStore:
    """`Store` in memory: bounded, with expiry, lost with the process.

    Expired keys are swept at every call, soonest first, so no timer is needed.

    Args:
        max_entries: the most entries held. Beyond it, commands that would add one are refused
            with OOM, as a full Redis does, and nothing is evicted: without its revocation or
            its mark as used, a credential would be valid again.
        clock: a monotonic clock, in seconds.
    """

    kind = "memory"
    available = True
    nearly_full = False
    memory_share = 0.0

    @staticmethod
    def epoch(_key: str) -> str | None:
        """See `Store.epoch`. It never changes: memory is never restored from an older copy."""
        return "memory"

    def __init__(
        self, *, max_entries: int = MAX_ENTRIES, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_entries = max_entries
        self._clock = clock
        self._now = clock()
        self._closed = False
        self._values: dict[bytes, bytes | Hash | SortedSet] = {}
        self._kinds: dict[bytes, str] = {}
        self._deadlines: dict[bytes, float] = {}
        self._queue: list[tuple[float, bytes]] = []  # deadlines, those overtaken included
        self._entries = 0

    def look_at_memory(self) -> None:
        """See `Store.look_at_memory`. No room's log is kept here."""

    def call(self, *commands: Command) -> asyncio.Future[list[Any]]:
        """See `Store.call`."""
        if not all(commands):
            raise ValueError("an empty command")
        packed = [[packed_argument(part) for part in command] for command in commands]
        future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._sweep()
        # Like Redis, execute the commands after one that is refused.
        replies = [self._run(name.upper(), arguments) for name, *arguments in packed]
        refused = (reply for reply in replies if isinstance(reply, StoreUnavailable))
        if (error := next(refused, None)) is not None:
            future.set_exception(error)
            future.exception()  # marked as retrieved: a group that is never awaited fails silently
        else:
            future.set_result(replies)
        return future

    def tell(self, *commands: Command, then: Then | None = None) -> None:
        """See `Store.tell`."""
        pass_on(self.call(*commands), then)

    async def close(self) -> None:
        self._closed = True
        self._values.clear()

    def _run(self, name: bytes, arguments: list[bytes]) -> Any:
        if self._closed:
            return StoreUnavailable("closed")
        try:
            command, least, most = _COMMANDS.get(name, (None, 0, 0))
            if command is None or not least <= len(arguments) <= most:
                raise ReplyError("ERR")
            return command(self, *arguments)
        except ReplyError as error:
            return StoreUnavailable(f"{name.decode('ascii', 'replace')}: {error}")

    # Keys

    def _sweep(self) -> None:
        self._now = self._clock()
        while self._queue and self._queue[0][0] <= self._now:
            deadline, key = heapq.heappop(self._queue)
            if self._deadlines.get(key) == deadline:
                self._drop(key)
        if len(self._queue) > 2 * len(self._deadlines) + 64:  # leases are renewed all the time
            self._queue = [(deadline, key) for key, deadline in self._deadlines.items()]
            heapq.heapify(self._queue)

    def _drop(self, key: bytes) -> bool:
        value = self._values.pop(key, None)
        if value is None:
            return False
        self._entries -= 1 if isinstance(value, bytes) else len(value)
        del self._kinds[key]
        self._deadlines.pop(key, None)
        return True

    def _get(self, key: bytes, kind: str) -> Any:
        if self._kinds.get(key, kind) != kind:
            raise ReplyError("WRONGTYPE")
        return self._values.get(key)

    def _reserve(self, count: int) -> None:
        if self._entries + count > self._max_entries:
            raise ReplyError("OOM")
        self._entries += count

    def _put(self, key: bytes, value: bytes) -> None:
        if key not in self._values:
            self._reserve(1)
        self._values[key] = value
        self._kinds[key] = "string"

    def _expire_at(self, key: bytes, milliseconds: int) -> None:
        deadline = self._now + milliseconds / 1000
        self._deadlines[key] = deadline
        heapq.heappush(self._queue, (deadline, key))

    def delete(self, *keys: bytes) -> int:
        return sum(self._drop(key) for key in keys)

    def exists(self, *keys: bytes) -> int:
        return sum(key in self._values for key in keys)

    def expire(self, key: bytes, seconds: bytes) -> int:
        return self._expire(key, integer(seconds) * 1000)

    def pexpire(self, key: bytes, milliseconds: bytes) -> int:
        return self._expire(key, integer(milliseconds))

    def _expire(self, key: bytes, milliseconds: int) -> int:
        if abs(milliseconds) >= INT64 // 2:
            raise ReplyError("ERR")
        if key not in self._values:
            return 0
        if milliseconds > 0:
            self._expire_at(key, milliseconds)
        else:
            self._drop(key)
        return 1

    def pttl(self, key: bytes) -> int:
        if key not in self._values:
            return -2
        deadline = self._deadlines.get(key)
        return -1 if deadline is None else round((deadline - self._now) * 1000)

    def ttl(self, key: bytes) -> int:
        left = self.pttl(key)
        return left if left < 0 else (left + 500) // 1000

    # Strings

    def get(self, key: bytes) -> Any:
        return self._get(key, "string")

    def mget(self, *keys: bytes) -> list[Any]:
        return [self._values[k] if self._kinds.get(k) == "string" else None for k in keys]

    def set(self, key: bytes, value: bytes, *options: bytes) -> bytes | None:
        only_new, with_old, milliseconds = set_options(options)
        if only_new and key in self._values:
            return None
        old = self._get(key, "string") if with_old else b"OK"
        if self._kinds.get(key, "string") != "string":
            self._drop(key)
        self._put(key, value)
        self._deadlines.pop(key, None)
        if milliseconds is not None:
            self._expire_at(key, milliseconds)
        return old

    def getdel(self, key: bytes) -> Any:
        value = self._get(key, "string")
        self._drop(key)
        return value

    def incr(self, key: bytes) -> int:
        value = self._get(key, "string")
        number = integer(value if value is not None else b"0") + 1
        if number >= INT64:
            raise ReplyError("ERR")
        self._put(key, b"%d" % number)
        return number

    def ping(self, text: bytes = b"PONG") -> bytes:
        return text

    # Hashes and sorted sets: both are created with their first member and deleted with their last.

    def _add(self, key: bytes, kind: str, members: dict[bytes, Any]) -> int:
        value = self._get(key, kind)
        new = len(members) if value is None else sum(name not in value for name in members)
        self._reserve(new)
        if value is None:
            value = self._values[key] = {}
            self._kinds[key] = kind
        value.update(members)
        return new

    def _remove(self, key: bytes, kind: str, members: Iterable[bytes]) -> int:
        value = self._get(key, kind)
        if value is None:
            return 0
        gone = sum(value.pop(name, None) is not None for name in members)
        self._entries -= gone
        if not value:
            self._drop(key)
        return gone

    def hset(self, key: bytes, *pairs: bytes) -> int:
        return self._add(key, "hash", dict(pairs_of(pairs)))

    def hget(self, key: bytes, field: bytes) -> Any:
        return (self._get(key, "hash") or {}).get(field)

    def hgetall(self, key: bytes) -> list[bytes]:
        fields: Hash = self._get(key, "hash") or {}
        return [part for pair in fields.items() for part in pair]

    def hdel(self, key: bytes, *fields: bytes) -> int:
        return self._remove(key, "hash", fields)

    def zadd(self, key: bytes, *pairs: bytes) -> int:
        members = {member: score_of(score) for score, member in pairs_of(pairs)}
        return self._add(key, "zset", members)

    def zrem(self, key: bytes, *members: bytes) -> int:
        return self._remove(key, "zset", members)

    def zcard(self, key: bytes) -> int:
        return len(self._get(key, "zset") or ())

    def zrangebyscore(self, key: bytes, least: bytes, most: bytes, *options: bytes) -> list[bytes]:
        with_scores, offset, count = range_options(options)
        found = self._between(key, least, most)
        if offset < 0:
            return []
        found = found[offset:] if count < 0 else found[offset : offset + count]
        if not with_scores:
            return [member for _, member in found]
        return [part for score, member in found for part in (member, score_text(score))]

    def zremrangebyscore(self, key: bytes, least: bytes, most: bytes) -> int:
        return self._remove(key, "zset", [m for _, m in self._between(key, least, most)])

    def _between(self, key: bytes, least: bytes, most: bytes) -> list[tuple[float, bytes]]:
        low, above = bound(least)
        high, below = bound(most)
        members: SortedSet = self._get(key, "zset") or {}
        return sorted(
            (score, member)
            for member, score in members.items()
            if (score > low if above else score >= low)
            and (score < high if below else score <= high)
        )


_MANY = 1 << 20

_COMMANDS: dict[bytes, tuple[Callable[..., Any] | None, int, int]] = {
    # name: method, least and most arguments
    b"DEL": (MemoryStore.delete, 1, _MANY),
    b"EXISTS": (MemoryStore.exists, 1, _MANY),
    b"EXPIRE": (MemoryStore.expire, 2, 2),
    b"PEXPIRE": (MemoryStore.pexpire, 2, 2),
    b"TTL": (MemoryStore.ttl, 1, 1),
    b"PTTL": (MemoryStore.pttl, 1, 1),
    b"GET": (MemoryStore.get, 1, 1),
    b"MGET": (MemoryStore.mget, 1, _MANY),
    b"SET": (MemoryStore.set, 2, 5),
    b"GETDEL": (MemoryStore.getdel, 1, 1),
    b"INCR": (MemoryStore.incr, 1, 1),
    b"PING": (MemoryStore.ping, 0, 1),
    b"HSET": (MemoryStore.hset, 3, _MANY),
    b"HGET": (MemoryStore.hget, 2, 2),
    b"HGETALL": (MemoryStore.hgetall, 1, 1),
    b"HDEL": (MemoryStore.hdel, 2, _MANY),
    b"ZADD": (MemoryStore.zadd, 3, _MANY),
    b"ZREM": (MemoryStore.zrem, 2, _MANY),
    b"ZCARD": (MemoryStore.zcard, 1, 1),
    b"ZRANGEBYSCORE": (MemoryStore.zrangebyscore, 3, 7),
    b"ZREMRANGEBYSCORE": (MemoryStore.zremrangebyscore, 3, 3),
}
