"""The store in Redis, through one multiplexed and pipelined connection.

A pool with one await per command was the largest cost of a join (docs: performance). Here all
commands of one loop tick leave in one write, replies are matched in order, and one future
stands for a whole group: about 10 µs of CPU for four commands.

    RedisStore   what the services see: is it there, call it, reconnect in the background
    _Link        one connection from its first byte to its loss; never used again after that
    _Address     the URL, read once
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections import deque
from collections.abc import Callable
from typing import Any, cast

from hiredis import ProtocolError, Reader, ReplyError, pack_command
from redis.asyncio.connection import SSLConnection, UnixDomainSocketConnection, parse_url
from redis.exceptions import RedisError

from services.errors import StoreUnavailable
from services.secret import Secret
from services.store import Command

log = logging.getLogger(__name__)

PROBE_SECONDS = 0.5
"""A link silent for so long is sent a PING: a frozen Redis is noticed without traffic."""

FIRST_DELAY_SECONDS, LAST_DELAY_SECONDS = 0.05, 1.0
"""Back-off between attempts. Its end is short, so that recovery is quick; the jitter keeps the
nodes of an installation from coming back in step."""

MAX_GROUPS, MAX_BYTES = 20_000, 32 * 1024 * 1024
"""What may wait for replies: far above a second's full load, far below what would hurt."""

_INCOMPLETE = object()


class RedisStore:
    """`Store` in one Redis (or Valkey) server.

    Args:
        url: redis://, rediss:// or unix://, with user, password, database number and `ssl_*`
            options as redis-py takes them; other options are not used.
        timeout: seconds that a reply, or a whole attempt to connect, may take. The link is
            judged as a whole: one late reply means that all behind it are late as well.
        on_change: told `available` whenever it changes, within the loop.
        max_groups, max_bytes: how much may wait for replies at one time.

    Raises:
        ValueError: the URL, or a certificate file it names, cannot be used. The text never
            quotes the URL, for it may hold a password.
    """

    kind = "redis"

    def __init__(
        self,
        url: Secret | str,
        *,
        timeout: float = 1.0,
        on_change: Callable[[bool], None] | None = None,
        max_groups: int = MAX_GROUPS,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._address = _Address(url.reveal() if isinstance(url, Secret) else url)
        self._timeout = timeout
        self._on_change = on_change
        self._limits = max_groups, max_bytes
        self._link: _Link | None = None
        self._lost = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._closed = False
        self.reason = "not connected yet"

    @property
    def available(self) -> bool:
        return self._link is not None

    def call(self, *commands: Command) -> asyncio.Future[list[Any]]:
        """See `Store.call`."""
        link = self._link
        if link is None:
            return _failed(asyncio.get_running_loop().create_future(), self.reason)
        return link.send(commands)

    async def connect(self) -> None:
        """Tries once, then keeps the link in the background until `close()`; never raises."""
        if self._keeper is None and not self._closed:
            await self._attempt()
            self._keeper = asyncio.create_task(self._keep(), name="redis-keeper")

    async def close(self) -> None:
        self._closed = True
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        if (link := self._link) is not None:
            link.lose("closed")
            await link.ended

    async def _keep(self) -> None:
        delay = FIRST_DELAY_SECONDS
        while not self._closed:
            if self._link is not None:
                since = asyncio.get_running_loop().time()
                await self._lost.wait()
                # A link that is lost as soon as it is there goes on backing off.
                if asyncio.get_running_loop().time() - since > LAST_DELAY_SECONDS:
                    delay = FIRST_DELAY_SECONDS
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, no secret
            delay = min(delay * 2, LAST_DELAY_SECONDS)
            await self._attempt()

    async def _attempt(self) -> None:
        link = _Link(asyncio.get_running_loop(), self._timeout, self._limits, self._on_lost)
        try:
            await asyncio.wait_for(self._open(link), self._timeout)
        except StoreUnavailable as error:
            self._unreachable(link, error.evidence)
        except asyncio.TimeoutError:
            self._unreachable(link, "no answer in time")
        except OSError as error:  # ssl.SSLError is one too
            self._unreachable(link, error.strerror or type(error).__name__)
        except Exception as error:  # a fault of ours must not end the loop that reconnects
            log.exception("Connecting to Redis failed in an unexpected way")
            self._unreachable(link, type(error).__name__)
        except asyncio.CancelledError:
            link.lose("closed")
            raise

    async def _open(self, link: _Link) -> None:
        await self._address.connect(link)
        await link.send(self._address.greeting)
        if not link.alive or self._closed:
            raise StoreUnavailable("redis: lost while connecting")
        self._lost.clear()
        self._link = link
        self.reason = ""
        link.watch()
        log.info("Redis answers")
        self._tell(True)

    def _unreachable(self, link: _Link, reason: str) -> None:
        link.lose(reason)
        if reason != self.reason:  # once, not at every attempt
            log.warning("Redis cannot be used: %s", reason)
        self.reason = reason

    def _on_lost(self, link: _Link, reason: str) -> None:
        # Runs before the waiting groups fail, so that whoever wakes up sees the new state.
        if link is self._link:
            self._link = None
            self.reason = reason
            self._lost.set()
            if not self._closed:
                log.warning("Redis is lost, the database decides meanwhile: %s", reason)
            self._tell(False)

    def _tell(self, available: bool) -> None:
        if self._on_change is not None:
            try:
                self._on_change(available)
            except Exception:  # a listener's fault must not cost us the link
                log.exception("A listener to the store's availability failed")


class _Address:
    """Where Redis is and what to say first."""

    def __init__(self, url: str) -> None:
        try:
            options = cast("dict[str, Any]", parse_url(url))
            kind = options.pop("connection_class", None)
            self._tls = _tls(options) if kind is SSLConnection else None
        except (ValueError, TypeError, OSError, RedisError):
            # `from None`: the library's text may quote a part of the password.
            raise ValueError("not a redis://, rediss:// or unix:// URL that works") from None
        self._path: str | None = options.get("path") if kind is UnixDomainSocketConnection else None
        if kind is UnixDomainSocketConnection and not self._path:
            raise ValueError("a unix:// URL needs a path")
        self._host: str = options.get("host", "localhost")
        self._port: int = options.get("port", 6379)
        self.greeting = _greeting(options)

    async def connect(self, link: _Link) -> None:
        loop = asyncio.get_running_loop()
        if self._path is not None:
            await loop.create_unix_connection(lambda: link, self._path)
        else:
            await loop.create_connection(lambda: link, self._host, self._port, ssl=self._tls)


def _tls(options: dict[str, Any]) -> ssl.SSLContext:
    wanted = {name: value for name, value in options.items() if name.startswith("ssl_")}
    return SSLConnection(**wanted).ssl_context.get()


def _greeting(options: dict[str, Any]) -> tuple[Command, ...]:
    greeting: list[Command] = []
    if password := options.get("password"):
        user = options.get("username")
        greeting.append(("AUTH", user, password) if user else ("AUTH", password))
    if database := options.get("db", 0):
        greeting.append(("SELECT", database))
    # Refused while Redis still loads its data or wants a password: not available then.
    return (*greeting, ("PING",))


class _Group:
    """Commands that were issued together and wait for their replies."""

    __slots__ = ("commands", "future", "issued", "size")

    def __init__(
        self,
        commands: tuple[Command, ...],
        future: asyncio.Future[list[Any]],
        issued: float,
        size: int,
    ) -> None:
        self.commands = commands
        self.future = future
        self.issued = issued
        self.size = size


class _Link(asyncio.Protocol):
    """One connection to Redis.

    A group stays in line until all its replies are there, whatever became of its caller:
    the order of replies is the only thing that ties them to commands.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        timeout: float,
        limits: tuple[int, int],
        on_lost: Callable[[_Link, str], None],
    ) -> None:
        self._loop = loop
        self._timeout = timeout
        self._max_groups, self._max_bytes = limits
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._reader = Reader(notEnoughData=_INCOMPLETE)
        self._waiting: deque[_Group] = deque()
        self._waiting_bytes = 0
        self._replies: list[Any] = []  # of the first group in line
        self._outgoing: list[bytes] = []  # of this tick
        self._heard = loop.time()
        self._check: asyncio.TimerHandle | None = None
        self._due = 0.0
        self.alive = True
        self.ended: asyncio.Future[None] = loop.create_future()

    def send(self, commands: tuple[Command, ...]) -> asyncio.Future[list[Any]]:
        if not all(commands):
            # Redis gives no reply to an empty command, so all later replies would shift.
            raise ValueError("an empty command")
        # Packed before anything is noted: an argument that cannot be packed leaves no gap.
        payload = b"".join(map(_pack, commands))
        future: asyncio.Future[list[Any]] = self._loop.create_future()
        if not commands:
            future.set_result([])
            return future
        size = len(payload)
        if not self.alive:
            return _failed(future, "redis: lost")
        if len(self._waiting) >= self._max_groups or self._waiting_bytes + size > self._max_bytes:
            return _failed(future, "redis: too much is waiting")
        self._waiting.append(_Group(commands, future, self._loop.time(), size))
        self._waiting_bytes += size
        if not self._outgoing:
            self._loop.call_soon(self._flush)
        self._outgoing.append(payload)
        return future

    def _flush(self) -> None:
        if self._transport is not None and self.alive:
            self._transport.write(b"".join(self._outgoing))
        self._outgoing.clear()

    def data_received(self, data: bytes) -> None:
        self._heard = self._loop.time()
        replies, get = self._replies, self._reader.gets
        try:
            self._reader.feed(data)
            while (reply := get()) is not _INCOMPLETE:
                if not self._waiting:
                    # Such as "max number of clients reached", sent before it hangs up.
                    self.lose(f"redis: a reply to nothing: {_word(reply)}")
                    return
                replies.append(reply)
                if len(replies) == len(self._waiting[0].commands):
                    self._finish(self._waiting.popleft(), replies)
                    replies = self._replies = []
        except ProtocolError:
            self.lose("redis: not the Redis protocol")

    def _finish(self, group: _Group, replies: list[Any]) -> None:
        self._waiting_bytes -= group.size
        future = group.future
        if future.done():  # its caller was cancelled
            return
        for command, reply in zip(group.commands, replies, strict=True):
            if reply.__class__ is ReplyError:
                _failed(future, f"{_name(command)}: {_word(reply)}")
                return
        future.set_result(replies)

    def watch(self) -> None:
        """Starts to look at the age of what waits, instead of a timer for every call."""
        interval = min(self._timeout, PROBE_SECONDS) / 4
        self._due = self._loop.time() + interval
        self._check = self._loop.call_later(interval, self._judge, interval)

    def _judge(self, interval: float) -> None:
        now = self._loop.time()
        # After a stall of our own loop the replies may lie in the socket, unread. They are
        # read before the next look, so a busy node does not blame Redis for its own delay.
        stalled = now - self._due > interval
        if self._waiting:
            if not stalled and now - self._waiting[0].issued > self._timeout:
                self.lose("redis: no answer in time")
                return
        elif now - self._heard >= PROBE_SECONDS:
            self.send((("PING",),)).add_done_callback(self._probed)
        self.watch()

    def _probed(self, probe: asyncio.Future[list[Any]]) -> None:
        # An error here (LOADING, NOAUTH, MISCONF) means that nothing else would work either.
        if self.alive and not probe.cancelled() and (error := probe.exception()) is not None:
            self.lose(getattr(error, "evidence", type(error).__name__))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if not self.alive:  # given up while it was being made
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lose("redis: connection closed")
        if not self.ended.done():
            self.ended.set_result(None)

    def lose(self, reason: str) -> None:
        """Ends the link: all that waits fails now, and nothing is taken any more."""
        if not self.alive:
            return
        self.alive = False
        if self._check is not None:
            self._check.cancel()
        self._on_lost(self, reason)
        waiting, self._waiting = self._waiting, deque()
        for group in waiting:
            if not group.future.done():
                _failed(group.future, reason)
        if self._transport is not None:
            self._transport.abort()


_pack = cast("Callable[[Command], bytes]", pack_command)


def _failed(future: asyncio.Future[list[Any]], evidence: str) -> asyncio.Future[list[Any]]:
    # An error of its own for every group, because each raise adds to its traceback.
    future.set_exception(StoreUnavailable(evidence))
    future.exception()  # marks it as seen: a group that nobody awaits fails silently
    return future


def _name(command: Command) -> str:
    name = command[0]
    return (name.decode("ascii", "replace") if isinstance(name, bytes) else str(name)).upper()


def _word(reply: object) -> str:
    """Redis' error word, such as NOAUTH. What follows it may quote a key or a value."""
    word = str(reply).partition(" ")[0] if isinstance(reply, ReplyError) else ""
    return word if word.isalpha() and word.isupper() else "ERR"
