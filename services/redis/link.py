"""One pipelined connection to Redis, from connect to loss. It is never reused after that."""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from collections.abc import Callable
from typing import Any, cast

from hiredis import ProtocolError, Reader, ReplyError, pack_command

from services.errors import StoreUnavailable
from services.redis.store import Command, Then

log = logging.getLogger(__name__)

PROBE_SECONDS = 0.5
"""A link silent for so long is sent a PING: a frozen Redis is noticed without traffic."""
WRITE_SECONDS = 1.0
"""Maximum interval between test writes on a link that is tested with writes."""
PING: Command = ("PING",)
REFUSALS = frozenset(
    {
        "READONLY", "OOM", "MISCONF", "NOREPLICAS", "NOPERM", "NOAUTH", "MASTERDOWN", "LOADING",
        "BUSY",
    }
)  # fmt: skip
"""Error words of a server that answers and yet is of no use: a replica, full, unable to save, our
rights taken, not ready."""
SCRIPT_FULL = "EVAL: OOM"
"""A script was refused for lack of memory. Redis counts what it receives, so a full one refuses a
message that it would have no room for, and still takes what is small."""
ELSEWHERE = frozenset({"MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN"})
"""Error words of a cluster's node for keys that it has not; store_cluster.py sees to those."""

# "… to access one of the keys used as arguments" (Redis), "… to access a channel" (Valkey).
_PATTERN = re.compile(r"access (?:one of the|a) (key|channel)")

_INCOMPLETE = object()


class Group:
    """Commands that are issued together, and receive their replies together."""

    __slots__ = ("commands", "issued", "size")

    def __init__(self, commands: tuple[Command, ...]) -> None:
        self.commands = commands
        self.issued = 0.0
        self.size = 0

    def take(self, replies: list[Any]) -> None:
        """Receive all replies, which may include `ReplyError`. Called once, on the event loop."""
        raise NotImplementedError

    def fail(self, reason: str) -> None:
        """No replies will arrive. The commands may or may not have been executed."""
        raise NotImplementedError


class _Awaited(Group):
    """A group whose replies are the result of a future."""

    __slots__ = ("future", "link")

    def __init__(
        self, commands: tuple[Command, ...], future: asyncio.Future[list[Any]], link: RedisLink
    ) -> None:
        self.commands, self.issued, self.size = commands, 0.0, 0  # without super(): four a join
        self.future, self.link = future, link

    def take(self, replies: list[Any]) -> None:
        for reply in replies:
            if reply.__class__ is ReplyError:
                evidence = refusal(self.commands[replies.index(reply)], reply)
                self.fail(evidence)
                self.link.refused(evidence)
                return
        if not self.future.done():  # else its caller was cancelled
            self.future.set_result(replies)

    def fail(self, reason: str) -> None:
        if not self.future.done():
            failed(self.future, reason)


class _Told(Group):
    """A group for whose replies nobody waits."""

    __slots__ = ("link", "then")

    def __init__(self, commands: tuple[Command, ...], then: Then | None, link: RedisLink) -> None:
        self.commands, self.issued, self.size = commands, 0.0, 0
        self.then, self.link = then, link

    def take(self, replies: list[Any]) -> None:
        for reply in replies:
            if reply.__class__ is ReplyError:
                self.fail("")
                self.link.refused(refusal(self.commands[replies.index(reply)], reply))
                return
        self._pass(replies)

    def fail(self, reason: str) -> None:
        self._pass(None)

    def _pass(self, replies: list[Any] | None) -> None:
        if self.then is None:
            return
        try:
            self.then(replies)
        except Exception:  # the replies to other groups must still be read
            log.exception("the replies of Redis could not be used")


class RedisLink(asyncio.Protocol):
    """One connection to Redis.

    A group stays in the queue until all its replies have arrived, even if its caller was
    cancelled: replies are matched to commands by their order only.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        timeout: float,
        limits: tuple[int, int],
        on_lost: Callable[[RedisLink, str], None],
        lost_by: frozenset[str] = frozenset(),
    ) -> None:
        self._loop = loop
        self._timeout = timeout
        self._max_groups, self._max_bytes = limits
        self._on_lost, self._lost_by = on_lost, lost_by
        self._transport: asyncio.Transport | None = None
        self._reader = Reader(notEnoughData=_INCOMPLETE)
        self._waiting: deque[Group] = deque()
        self._waiting_bytes = 0
        self._replies: list[Any] = []  # of the first group in line
        self._outgoing: list[bytes] = []  # of this tick
        self._last_received = loop.time()
        self._check: asyncio.TimerHandle | None = None
        self._due = self._probed_at = 0.0
        self._probe: Command = PING
        self.alive = True
        self.ended: asyncio.Future[None] = loop.create_future()

    def send(self, commands: tuple[Command, ...]) -> asyncio.Future[list[Any]]:
        """See `Store.call`."""
        payload = packed(commands)
        future: asyncio.Future[list[Any]] = self._loop.create_future()
        if commands:
            self.issue(_Awaited(commands, future, self), payload)
        else:
            future.set_result([])
        return future

    def tell(self, commands: tuple[Command, ...], then: Then | None) -> None:
        """See `Store.tell`."""
        payload = packed(commands)
        if commands:
            self.issue(_Told(commands, then, self), payload)
        elif then is not None:
            then([])

    def issue(self, group: Group, payload: bytes) -> None:
        """Send a group, given with its packed form; the group receives its result."""
        size = len(payload)
        if not self.alive:
            group.fail("redis: lost")
            return
        if len(self._waiting) >= self._max_groups or self._waiting_bytes + size > self._max_bytes:
            group.fail("redis: too much is waiting")
            return
        group.issued, group.size = self._loop.time(), size
        self._waiting.append(group)
        self._waiting_bytes += size
        if not self._outgoing:
            self._loop.call_soon(self._flush)
        self._outgoing.append(payload)

    def _flush(self) -> None:
        if self._transport is not None and self.alive:
            self._transport.write(b"".join(self._outgoing))
        self._outgoing.clear()

    def data_received(self, data: bytes) -> None:
        self._last_received = self._loop.time()
        replies, get, waiting = self._replies, self._reader.gets, self._waiting
        # The number of replies to the first group in line; 0 if none is waiting.
        expected = len(waiting[0].commands) if waiting else 0
        try:
            self._reader.feed(data)
            while (reply := get()) is not _INCOMPLETE:
                if not expected:
                    # Such as "max number of clients reached", sent before it hangs up.
                    self.lose(f"redis: a reply to nothing: {error_word(reply)}")
                    return
                replies.append(reply)
                if len(replies) == expected:
                    group, got = waiting.popleft(), replies
                    replies = self._replies = []
                    self._waiting_bytes -= group.size
                    group.take(got)
                    if waiting is not self._waiting:
                        return  # the link was lost by that
                    expected = len(waiting[0].commands) if waiting else 0
        except ProtocolError:
            self.lose("redis: not the Redis protocol")

    def refused(self, evidence: str) -> None:
        """Handle an error reply. After some of them, such as READONLY, the link is closed."""
        if evidence == SCRIPT_FULL:
            self._send_probe()  # if that is refused too, the link is closed
        elif redis_error_word(evidence) in self._lost_by:
            self.lose(evidence)

    def watch(self, probe: Command = PING) -> None:
        """Start checking the age of pending groups, which replaces a timer for each call.

        Args:
            probe: the command sent on an idle link. If it writes, it is also sent periodically
                on a busy link, because most of its commands may be reads.
        """
        self._probe = probe
        self._watch()

    def _watch(self) -> None:
        interval = min(self._timeout, PROBE_SECONDS) / 4
        self._due = self._loop.time() + interval
        self._check = self._loop.call_later(interval, self._check_age, interval)

    def _check_age(self, interval: float) -> None:
        now = self._loop.time()
        # After a stall of our own loop the replies may still be unread in the socket. They are
        # read before the next check, so the stall is not mistaken for a timeout of Redis.
        stalled = now - self._due > interval
        if self._waiting and not stalled and now - self._waiting[0].issued > self._timeout:
            self.lose("redis: no answer in time")
            return
        silent = not self._waiting and now - self._last_received >= PROBE_SECONDS
        if silent or (self._probe is not PING and now - self._probed_at >= WRITE_SECONDS):
            self._probed_at = now
            self._send_probe()
        self._watch()

    def _send_probe(self) -> None:
        self.send((self._probe,)).add_done_callback(self._probed)

    def _probed(self, probe: asyncio.Future[list[Any]]) -> None:
        # An error here (LOADING, NOAUTH, MISCONF) means that nothing else would work either.
        if self.alive and not probe.cancelled() and (error := probe.exception()) is not None:
            evidence = getattr(error, "evidence", type(error).__name__)
            if redis_error_word(evidence) not in ELSEWHERE:
                self.lose(evidence)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if not self.alive:  # given up while it was being made
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lose("redis: connection closed")
        if not self.ended.done():
            self.ended.set_result(None)

    def lose(self, reason: str) -> None:
        """Close the link. Pending groups fail at once, and new ones are refused."""
        if not self.alive:
            return
        self.alive = False
        if self._check is not None:
            self._check.cancel()
        self._on_lost(self, reason)
        waiting, self._waiting = self._waiting, deque()
        for group in waiting:
            group.fail(reason)
        if self._transport is not None:
            self._transport.abort()


pack = cast("Callable[[Command], bytes]", pack_command)


def packed(commands: tuple[Command, ...]) -> bytes:
    """Encode commands. If one of them is invalid, none is encoded.

    Raises:
        TypeError, ValueError: see `Store.call`.
    """
    if not all(commands):
        # Redis gives no reply to an empty command, so all later replies would shift.
        raise ValueError("an empty command")
    # Most are of one command.
    return pack(commands[0]) if len(commands) == 1 else b"".join(map(pack, commands))


def failed(future: asyncio.Future[list[Any]], evidence: str) -> asyncio.Future[list[Any]]:
    """A future that has failed with StoreUnavailable. Nothing is logged if it is never awaited."""
    # An error of its own for every group, because each raise adds to its traceback.
    future.set_exception(StoreUnavailable(evidence))
    future.exception()  # marks it as retrieved: a group that is not awaited fails silently
    return future


def command_name(command: Command) -> str:
    """The command's name in capitals."""
    name = command[0]
    return (name.decode("ascii", "replace") if isinstance(name, bytes) else str(name)).upper()


def redis_error_word(evidence: str) -> str:
    """The Redis error word at the end of an error's `evidence`."""
    return evidence.rpartition(" ")[2]


def refusal(command: Command, reply: ReplyError) -> str:
    """The refused command and the error word; for NOPERM also what the missing right concerns."""
    word = error_word(reply)
    pattern = _PATTERN.search(str(reply)) if word == "NOPERM" else None
    about = f" of the {pattern[1]}s usher:*" if pattern is not None else ""
    return f"{command_name(command)}{about}: {word}"


def error_word(reply: object) -> str:
    """Redis' error word, such as NOAUTH, without the rest, which may quote a key or a value."""
    word = str(reply).partition(" ")[0] if isinstance(reply, ReplyError) else ""
    return word if word.isalpha() and word.isupper() else "ERR"
