"""The bus over Redis: a stream for each room's log, and publish/subscribe between nodes.

One script appends and publishes, so messages are published in the order of the log. The
subscription has a connection of its own, which RESP2 requires (subscription.py).
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Collection
from contextlib import suppress
from typing import Any

from services.bus.bus import LARGE_BYTES, SENDER_BYTES, BusListener, LoggedMessage, Window, id_order
from services.bus.log_clock import TOLERANCE_MS, LogClock
from services.bus.log_keys import (
    EPOCH_KEY,
    EPOCH_MS,
    channel,
    count_key,
    freed_key,
    large_key,
    log_key,
    sender_key,
    touch_key,
)
from services.bus.log_scripts import KEEP, KEEP_IN_PLACE, KEEP_IN_PLACE_LATE, KEEP_LATE
from services.bus.subscription import Subscription
from services.errors import StoreUnavailable
from services.event_loop.loop_watch import LoopWatch, never_stalled
from services.redis.cluster import ClusterAddress
from services.redis.forms import address_of
from services.redis.store import Command, Store
from services.secret import Secret

TOUCHED_MS = 60_000
AROUND_TEXT_BYTES, AROUND_LARGE_BYTES = 64, 512
"""What Redis stores around the text of a message, and of a large one: its place in the log and
among its sender's. Without it, many small messages would take the place of a few long ones."""
STOPPED = 0.95
"""The share of its memory from which a Redis keeps no text at all: a message then only removes its
sender's oldest. Not every byte of those is freed, because several messages lie in one block."""
UNSEEN_BYTES = 256 * 1024
"""Logged by this node before it looks again how much memory Redis uses."""
COUNTED_PAGE = 100
"""Entries read at one time while looking for one with a text."""


class RedisBus:
    """`Bus` over Redis.

    Args:
        url: the same as the store's. In a cluster the subscription may be on any node that is
            up, because a message published on one node reaches all of them.
        store: used for everything except the subscription.
        keep_messages: the approximate maximum length of a room's log.
        keep_seconds: a log expires this long after its last message; older messages in a log
            that has not expired are not returned.
        sender_bytes: how many bytes of one sender's large messages a room's log keeps.
        watch: after a stall of the event loop, messages are delivered only once it resumes.
    """

    def __init__(
        self,
        url: Secret | str,
        store: Store,
        keep_messages: int,
        keep_seconds: float,
        watch: LoopWatch | None = None,
        sender_bytes: int = SENDER_BYTES,
    ) -> None:
        self._store, self._sender_bytes = store, sender_bytes
        self._keep_messages, self._keep_ms = keep_messages, int(keep_seconds * 1000)
        address = address_of(url)
        # While a slot migrates, refused commands are sent again, after later commands.
        self.keeps_order = not isinstance(address, ClusterAddress)
        stalled = never_stalled if watch is None else watch.check
        self._subscription = Subscription(address, store, stalled, self._forget_epoch)
        self._log_clock = LogClock(self._keep_ms)
        self.in_time = False
        self.epoch = ""
        self._unseen = 0
        if watch is not None:
            watch.on_resume(self._subscription.resume)

    async def open(self) -> None:
        """Try once to connect the subscription, then keep it connected in the background."""
        await self._subscription.open()
        with suppress(StoreUnavailable):  # the gap after the reconnect reads them
            await self._read_clock_and_epoch()

    def _forget_epoch(self) -> None:
        # The next connection may be to another Redis.
        self.in_time, self.epoch = False, ""

    async def _read_clock_and_epoch(self, *commands: Command) -> tuple[int, list[Any]]:
        """Read the clock and the epoch, and issue `commands` in the same round trip.

        Returns:
            The time used for message ids, epoch milliseconds, and the replies to `commands`.
        """
        now, _, epoch, *replies = await self._store.call(
            ("TIME",),
            ("SET", EPOCH_KEY, secrets.token_hex(8), "PX", EPOCH_MS, "NX"),
            ("GET", EPOCH_KEY),
            *commands,
        )
        now_ms = int(now[0]) * 1000 + int(now[1]) // 1000
        is_current = self._log_clock.look(now_ms)
        if self._subscription.is_connected:
            self.in_time, self.epoch = is_current, bytes(epoch or b"").decode()
        return (now_ms if is_current else self._log_clock.now_ms()), replies

    def reconnect(self) -> None:
        """Reconnect the subscription, because the store may have moved to another server."""
        self._subscription.reconnect()

    def listen(self, listener: BusListener) -> None:
        self._subscription.listener = listener

    def subscribe(self, room: str) -> asyncio.Future[None] | None:
        return self._subscription.subscribe(room)

    def unsubscribe(self, room: str) -> None:
        self._subscription.unsubscribe(room)

    def keep(self, room: str, body: bytes, sender: str = "") -> Awaitable[str]:
        keys = [log_key(room), count_key(room), channel(room)]
        self._unseen += len(body)
        if self._unseen > UNSEEN_BYTES:
            self._unseen = 0
            self._store.look_at_memory()
        # Messages between nodes have no sender, and are always kept.
        in_place = bool(sender) and self._store.nearly_full
        if sender:
            keys.append(sender_key(room, sender))
            if in_place:
                keys.append(freed_key(room, sender))
            if len(body) > LARGE_BYTES:
                keys.append(large_key(room, sender))
        share = max(1, self._keep_messages // 2)
        limits = self._keep_messages, self._keep_ms, body, share, self._sender_bytes
        place = self._place_for(len(body)) if in_place else ()
        known_ms = 0 if self.in_time else self._log_clock.now_ms()
        if not known_ms:
            script = KEEP_IN_PLACE if in_place else KEEP
            return _id_in(self._store.call(("EVAL", script, len(keys), *keys, *limits, *place)))
        script = KEEP_IN_PLACE_LATE if in_place else KEEP_LATE
        late = (*limits, known_ms, TOLERANCE_MS, *place)
        return _id_in(self._store.call(("EVAL", script, len(keys), *keys, *late)))

    def _place_for(self, size: int) -> tuple[int, int]:
        """While Redis is nearly full: the bytes that are counted around a text, and whether it is
        kept in the place of others."""
        around = AROUND_LARGE_BYTES if size > LARGE_BYTES else AROUND_TEXT_BYTES
        return around, int(self._store.memory_share < STOPPED)

    def send(self, room: str, body: bytes) -> Awaitable[object]:
        return self._store.call(("PUBLISH", channel(room), b"p" + body))

    async def read(self, room: str, after: str | None, limit: int, since: float = 0.0) -> Window:
        key = log_key(room)
        if after is not None and id_order(after) == (0, 0):
            return Window((), complete=False)
        now, first = await self._store.call(("TIME",), ("XRANGE", key, "-", "+", "COUNT", 1))
        now_ms = int(now[0]) * 1000 + int(now[1]) // 1000
        start = max(now_ms - self._keep_ms, int(since * 1000))
        # The log may begin with any number of expired messages: they are skipped, not read.
        begin = f"({after}" if id_order(after or "")[0] >= start else str(start)
        known, passed, found = await self._store.call(
            ("XRANGE", key, after or "-", after or "-"),
            ("XRANGE", key, f"({after}" if after else "-", f"({start}", "COUNT", 1),
            ("XRANGE", key, begin, "+", "COUNT", limit + 1),
        )
        from_start = after is None and (not first or _number(first[0]) == 1)
        complete = not passed and (bool(known) or from_start)
        numbers = [*map(_number, known if after else ()), *map(_number, found[:limit])]
        if numbers and numbers[-1] - numbers[0] != len(numbers) - 1:
            complete = False  # a sender exceeded their share, so messages were removed
        messages, whole, more = await self._texts(key, found, limit)
        return Window(messages, complete and whole, more)

    async def _texts(
        self, key: str, found: list[Any], limit: int
    ) -> tuple[list[LoggedMessage], bool, bool]:
        """The messages among entries, of which there is one more than `limit` if there are more.

        Returns:
            The messages, at least one if there is one behind; whether none was only counted,
            because Redis was nearly full; and whether there are more.
        """
        messages = _messages(found[:limit])
        whole, more = len(messages) == len(found[:limit]), len(found) > limit
        page, seen = max(limit, COUNTED_PAGE), found[:limit]
        while more and not messages:
            after = f"({seen[-1][0].decode()}"
            (seen,) = await self._store.call(("XRANGE", key, after, "+", "COUNT", page))
            texts = _messages(seen)
            messages, more = texts[:limit], len(seen) == page or len(texts) > limit
        return messages, whole, more

    async def read_behind(self, room: str, after: str, limit: int) -> Window:
        key = log_key(room)
        now_ms, (known, first, found) = await self._read_clock_and_epoch(
            ("XRANGE", key, after, after),
            ("XRANGE", key, "-", "+", "COUNT", 1),
            ("XRANGE", key, f"({after}", "+", "COUNT", limit + 1),
        )
        # A log that expired starts again, and no message is missing.
        old = id_order(after)[0] < now_ms - self._keep_ms
        complete = bool(known) or (old and (not first or _number(first[0]) == 1))
        messages, whole, more = await self._texts(key, found, limit)
        complete = complete and whole
        return Window(
            messages, complete, more, now_ms / 1000, self.epoch, bool(known), self.in_time
        )

    async def touch(self, room: str) -> None:
        await self._store.call(("SET", touch_key(room), b"1", "PX", TOUCHED_MS))

    def forget(self, room: str, senders: Collection[str]) -> None:
        keys = [log_key(room), count_key(room)]
        for sender in senders:
            keys += sender_key(room, sender), large_key(room, sender), freed_key(room, sender)
        self._store.tell(("DEL", *keys))

    def forget_old(self) -> None:
        """Redis expires logs itself; renew the epoch's expiry while a node is running."""
        self._store.tell(("PEXPIRE", EPOCH_KEY, EPOCH_MS))

    async def close(self) -> None:
        await self._subscription.close()


async def _id_in(replies: Awaitable[list[Any]]) -> str:
    (message_id,) = await replies
    return str(message_id.decode())


def _messages(entries: list[Any]) -> list[LoggedMessage]:
    """Those whose text was kept."""
    return [LoggedMessage(i.decode(), fields[3]) for i, fields in entries if len(fields) > 2]


def _number(entry: Any) -> int:
    return int(entry[1][1])
