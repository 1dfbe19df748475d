"""The subscription of a node: its rooms, across reconnects.

After a reconnect every room is subscribed again and its listener is notified of the gap.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Callable
from typing import Any

from services.bus.bus import BusListener, LoggedMessage
from services.bus.log_keys import channel
from services.bus.subscribed_connection import TIMEOUT_SECONDS, SubscribedConnection
from services.errors import StoreUnavailable
from services.event_loop.tasks import end_tasks
from services.redis.address import Address
from services.redis.store import Command, Store

FIRST_DELAY_SECONDS, LAST_DELAY_SECONDS = 0.05, 1.0
WARN_SECONDS = 2.0
"""A subscription that Redis refuses for longer is logged, unless the store is refused too."""

log = logging.getLogger("usher.bus")


class Subscription:
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
        self._connection: SubscribedConnection | None = None
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
            # Without a connection, callers do not wait: after the reconnect the log is read.
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
        connection = SubscribedConnection(
            self._on_message, self._connection_lost, self._subscription_refused, self._stalled
        )
        try:
            await asyncio.wait_for(self._address.connect(connection), TIMEOUT_SECONDS)
        except (OSError, StoreUnavailable, asyncio.TimeoutError) as error:
            log.debug("the bus is not connected: %s", type(error).__name__)
            connection.lose()
            return
        except Exception:  # a bug must not end the loop that reconnects
            log.exception("connecting the bus failed in an unexpected way")
            connection.lose()
            return
        if not connection.is_alive:
            # Redis closed it before this task ran again. No callback would report that later.
            log.debug("the bus is not connected: lost while connecting")
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

    def _connection_lost(self, connection: SubscribedConnection) -> None:
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
