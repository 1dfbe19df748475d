"""The bus over Redis: a stream for each room's log, and publish/subscribe between nodes.

One script appends and publishes, so messages are published in the order of the log. The
subscription has a connection of its own, which RESP2 requires. After a reconnect every room is
subscribed again and its listener is notified of the gap.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import secrets
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any, cast

from hiredis import ProtocolError, Reader, ReplyError

from services.errors import StoreUnavailable
from services.loop_watch import LoopWatch, never_stalled
from services.redis.address import Address
from services.bus.bus import BusListener, LoggedMessage, Window, id_order
from services.redis.cluster import ClusterAddress
from services.redis.forms import address_of
from services.redis.link import error_word, pack
from services.bus.log_clock import TOLERANCE_MS, LogClock
from services.redis.store import Command, Store
from services.secret import Secret
from services.tasks import end_tasks

PROBE_SECONDS = 0.5
TIMEOUT_SECONDS = 1.0
FIRST_DELAY_SECONDS, LAST_DELAY_SECONDS = 0.05, 1.0
WARN_SECONDS = 2.0
"""A subscription that Redis refuses for longer is logged, unless the store is refused too."""
TOUCHED_MS = 60_000

# The counter `n` shows whether the log still begins with the room's first message, and where one
# is missing. KEYS[4] lists the ids of one sender's messages, up to the sender's share of the log;
# some of them may have been trimmed. All keys share the room's hash tag, so that a cluster stores
# them on one node. Redis does not roll back a script that fails: if PUBLISH is refused (ACL), the
# script removes the message from the log itself.
_KEEP = """
local n = redis.call('INCR', KEYS[2])
local id = redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', 'n', n, 'm', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[2])
local published = redis.pcall('PUBLISH', KEYS[3], 'k' .. id .. ' ' .. ARGV[3])
if type(published) ~= 'number' then
  redis.call('XDEL', KEYS[1], id)
  redis.call('DECR', KEYS[2])
  return redis.error_reply('NOPERM ' .. published.err)
end
if KEYS[4] then
  local kept = redis.call('RPUSH', KEYS[4], id)
  redis.call('PEXPIRE', KEYS[4], ARGV[2])
  local share = tonumber(ARGV[4])
  if kept > share and redis.call('XLEN', KEYS[1]) > tonumber(ARGV[1]) then
    while kept > share do
      kept = kept - 1
      if redis.call('XDEL', KEYS[1], redis.call('LPOP', KEYS[4])) == 1 then break end
    end
  end
end
return id
"""
# The same for a Redis whose clock may be behind: ARGV[5] is the earliest time that it may be
# (log_clock.py). Redis 6.2 does not accept a partial id, so the script builds the whole id.
_KEEP_LATE = """
local own_id, floor, t = '*', tonumber(ARGV[5]), redis.call('TIME')
if floor - (t[1] * 1000 + math.floor(t[2] / 1000)) > tonumber(ARGV[6]) then
  local top = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
  local ms, number = string.match(top and top[1] or '0-0', '(%d+)-(%d+)')
  own_id = string.format('%.0f-0', floor)
  if tonumber(ms) >= floor then own_id = string.format('%s-%.0f', ms, number + 1) end
end
""" + _KEEP.replace("'*'", "own_id")

log = logging.getLogger("usher.bus")


EPOCH_KEY = "usher:{nodes}:epoch"
"""A random value stored with the logs. If it differs, every log was lost and started again."""
EPOCH_MS = 7 * 24 * 3_600_000


def log_key(room: str) -> str:
    """The stream that is a room's log."""
    return f"usher:{{{room}}}:log"


def count_key(room: str) -> str:
    """The counter of messages ever appended to the room's log."""
    return f"usher:{{{room}}}:count"


def sender_key(room: str, sender: str) -> str:
    """The list of the ids of one sender's latest messages."""
    return f"usher:{{{room}}}:by:{sender}"


def touch_key(room: str) -> str:
    """A key written to check that Redis accepts writes to the room's log, in the same slot."""
    return f"usher:{{{room}}}:touched"


def channel(room: str) -> str:
    """The publish/subscribe channel of a room."""
    return f"usher:{{{room}}}:said"


class RedisBus:
    """`Bus` over Redis.

    Args:
        url: the same as the store's. In a cluster the subscription may be on any node that is
            up, because a message published on one node reaches all of them.
        store: used for everything except the subscription.
        keep_messages: the approximate maximum length of a room's log.
        keep_seconds: a log expires this long after its last message; older messages in a log
            that has not expired are not returned.
        watch: after a stall of the event loop, messages are delivered only once it resumes.
    """

    def __init__(
        self,
        url: Secret | str,
        store: Store,
        keep_messages: int,
        keep_seconds: float,
        watch: LoopWatch | None = None,
    ) -> None:
        self._store = store
        self._keep_messages, self._keep_ms = keep_messages, int(keep_seconds * 1000)
        address = address_of(url)
        # While a slot migrates, refused commands are sent again, after later commands.
        self.keeps_order = not isinstance(address, ClusterAddress)
        stalled = never_stalled if watch is None else watch.check
        self._subscription = _Subscription(address, store, stalled, self._forget_epoch)
        self._log_clock = LogClock(self._keep_ms)
        self.in_time = False
        self.epoch = ""
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
        if sender:
            keys.append(sender_key(room, sender))
        share = max(1, self._keep_messages // 2)
        limits = self._keep_messages, self._keep_ms, body, share
        known_ms = 0 if self.in_time else self._log_clock.now_ms()
        if not known_ms:
            return _id_in(self._store.call(("EVAL", _KEEP, len(keys), *keys, *limits)))
        late = (*limits, known_ms, TOLERANCE_MS)
        return _id_in(self._store.call(("EVAL", _KEEP_LATE, len(keys), *keys, *late)))

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
        return Window([_kept(e) for e in found[:limit]], complete, more=len(found) > limit)

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
        messages = [_kept(entry) for entry in found[:limit]]
        more = len(found) > limit
        return Window(
            messages, complete, more, now_ms / 1000, self.epoch, bool(known), self.in_time
        )

    async def touch(self, room: str) -> None:
        await self._store.call(("SET", touch_key(room), b"1", "PX", TOUCHED_MS))

    def forget_old(self) -> None:
        """Redis expires logs itself; renew the epoch's expiry while a node is running."""
        self._store.call(("PEXPIRE", EPOCH_KEY, EPOCH_MS))

    async def close(self) -> None:
        await self._subscription.close()


async def _id_in(replies: Awaitable[list[Any]]) -> str:
    (message_id,) = await replies
    return str(message_id.decode())


def _kept(entry: Any) -> LoggedMessage:
    message_id, fields = entry
    return LoggedMessage(message_id.decode(), fields[3])


def _number(entry: Any) -> int:
    return int(entry[1][1])


class _Subscription:
    """The subscribed rooms, across reconnects."""

    def __init__(
        self,
        address: Address,
        store: Store,
        stalled: Callable[[], bool],
        on_lost: Callable[[], None],
    ) -> None:
        self._address, self._store, self._stalled = address, store, stalled
        self._on_lost = on_lost
        self.listener: BusListener | None = None
        self._rooms: dict[str, asyncio.Future[None] | None] = {}
        """None once the subscription of a room is confirmed."""
        self._rooms_by_channel: dict[bytes, str] = {}
        self._connection: _SubscribedConnection | None = None
        self._lost = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._refused, self._refused_at = "", 0.0
        self._issued: list[Command] = []

    async def open(self) -> None:
        await self._connect()
        self._keeper = asyncio.create_task(self._reconnect_loop(), name="bus-keeper")

    async def close(self) -> None:
        await end_tasks(self._keeper)
        if self._connection is not None:
            self._connection.lose()

    def reconnect(self) -> None:
        """See `RedisBus.reconnect`."""
        if self._connection is not None:
            self._connection.lose()

    def resume(self) -> None:
        """Deliver the messages received during a stall of the event loop."""
        if self._connection is not None:
            self._connection.resume()

    @property
    def is_connected(self) -> bool:
        return self._connection is not None

    def subscribe(self, room: str) -> asyncio.Future[None] | None:
        if room not in self._rooms:
            # Without a connection nobody waits: after the reconnect the log is read.
            loop = asyncio.get_running_loop()
            future = None if self._connection is None else loop.create_future()
            self._rooms[room] = future
            self._rooms_by_channel[channel(room).encode()] = room
            self._issue("SUBSCRIBE", room)
        return self._rooms[room]

    def unsubscribe(self, room: str) -> None:
        if room in self._rooms:
            waiting = self._rooms.pop(room)
            del self._rooms_by_channel[channel(room).encode()]
            _resolve(waiting)
            self._issue("UNSUBSCRIBE", room)

    def _issue(self, verb: str, room: str) -> None:
        if self._connection is None:
            return  # all rooms are subscribed once there is a connection
        if not self._issued:
            asyncio.get_running_loop().call_soon(self._flush)
        self._issued.append((verb, channel(room)))

    def _flush(self) -> None:
        issued, self._issued = self._issued, []
        if self._connection is not None:
            self._connection.write(issued)

    async def _reconnect_loop(self) -> None:
        delay, loop = FIRST_DELAY_SECONDS, asyncio.get_running_loop()
        while True:
            if self._connection is not None:
                since = loop.time()
                await self._lost.wait()
                # If the connection was lost at once, the back-off continues.
                if loop.time() - since > LAST_DELAY_SECONDS:
                    delay, self._refused = FIRST_DELAY_SECONDS, ""
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
            delay = min(delay * 2, LAST_DELAY_SECONDS)
            await self._connect()

    async def _connect(self) -> None:
        connection = _SubscribedConnection(
            self._on_message, self._connection_lost, self._subscription_refused, self._stalled
        )
        try:
            await asyncio.wait_for(self._address.connect(connection), TIMEOUT_SECONDS)
        except (OSError, StoreUnavailable, asyncio.TimeoutError) as error:
            log.debug("the bus is not connected: %s", type(error).__name__)
            return
        connection.write(self._address.greeting)
        self._lost.clear()
        self._connection, self._issued = connection, []
        connection.write(("SUBSCRIBE", channel(room)) for room in tuple(self._rooms))

    def _subscription_refused(self, word: str) -> None:
        now = asyncio.get_running_loop().time()
        if word != self._refused:
            self._refused, self._refused_at = word, now
        elif now - self._refused_at > WARN_SECONDS and self._store.available:
            # The store logs its own refusals. This is logged once per period of refusals.
            log.warning("redis refuses the subscription to rooms: %s", word)
            self._refused_at = math.inf

    def _connection_lost(self, connection: _SubscribedConnection) -> None:
        if connection is not self._connection:
            return
        self._connection = None
        self._on_lost()
        self._lost.set()
        for room, waiting in self._rooms.items():
            if waiting is not None:
                self._rooms[room] = None
                _resolve(waiting)

    def _on_message(self, kind: bytes, name: bytes, body: Any) -> None:
        room = self._rooms_by_channel.get(name)
        if room is None or self.listener is None:
            return
        if kind == b"subscribe":
            self._subscribed(room, self.listener)
        elif body[:1] == b"k":
            message_id, _, text = body[1:].partition(b" ")
            self.listener.logged(room, LoggedMessage(message_id.decode(), text))
        else:
            self.listener.ephemeral(room, body[1:])

    def _subscribed(self, room: str, listener: BusListener) -> None:
        waiting = self._rooms[room]
        self._rooms[room] = None
        if waiting is None:
            listener.gap(room)  # resubscribed: the connection was lost in between
        else:
            _resolve(waiting)


def _resolve(waiting: asyncio.Future[None] | None) -> None:
    """Resolve a pending subscription: it is confirmed, or the connection is lost."""
    if waiting is not None and not waiting.done():
        waiting.set_result(None)


class _SubscribedConnection(asyncio.Protocol):
    """One connection in subscribed mode. Calls `on_message` with kind, channel and body."""

    def __init__(
        self, on_message: Any, on_lost: Any, on_refused: Any, stalled: Callable[[], bool]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_message, self._on_lost, self._on_refused = on_message, on_lost, on_refused
        self._stalled = stalled
        self._undelivered: list[bytes] = []
        """Data received during a stall; reading is paused, so the rest stays in the kernel."""
        self._due = 0.0
        self._reader = Reader()
        self._transport: asyncio.Transport | None = None
        self._last_received = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._alive = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        # Not at once: the greeting must be sent first.
        self._probe_later()

    def _probe_later(self) -> None:
        self._due = self._loop.time() + PROBE_SECONDS
        self._timer = self._loop.call_later(PROBE_SECONDS, self._probe)

    def write(self, commands: Iterable[Command]) -> None:
        payload = b"".join(map(pack, commands))
        if payload and self._transport is not None:
            self._transport.write(payload)

    def _probe(self) -> None:
        """Send PING, and close the connection if Redis has not replied to the previous ones."""
        now = self._loop.time()
        # After a stall of our own loop the replies are unread in the socket, as in link.py.
        unread = self._undelivered or now - self._due > PROBE_SECONDS
        if not unread and now - self._last_received > TIMEOUT_SECONDS + PROBE_SECONDS:
            self.lose()
            return
        self.write([("PING",)])
        self._probe_later()

    def data_received(self, data: bytes) -> None:
        self._last_received = self._loop.time()
        if self._stalled():
            self._undelivered.append(data)
            if self._transport is not None:
                self._transport.pause_reading()
        else:
            self._read(data)

    def resume(self) -> None:
        """Deliver undelivered data, after the other callbacks of the resume."""
        if self._undelivered:
            self._loop.call_soon(self._read_undelivered)

    def _read_undelivered(self) -> None:
        undelivered, self._undelivered = self._undelivered, []
        self._read(b"".join(undelivered))
        if self._alive and self._transport is not None:
            self._transport.resume_reading()

    def _read(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            while self._alive and (reply := self._reader.gets()) is not False:
                if isinstance(reply, ReplyError):  # a refused room must not look subscribed
                    self._on_refused(error_word(reply))
                    self.lose()
                    return
                if isinstance(reply, list) and reply[0] in (b"message", b"subscribe"):
                    self._on_message(reply[0], reply[1], reply[2])
        except ProtocolError:
            self.lose()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lose()

    def lose(self) -> None:
        if not self._alive:
            return
        self._alive = False
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.abort()
        self._on_lost(self)
