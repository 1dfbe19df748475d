"""The state that the sockets of a node share: the services they use, and the events of clients."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from operator import methodcaller
from typing import Any

import msgspec

from handlers.websocket.deflate import Compression
from handlers.websocket.unjoined import UnjoinedConnections
from services.composition.container import Services
from services.errors import Unauthenticated, UsherError
from services.event_loop.deadlines import Deadlines
from services.event_loop.equal_timeouts import EqualTimeouts
from services.event_loop.readers import readers_of
from services.limits.networks import network_of
from services.rooms.joins import Credential
from services.sessions.admission import Identity
from services.sessions.tickets import looks_like_ticket
from services.settings.proxies import Proxies
from services.websocket.first_frames import FirstFrames
from services.websocket.protocol import CloseCode

MAX_UNAUTHENTICATED = 20_000
"""Sockets that have not joined yet. More are turned away before they cost memory."""


RECONNECT_SPREAD_SECONDS = 5.0
CLOSE_STEP_SECONDS = 0.02


class ClientEvent(msgspec.Struct, frozen=True):
    """An event that clients may send.

    Attributes:
        act: handles the event. It replies, or returns an awaitable that the reply waits for.
        decoder: decodes its data.
        data: the type of its data.
        reply: the type of the successful reply.
        errors: the errors of an unsuccessful reply.
        summary: for the docs.
        overlaps: its commands are issued when `act` is called, in order, so further events of
            this kind may be handled before its reply is sent.
    """

    act: Callable[..., Awaitable[None] | None]
    decoder: msgspec.json.Decoder[Any]
    data: Any
    reply: Any
    errors: tuple[type[UsherError], ...]
    summary: str
    overlaps: bool = False


def client_event(
    act: Callable[..., Awaitable[None] | None],
    data: Any,
    reply: Any,
    summary: str,
    errors: tuple[type[UsherError], ...] = (),
    overlaps: bool = False,
) -> ClientEvent:
    """Create an entry of EVENTS, whose decoder and documentation use the same type."""
    return ClientEvent(act, msgspec.json.Decoder(data), data, reply, errors, summary, overlaps)


class SocketContext:
    """The state that all sockets of a node share. It is passed to each; there is no global state.

    Args:
        events: the events that clients may send.
        proxies: the proxies whose forwarded addresses are trusted.
    """

    def __init__(
        self,
        services: Services,
        events: Mapping[str, ClientEvent],
        clock: Callable[[], float] = time.time,
        proxies: Proxies | None = None,
    ) -> None:
        self.services, self.events, self.clock = services, events, clock
        self.hub, self.rooms = services.hub, services.rooms
        self.joins, self.metrics = services.joins, services.metrics
        self.socket_events = services.webhooks.socket_events
        self.metrics.sockets.set_function(self.hub.__len__)
        self.stalled = services.infrastructure.watch.check
        self.may_overlap = services.bus.keeps_order
        self.message_rate = services.infrastructure.settings.message_rate
        self.loop = asyncio.get_running_loop()
        self.readers = readers_of(self.loop)
        chosen = services.infrastructure.settings
        compressed = chosen.max_compressed_sockets if chosen.compression == "on" else 0
        worker = services.infrastructure.worker
        self.compression = Compression(compressed if worker is None else worker.part(compressed))
        self.first_frames = FirstFrames(self.loop)
        self.deadlines: Deadlines[Any] = Deadlines(self.loop)
        self.unauthenticated: EqualTimeouts[Any] = EqualTimeouts(
            self.loop,
            services.infrastructure.settings.join_timeout_seconds,
            methodcaller("join_overdue"),
        )
        most = services.infrastructure.settings.max_unjoined_per_address
        elsewhere = services.unjoined_counts.elsewhere
        self.unjoined = UnjoinedConnections(most, proxies or Proxies(), elsewhere)
        services.unjoined_counts.watch(self.unjoined.counts)
        self.draining = False

    @property
    def is_full(self) -> bool:
        return self.draining or len(self.unauthenticated) >= MAX_UNAUTHENTICATED

    def admit(
        self,
        credential: Credential,
        address: str,
        beside: Credential | None = None,
        session_id: str = "",
    ) -> Awaitable[Identity]:
        """Identify a credential with `Joins.admit`. An invalid ticket is counted for the client's
        address; a valid one never is.

        Raises:
            RateLimited: too many invalid tickets. Also everything that `Joins.admit` raises, when
                called or when awaited.
        """
        if looks_like_ticket(credential.text):
            return self._admit_ticket(credential, address, beside, session_id)
        return self.joins.admit(credential, beside, session_id)

    async def _admit_ticket(
        self, ticket: Credential, address: str, beside: Credential | None, session_id: str
    ) -> Identity:
        try:
            return await self.joins.admit(ticket, beside, session_id)
        except Unauthenticated:
            limits = self.services.limits
            (await limits.take((limits.of.bad_tokens, network_of(address)))).require()
            raise

    async def close_spread(self, seconds: float) -> int:
        """Close all sockets with 1012, spread over a number of seconds. Each is given a random
        delay before it reconnects, so that they do not all reconnect at the same moment.

        Returns:
            The number of closed sockets.
        """
        clients = [*self.unauthenticated, *self.hub]
        started, done = self.loop.time(), 0
        while done < len(clients):
            passed = (self.loop.time() - started) / seconds
            due = min(len(clients), int(len(clients) * passed) + 1)
            for client in clients[done:due]:
                after = round(random.uniform(0.5, RECONNECT_SPREAD_SECONDS), 2)  # noqa: S311 - no secret
                client.close(CloseCode.SERVICE_RESTART, after)
            done = due
            await asyncio.sleep(CLOSE_STEP_SECONDS)
        # Sockets whose credential was still being checked when the closing began.
        self.close_all(CloseCode.SERVICE_RESTART, RECONNECT_SPREAD_SECONDS)
        return len(clients)

    def close_all(self, code: CloseCode, after: float | None = None) -> None:
        """Close every socket of this node, joined or not."""
        for sock in self.unauthenticated:
            sock.close(code, after)
        self.hub.close_all(code, after)
