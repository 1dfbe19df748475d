"""The connections whose requests for tickets are answered without Tornado.

A crowd that comes back asks each for a ticket, and three quarters of what that costs in Tornado are
Tornado's. Plain requests (plain_call.py) are therefore answered here. As in arrivals.py, bytes are
only peeked at until it is certain that the request is answered here. A connection that sends
anything else is handed to Tornado, and stays there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from handlers.direct.direct_tickets import DirectTickets
from handlers.direct.plain_call import PlainCall, ReadCall
from handlers.websocket.arrivals import Arrival, first_bytes, read_away
from handlers.websocket.plain_head import forwarded_for
from handlers.websocket.unjoined import UnjoinedConnections
from services.event_loop.readers import Readers
from services.event_loop.rotation import Rotation

log = logging.getLogger("usher.http")

HandOver = Callable[[Arrival, str, bool, bytes], None]
"""Hands a connection to Tornado: the arrival, the network of its request, whether that request had
its turn, and the rest of an answer that the system did not take yet."""


class Kept:
    """A connection that is answered here.

    Attributes:
        arrival: the connection.
        is_watched: whether the readers watch it.
        is_busy: whether it has a request that waits or is in progress.
        idle_since: since when it has none, by the loop's clock.
    """

    __slots__ = ("arrival", "idle_since", "is_busy", "is_watched")

    def __init__(self, arrival: Arrival) -> None:
        self.arrival = arrival
        self.is_watched, self.is_busy, self.idle_since = False, True, 0.0


class DirectCalls:
    """Answers plain requests, also several on one connection.

    Args:
        tickets: gives out tickets.
        read_call: parses a plain request.
        unjoined: counts the connections of each address.
        rotation: begins requests, Tornado's as well.
        readers: watch idle connections.
        to_tornado: takes over a connection.
        idle_seconds: after which a connection without a request is closed.
    """

    def __init__(
        self,
        tickets: DirectTickets,
        read_call: ReadCall,
        unjoined: UnjoinedConnections,
        rotation: Rotation,
        readers: Readers,
        to_tornado: HandOver,
        idle_seconds: float,
    ) -> None:
        self.read_call = read_call
        self._tickets, self._unjoined, self._rotation = tickets, unjoined, rotation
        self._readers, self._to_tornado, self._idle_seconds = readers, to_tornado, idle_seconds
        self._under_way = rotation.under_way
        self._loop = asyncio.get_running_loop()
        self._idle: dict[Kept, None] = {}
        """Connections without a request, the longest idle first."""
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: dict[Kept, asyncio.Task[None]] = {}
        self._draining = False

    def begin(self, arrival: Arrival, network: str, call: PlainCall) -> None:
        """Answer the first request of a connection, whose turn has come."""
        self._answer(Kept(arrival), network, call)

    def _answer(self, kept: Kept, network: str, call: PlainCall) -> None:
        self._under_way.enter(network)
        self._tasks[kept] = self._loop.create_task(self._answered(kept, network, call))

    async def _answered(self, kept: Kept, network: str, call: PlainCall) -> None:
        arrival, answer = kept.arrival, None
        try:
            answer = await self._tickets.answer(call, arrival.peer)
        except asyncio.CancelledError:
            read_away(arrival.sock, call.size)  # else the connection would be reset
            self._close(kept)
            raise
        except Exception:  # Tornado tries again, and answers for it
            log.exception("a ticket could not be given")
        finally:
            del self._tasks[kept]
            self._under_way.leave(network)
        if answer is None:
            self._hand_over(kept, network, has_turn=True)
            return
        read_away(arrival.sock, call.size)
        try:
            sent = arrival.sock.send(answer)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:  # the client has left
            self._close(kept)
            return
        if self._draining:
            self._close(kept)
        elif sent < len(answer):  # Tornado's stream sends the rest, before it reads on
            self._hand_over(kept, network, has_turn=False, unsent=answer[sent:])
        else:
            self._wait(kept)

    # ---- between two requests --------------------------------------------------------------

    def _wait(self, kept: Kept) -> None:
        """Wait for the next request."""
        kept.is_busy, kept.idle_since = False, self._loop.time()
        self._idle[kept] = None
        if not kept.is_watched:
            self._readers.add_reader(kept.arrival.sock.fileno(), partial(self._on_readable, kept))
            kept.is_watched = True
        if self._timer is None:
            self._timer = self._loop.call_later(self._idle_seconds, self._close_idle)

    def _on_readable(self, kept: Kept) -> None:
        if kept.is_busy:  # more behind a request, or the client has left: to be read afterwards
            self._unwatch(kept)
            return
        arrival = kept.arrival
        first = first_bytes(arrival.sock)
        del self._idle[kept]
        kept.is_busy = True
        if not first:
            self._close(kept)
            return
        network = arrival.group or self._unjoined.network(
            arrival.peer, {"X-Forwarded-For": forwarded_for(first)}
        )
        call = self.read_call(first)
        if call is None:
            self._hand_over(kept, network, has_turn=False)
        else:
            self._rotation.start(network, partial(self._answer, kept, network, call))

    def _close_idle(self) -> None:
        """Close the connections that were idle for too long, as Tornado does with its own."""
        now, self._timer = self._loop.time(), None
        for kept in tuple(self._idle):
            left = kept.idle_since + self._idle_seconds - now
            if left > 0:
                self._timer = self._loop.call_later(left, self._close_idle)
                break
            del self._idle[kept]
            self._close(kept)

    def _unwatch(self, kept: Kept) -> None:
        if kept.is_watched:
            self._readers.remove_reader(kept.arrival.sock.fileno())
            kept.is_watched = False

    def _hand_over(self, kept: Kept, network: str, *, has_turn: bool, unsent: bytes = b"") -> None:
        self._unwatch(kept)
        self._to_tornado(kept.arrival, network, has_turn, unsent)

    def _close(self, kept: Kept) -> None:
        self._unwatch(kept)
        kept.arrival.sock.close()
        if kept.arrival.group:
            self._unjoined.leave(kept.arrival.group)

    # ---- the end ---------------------------------------------------------------------------

    async def drain(self, seconds: float) -> None:
        """Close idle connections, and wait up to a number of seconds for requests in progress."""
        self._draining = True
        for kept in tuple(self._idle):
            del self._idle[kept]
            self._close(kept)
        if self._timer is not None:
            self._timer.cancel()
        if self._tasks:
            _, late = await asyncio.wait(tuple(self._tasks.values()), timeout=seconds)
            for task in late:
                task.cancel()
            if late:
                log.warning("%d requests could not be answered in time", len(late))
                await asyncio.wait(late)
