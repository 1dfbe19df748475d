"""The bus of a single process: the logs of rooms in memory, and no other nodes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from typing import NamedTuple

from services.bus.bus import LARGE_BYTES, SENDER_BYTES, BusListener, LoggedMessage, Window, id_order
from services.errors import StoreUnavailable


class _Entry(NamedTuple):
    number: int
    sender: str
    message: LoggedMessage


class _Log:
    """One room's log."""

    def __init__(self, size: int, sender_bytes: int) -> None:
        self.entries: list[_Entry] = []
        self._size, self._sender_bytes = size, sender_bytes
        self.count = 0
        self.last_order = (0, 0)

    def add(self, sender: str, message: LoggedMessage) -> None:
        """Append a message, and remove one if the log is full, and those beyond the sender's
        bytes."""
        self.count += 1
        self.entries.append(_Entry(self.count, sender, message))
        if len(self.entries) > self._size:
            own = [n for n, entry in enumerate(self.entries) if sender and entry.sender == sender]
            del self.entries[own[0] if len(own) > max(1, self._size // 2) else 0]
        if sender and len(message.body) > LARGE_BYTES:
            self._limit_bytes(sender)

    def _limit_bytes(self, sender: str) -> None:
        """Remove the oldest large messages of a sender beyond the sender's bytes, but not the
        newest."""
        sizes = [
            (n, len(entry.message.body))
            for n, entry in enumerate(self.entries)
            if entry.sender == sender and len(entry.message.body) > LARGE_BYTES
        ]
        excess = sum(size for _, size in sizes) - self._sender_bytes
        removed = set[int]()
        for n, size in sizes[:-1]:
            if excess <= 0:
                break
            removed.add(n)
            excess -= size
        if removed:
            self.entries = [e for n, e in enumerate(self.entries) if n not in removed]


class MemoryBus:
    """`Bus` within one process. The arguments are as for RedisBus."""

    keeps_order = True
    epoch, in_time = "", True

    def __init__(
        self,
        keep_messages: int,
        keep_seconds: float,
        clock: Callable[[], float] = time.time,
        sender_bytes: int = SENDER_BYTES,
    ) -> None:
        self._sender_bytes = sender_bytes
        self._size, self._keep_ms, self._clock = keep_messages, int(keep_seconds * 1000), clock
        self._logs: dict[str, _Log] = {}
        self._subscribed: set[str] = set()
        self._listener: BusListener | None = None

    def listen(self, listener: BusListener) -> None:
        self._listener = listener

    def subscribe(self, room: str) -> None:
        self._subscribed.add(room)

    def unsubscribe(self, room: str) -> None:
        self._subscribed.discard(room)

    def keep(self, room: str, body: bytes, sender: str = "") -> asyncio.Future[str]:
        log = self._logs.setdefault(room, _Log(self._size, self._sender_bytes))
        now = int(self._clock() * 1000)
        last, number = log.last_order
        log.last_order = (now, 0) if now > last else (last, number + 1)
        message = LoggedMessage(f"{log.last_order[0]}-{log.last_order[1]}", body)
        log.add(sender, message)
        if self._listener is not None and room in self._subscribed:
            self._listener.logged(room, message)
        kept: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        kept.set_result(message.id)
        return kept

    def send(self, room: str, body: bytes) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        if self._listener is not None and room in self._subscribed:
            loop.call_soon(self._listener.ephemeral, room, body)
        sent = loop.create_future()
        sent.set_result(None)
        return sent

    async def read(self, room: str, after: str | None, limit: int, since: float = 0.0) -> Window:
        log = self._logs.get(room)
        oldest = max(int(self._clock() * 1000) - self._keep_ms, int(since * 1000))
        entries = [] if log is None else list(log.entries)
        known = 0 if after is None else -1
        if after is not None:
            order = id_order(after)
            known = next((e.number for e in entries if e.message.id == after), -1)
            entries = [e for e in entries if e.message.order > order] if order != (0, 0) else []
        young = [e for e in entries if e.message.order[0] >= oldest]
        last = young[:limit][-1].number if young else known
        whole = len(young) == len(entries) and known >= 0
        complete = whole and last - known == len(young[:limit])
        return Window([e.message for e in young[:limit]], complete, more=len(young) > limit)

    async def read_behind(self, room: str, after: str, limit: int) -> Window:
        log, order = self._logs.get(room), id_order(after)
        messages = [] if log is None else [e.message for e in log.entries]
        found = [m for m in messages if m.order > order]
        known = log is None or any(m.id == after for m in messages)
        return Window(found[:limit], known, len(found) > limit, self._clock())

    async def close(self) -> None:
        self._listener = None

    async def touch(self, room: str) -> None:
        """See `Bus.touch`.

        Raises:
            StoreUnavailable: always, because no other node shares this memory.
        """
        raise StoreUnavailable("memory: there are no other nodes")

    def forget(self, room: str, _senders: Collection[str]) -> None:
        self._logs.pop(room, None)

    def forget_old(self) -> None:
        """Remove logs whose last message is too old, as Redis does. Call it periodically."""
        oldest = int(self._clock() * 1000) - self._keep_ms
        for room in [r for r, log in self._logs.items() if log.last_order[0] < oldest]:
            del self._logs[room]
