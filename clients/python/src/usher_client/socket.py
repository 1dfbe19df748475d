"""One open WebSocket: frames, replies, heartbeats."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, WebSocketException

from usher_client.errors import Busy, ConnectionEnded, End, TimedOut, UsherError
from usher_client.wire import (
    closing,
    decode,
    encode,
    number,
    refusal,
    seconds,
)

CLOSE_SECONDS = 2.0
STOOD_STILL_SECONDS = 1.0
JITTER = 0.2
Frame = dict[str, Any]


class CountingConnection(ClientConnection):
    """Counts received bytes: each shows that the connection is alive, also within a large frame."""

    received = 0

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        super().data_received(data)


@dataclass(frozen=True)
class Times:
    """Seconds.

    Args:
        heartbeat: mean interval of heartbeats, ± 20 %.
        timeout: for a reply, a call, received data, and from opening a socket to `joined`.
        backoff: the upper limit of the first pause between attempts; it doubles each time.
        max_backoff: the highest upper limit.
    """

    heartbeat: float = 12.5
    timeout: float = 10.0
    backoff: float = 0.5
    max_backoff: float = 30.0


@dataclass
class _PendingReply:
    reply: asyncio.Future[Any]
    urgent: bool


class Connection:
    """One socket. `run` reads it to its end.

    Args:
        on_frame: called with each frame that is not a reply, in order.
        on_heartbeat: called after each heartbeat with the server's clock (epoch seconds) minus this
            machine's monotonic clock.
        max_pending: the number of requests that may wait for a reply at once.
    """

    def __init__(
        self,
        line: CountingConnection,
        times: Times,
        on_frame: Callable[[Frame], None],
        on_heartbeat: Callable[[float], None],
        max_pending: int,
    ) -> None:
        self._line = line
        self._times = times
        self._on_frame = on_frame
        self._on_heartbeat = on_heartbeat
        self._max_pending = max_pending
        self._pending: dict[int, _PendingReply] = {}
        self._asked = 0
        self._next_id = 1
        self._end: End | None = None
        self._closing: dict[str, Any] = {}
        self._joined = False

    async def run(self) -> End:
        """Read frames until the connection has ended. Returns how it ended."""
        join = asyncio.get_running_loop().call_later(self._times.timeout, self._no_join)
        try:
            async for text in self._line:
                if not self._receive(text):
                    break
        except ConnectionClosed:
            pass  # read from the line below
        finally:
            join.cancel()
            self.drop(self._end_of_line())
        assert self._end is not None
        return self._end

    def drop(self, end: End) -> None:
        """Drop the socket at once, without a closing handshake."""
        if self._end is not None:
            return
        self._end = replace(end, **self._closing)
        for waiter in self._pending.values():
            if not waiter.reply.done():
                waiter.reply.set_exception(ConnectionEnded(end=self._end))
                waiter.reply.exception()  # the task that waited may be cancelled
        self._pending.clear()
        self._line.transport.abort()

    async def close(self, end: End) -> None:
        """Close the connection, with a short timeout."""
        if self._end is None:
            with suppress(asyncio.TimeoutError, OSError, WebSocketException):  # dropped below
                await asyncio.wait_for(self._line.close(), CLOSE_SECONDS)
        self.drop(end)

    @property
    def is_over(self) -> bool:
        return self._end is not None

    def _end_of_line(self) -> End:
        closed = self._line.protocol
        if closed.close_rcvd is not None and closed.close_rcvd_then_sent is not False:
            return End(closed.close_rcvd.code, closed.close_rcvd.reason)
        return End(1006, "connection_lost")

    def _no_join(self) -> None:
        if not self._joined:
            self.drop(End(1006, "join_timeout"))

    # ---- frames --------------------------------------------------------------------------------

    def _receive(self, text: str | bytes) -> bool:
        frame = decode(text)
        if frame is None:
            self.drop(End(1007, "invalid_frame"))
        elif frame["event"] == "reply":
            self._settle(frame)
        else:
            if frame["event"] == "joined":
                self._joined = True
            if frame["event"] == "closing":
                self._closing = closing(frame.get("data"))
            self._on_frame(frame)
        return self._end is None

    def _settle(self, frame: Frame) -> None:
        found = frame.get("id")
        waiter = self._pending.get(found) if isinstance(found, int) else None
        if waiter is None or waiter.reply.done():
            return  # it timed out before
        if frame.get("ok") is True:
            waiter.reply.set_result(frame.get("data"))
            return
        given = frame.get("error")
        error = given if isinstance(given, dict) else {}
        after = seconds(error.get("retry_after")) or None
        waiter.reply.set_exception(
            refusal(error.get("code"), error.get("message"), retry_after=after)
        )

    async def request(
        self, event: str, data: object = None, timeout: float | None = None, *, urgent: bool = False
    ) -> Any:
        """Send an event and wait for its reply. Returns the data of the reply.

        Args:
            timeout: seconds.
            urgent: a request of the client itself, which is never Busy.

        Raises:
            Refused: the server's error.
            TimedOut: no reply in time.
            ConnectionEnded: before the reply. The request may have been processed.
            Busy, TooBig, Misuse: nothing was sent.
        """
        if self._end is not None:
            raise ConnectionEnded(end=self._end)
        if not urgent and self._asked >= self._max_pending:
            raise Busy(f"{self._asked} requests are waiting for replies")
        frame_id = self._next_id
        text = encode(event, data, frame_id)
        self._next_id += 1
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._pending[frame_id] = _PendingReply(reply, urgent)
        self._asked += not urgent
        try:
            limit = self._times.timeout if timeout is None else timeout
            return await asyncio.wait_for(self._ask(text, reply), limit)
        except asyncio.TimeoutError:
            raise TimedOut(f"no reply to {event} in time") from None
        finally:
            self._pending.pop(frame_id, None)
            self._asked -= not urgent

    async def send(self, event: str, data: object) -> None:
        """Send an event without a reply.

        Raises:
            TimedOut: the connection accepts no data.
            TooBig, Misuse: nothing was sent.
        """
        text = encode(event, data, None)
        try:
            with suppress(ConnectionClosed):
                await asyncio.wait_for(self._line.send(text), self._times.timeout)
        except asyncio.TimeoutError:
            raise TimedOut(f"{event} could not be sent in time") from None

    async def _ask(self, text: str, reply: asyncio.Future[Any]) -> Any:
        with suppress(ConnectionClosed):  # `run` gets it too, and notifies all who wait
            await self._line.send(text)
        return await reply

    # ---- heartbeats ----------------------------------------------------------------------------

    async def send_heartbeat(self) -> None:
        """Send one heartbeat. If no data is transferred meanwhile, the connection is dead; a slow
        one that still sends or receives is not.

        Raises:
            UsherError: there was no reply.
        """
        watch = asyncio.ensure_future(self._watch())
        try:
            answer = await self.request("heartbeat", timeout=3600.0, urgent=True)
        finally:
            watch.cancel()
        server = number(answer.get("server_time")) if isinstance(answer, dict) else None
        if server is not None:
            self._on_heartbeat(server - monotonic())

    async def _watch(self) -> None:
        while True:
            before = self._line.received, self._line.transport.get_write_buffer_size()
            asked = monotonic()
            await asyncio.sleep(self._times.timeout)
            if monotonic() - asked > self._times.timeout + STOOD_STILL_SECONDS:
                # This process was suspended: data received meanwhile has not been read yet.
                continue
            if self._line.received > before[0]:
                continue
            if self._line.transport.get_write_buffer_size() < before[1]:
                continue
            self.drop(End(1006, "heartbeat_timeout"))
            return

    async def keep_alive(self, on_lasting: Callable[[], None]) -> None:
        """Send heartbeats until the connection has ended. `on_lasting` is called at each but the
        first."""
        first = True
        while self._end is None:
            try:
                await self.send_heartbeat()
            except UsherError:
                pass  # refused, or ended: the next one shows it
            else:
                if not first:
                    on_lasting()
            first = False
            spread = random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - no secret
            await asyncio.sleep(self._times.heartbeat * spread)
