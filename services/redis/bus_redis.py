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
from services.redis.bus import BusListener, LoggedMessage, Window, id_order
from services.redis.cluster import ClusterAddress
from services.redis.forms import address_of
from services.redis.link import error_word, pack
from services.redis.log_clock import TOLERANCE_MS, LogClock
from services.redis.store import Command, Store
from services.secret import Secret
from services.tasks import end_tasks

PROBE_SECONDS = 0.5
TIMEOUT_SECONDS = 1.0
FIRST_DELAY_SECONDS, LAST_DELAY_SECONDS = 0.05, 1.0
TELL_SECONDS = 2.0
"""After which a refused subscription is said, where the store is not refused the same."""
TOUCHED_MS = 60_000

# The number tells whether the log still begins with the room's first message, and where one is
# missing. The last key has the ids of what one sender has said, as far as their share of the log;
# some may be gone from it meanwhile. All keys share the room's hash tag, so that a cluster keeps
# them together. A script that fails half-way is not rolled back: what may not be published (ACL)
# must not lie in the log either.
_KEEP = """
local n = redis.call('INCR', KEYS[2])
local id = redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', 'n', n, 'm', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[2])
local told = redis.pcall('PUBLISH', KEYS[3], 'k' .. id .. ' ' .. ARGV[3])
if type(told) ~= 'number' then
  redis.call('XDEL', KEYS[1], id)
  redis.call('DECR', KEYS[2])
  return redis.error_reply('NOPERM ' .. told.err)
end
if KEYS[4] then
  local said = redis.call('RPUSH', KEYS[4], id)
  redis.call('PEXPIRE', KEYS[4], ARGV[2])
  local share = tonumber(ARGV[4])
  if said > share and redis.call('XLEN', KEYS[1]) > tonumber(ARGV[1]) then
    while said > share do
      said = said - 1
      if redis.call('XDEL', KEYS[1], redis.call('LPOP', KEYS[4])) == 1 then break end
    end
  end
end
return id
"""
# The same for a Redis whose clock may be behind: it is told what time it is at least
# (log_clock.py). Redis 6.2 can't be given half an id, so the whole of it is made here.
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
"""A random word that goes with the data: another one means that every log began anew."""
EPOCH_MS = 7 * 24 * 3_600_000


def log_key(room: str) -> str:
    """The stream of a room's kept messages."""
    return f"usher:{{{room}}}:log"


def count_key(room: str) -> str:
    """How many messages the room ever kept."""
    return f"usher:{{{room}}}:count"


def sender_key(room: str, sender: str) -> str:
    """The ids of what one sender has said lately."""
    return f"usher:{{{room}}}:by:{sender}"


def touch_key(room: str) -> str:
    """What is written to see that the log takes writes. In its slot."""
    return f"usher:{{{room}}}:touched"


def channel(room: str) -> str:
    """What nodes subscribe to."""
    return f"usher:{{{room}}}:said"


class RedisBus:
    """`Bus` over Redis.

    Args:
        url: the same as the store's. Over a cluster the subscription sits on any node that is
            up: what one node publishes reaches all of them.
        store: for everything but the subscription.
        keep_messages: how many messages a room's log holds, about.
        watch: after a stall of the loop, what comes over the subscription waits for it.
        keep_seconds: how long after its last message a log is forgotten; older messages in a
            living log are passed over.
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
        # While a slot moves, a cluster's refusals are sent again, behind what came after them.
        self.keeps_order = not isinstance(address, ClusterAddress)
        stalled = never_stalled if watch is None else watch.check
        self._ear = _Ear(address, store, stalled, self._line_is_lost)
        self._log_clock = LogClock(self._keep_ms)
        self.in_time = False
        self.epoch = ""
        if watch is not None:
            watch.on_resume(self._ear.resume)

    async def open(self) -> None:
        """Try once to connect the subscription; then it is kept up in the background."""
        await self._ear.open()
        with suppress(StoreUnavailable):  # a gap in the line comes first then, and asks
            await self._look_around()

    def _line_is_lost(self) -> None:
        # It may lead to another Redis from now on.
        self.in_time, self.epoch = False, ""

    async def _look_around(self, *commands: Command) -> tuple[int, list[Any]]:
        """Ask for the time and the epoch, and for other things in the same round trip.

        Returns:
            The time that ids are made of, epoch milliseconds, and the replies.
        """
        now, _, epoch, *replies = await self._store.call(
            ("TIME",),
            ("SET", EPOCH_KEY, secrets.token_hex(8), "PX", EPOCH_MS, "NX"),
            ("GET", EPOCH_KEY),
            *commands,
        )
        now_ms = int(now[0]) * 1000 + int(now[1]) // 1000
        is_right = self._log_clock.look(now_ms)
        if self._ear.is_connected:
            self.in_time, self.epoch = is_right, bytes(epoch or b"").decode()
        return (now_ms if is_right else self._log_clock.now_ms()), replies

    def reconnect(self) -> None:
        """Connect the subscription anew: the store has found another server, perhaps."""
        self._ear.reconnect()

    def listen(self, listener: BusListener) -> None:
        self._ear.listener = listener

    def subscribe(self, room: str) -> asyncio.Future[None] | None:
        return self._ear.subscribe(room)

    def unsubscribe(self, room: str) -> None:
        self._ear.unsubscribe(room)

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
        # Old messages may lie before any number of young ones: they are passed over, not read.
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
            complete = False  # somebody had more than their share of the log
        return Window([_kept(e) for e in found[:limit]], complete, more=len(found) > limit)

    async def read_behind(self, room: str, after: str, limit: int) -> Window:
        key = log_key(room)
        now_ms, (known, first, found) = await self._look_around(
            ("XRANGE", key, after, after),
            ("XRANGE", key, "-", "+", "COUNT", 1),
            ("XRANGE", key, f"({after}", "+", "COUNT", limit + 1),
        )
        # A log that is forgotten for its age begins anew, and nothing is missing.
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
        """Redis does; only the epoch is to last as long as anybody is there."""
        self._store.call(("PEXPIRE", EPOCH_KEY, EPOCH_MS))

    async def close(self) -> None:
        await self._ear.close()


async def _id_in(replies: Awaitable[list[Any]]) -> str:
    (message_id,) = await replies
    return str(message_id.decode())


def _kept(entry: Any) -> LoggedMessage:
    message_id, fields = entry
    return LoggedMessage(message_id.decode(), fields[3])


def _number(entry: Any) -> int:
    return int(entry[1][1])


class _Ear:
    """The subscription: the rooms that are subscribed, across reconnects."""

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
        self._line: _Line | None = None
        self._lost = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._refused, self._refused_at = "", 0.0
        self._issued: list[Command] = []

    async def open(self) -> None:
        await self._attempt()
        self._keeper = asyncio.create_task(self._keep_up(), name="bus-keeper")

    async def close(self) -> None:
        await end_tasks(self._keeper)
        if self._line is not None:
            self._line.lose()

    def reconnect(self) -> None:
        """See `RedisBus.reconnect`."""
        if self._line is not None:
            self._line.lose()

    def resume(self) -> None:
        """Deliver what waited behind a stall of the loop."""
        if self._line is not None:
            self._line.resume()

    @property
    def is_connected(self) -> bool:
        return self._line is not None

    def subscribe(self, room: str) -> asyncio.Future[None] | None:
        if room not in self._rooms:
            # Without a line nobody is kept waiting: what is missed is read when there is one.
            future = None if self._line is None else asyncio.get_running_loop().create_future()
            self._rooms[room] = future
            self._rooms_by_channel[channel(room).encode()] = room
            self._say("SUBSCRIBE", room)
        return self._rooms[room]

    def unsubscribe(self, room: str) -> None:
        if room in self._rooms:
            waiting = self._rooms.pop(room)
            del self._rooms_by_channel[channel(room).encode()]
            _settle(waiting)
            self._say("UNSUBSCRIBE", room)

    def _say(self, verb: str, room: str) -> None:
        if self._line is None:
            return  # said with all the others once there is a line
        if not self._issued:
            asyncio.get_running_loop().call_soon(self._flush)
        self._issued.append((verb, channel(room)))

    def _flush(self) -> None:
        issued, self._issued = self._issued, []
        if self._line is not None:
            self._line.write(issued)

    async def _keep_up(self) -> None:
        delay, loop = FIRST_DELAY_SECONDS, asyncio.get_running_loop()
        while True:
            if self._line is not None:
                since = loop.time()
                await self._lost.wait()
                # A line that is lost as soon as it is there goes on backing off.
                if loop.time() - since > LAST_DELAY_SECONDS:
                    delay, self._refused = FIRST_DELAY_SECONDS, ""
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
            delay = min(delay * 2, LAST_DELAY_SECONDS)
            await self._attempt()

    async def _attempt(self) -> None:
        line = _Line(self._heard, self._line_lost, self._line_refused, self._stalled)
        try:
            await asyncio.wait_for(self._address.connect(line), TIMEOUT_SECONDS)
        except (OSError, StoreUnavailable, asyncio.TimeoutError) as error:
            log.debug("the bus is not connected: %s", type(error).__name__)
            return
        line.write(self._address.greeting)
        self._lost.clear()
        self._line, self._issued = line, []
        line.write(("SUBSCRIBE", channel(room)) for room in tuple(self._rooms))

    def _line_refused(self, word: str) -> None:
        now = asyncio.get_running_loop().time()
        if word != self._refused:
            self._refused, self._refused_at = word, now
        elif now - self._refused_at > TELL_SECONDS and self._store.available:
            # What the store is refused as well, it tells. This is said once, until it is over.
            log.warning("redis refuses the subscription to rooms: %s", word)
            self._refused_at = math.inf

    def _line_lost(self, line: _Line) -> None:
        if line is not self._line:
            return
        self._line = None
        self._on_lost()
        self._lost.set()
        for room, waiting in self._rooms.items():
            if waiting is not None:
                self._rooms[room] = None
                _settle(waiting)

    def _heard(self, kind: bytes, name: bytes, body: Any) -> None:
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
            listener.gap(room)  # not the first time: the line was lost in between
        else:
            _settle(waiting)


def _settle(waiting: asyncio.Future[None] | None) -> None:
    """Release those who wait for a room: it is subscribed, or the connection is lost."""
    if waiting is not None and not waiting.done():
        waiting.set_result(None)


class _Line(asyncio.Protocol):
    """One subscribed connection. `heard` is called with kind, channel and body."""

    def __init__(self, heard: Any, lost: Any, refused: Any, stalled: Callable[[], bool]) -> None:
        self._loop = asyncio.get_running_loop()
        self._heard_by, self._lost_to, self._refused_to = heard, lost, refused
        self._stalled = stalled
        self._unheard: list[bytes] = []
        """What one read brought while nothing may go out; the rest waits in the kernel."""
        self._due = 0.0
        self._reader = Reader()
        self._transport: asyncio.Transport | None = None
        self._last_sign = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._alive = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        # Not at once: the greeting has to be the first that is said.
        self._probe_later()

    def _probe_later(self) -> None:
        self._due = self._loop.time() + PROBE_SECONDS
        self._timer = self._loop.call_later(PROBE_SECONDS, self._probe)

    def write(self, commands: Iterable[Command]) -> None:
        payload = b"".join(map(pack, commands))
        if payload and self._transport is not None:
            self._transport.write(payload)

    def _probe(self) -> None:
        """A paused Redis says nothing: ask, and hang up when there is no answer."""
        now = self._loop.time()
        # After a stall of our own loop the answers lie in the socket, unread: as in link.py.
        unread = self._unheard or now - self._due > PROBE_SECONDS
        if not unread and now - self._last_sign > TIMEOUT_SECONDS + PROBE_SECONDS:
            self.lose()
            return
        self.write([("PING",)])
        self._probe_later()

    def data_received(self, data: bytes) -> None:
        self._last_sign = self._loop.time()
        if self._stalled():
            self._unheard.append(data)
            if self._transport is not None:
                self._transport.pause_reading()
        else:
            self._read(data)

    def resume(self) -> None:
        """Deliver what waited, after whatever else resumes now."""
        if self._unheard:
            self._loop.call_soon(self._read_unheard)

    def _read_unheard(self) -> None:
        unheard, self._unheard = self._unheard, []
        self._read(b"".join(unheard))
        if self._alive and self._transport is not None:
            self._transport.resume_reading()

    def _read(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            while self._alive and (reply := self._reader.gets()) is not False:
                if isinstance(reply, ReplyError):  # a room that is not heard must not look so
                    self._refused_to(error_word(reply))
                    self.lose()
                    return
                if isinstance(reply, list) and reply[0] in (b"message", b"subscribe"):
                    self._heard_by(reply[0], reply[1], reply[2])
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
        self._lost_to(self)
