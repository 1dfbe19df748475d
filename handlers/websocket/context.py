"""What the sockets of a node share: who lets them in, and what they may send."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import msgspec

from services.claims import Claims
from services.container import Services
from services.errors import UsherError
from services.rooms.rooms import channel_room, user_room
from services.sessions.admission import REREADS, Identity
from services.websocket.protocol import CloseCode

MAX_UNAUTHENTICATED = 20_000
"""Sockets that have not joined yet. More are turned away before they cost memory."""


class ClientEvent(msgspec.Struct, frozen=True):
    """An event that clients may send.

    Attributes:
        act: what is done with it. It answers, or gives what the answer waits for.
        decoder: of its data.
        data: the type of its data.
        reply: the type of the good reply.
        errors: what it may be refused with.
        summary: for the docs.
        overlaps: what it does is issued when `act` is called, in that order, so that others of
            its kind may follow before it is answered.
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
    """An entry for EVENTS: what is decoded and what is described are one type."""
    return ClientEvent(act, msgspec.json.Decoder(data), data, reply, errors, summary, overlaps)


class UnauthenticatedConnection(Protocol):
    """A socket that has not joined yet."""

    def close(self, code: CloseCode, after: float | None = None) -> None:
        """Close at once."""


class SocketContext:
    """What every socket of a node shares. Handed to each; nothing is looked up globally.

    Args:
        events: what clients may send.
    """

    def __init__(
        self,
        services: Services,
        events: Mapping[str, ClientEvent],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.services, self.events, self.clock = services, events, clock
        self.hub, self.rooms = services.hub, services.rooms
        self.admission, self.metrics = services.admission, services.metrics
        self.may_overlap = services.bus.keeps_order
        self.join_timeout = services.foundation.settings.join_timeout_seconds
        self.message_rate = services.foundation.settings.message_rate
        self.loop = asyncio.get_running_loop()
        self.strangers: set[UnauthenticatedConnection] = set()
        self.draining = False

    @property
    def is_full(self) -> bool:
        return self.draining or len(self.strangers) >= MAX_UNAUTHENTICATED

    async def let_in(self, claims: Claims) -> Identity:
        """Who the bearer of verified claims is; their rooms are heard and held from now on.

        Whoever is let in enters, or is let go with `let_go`, before anything else is waited for.

        Raises:
            Unauthenticated, TokenExpired, DatabaseUnavailable: as `Admission.identify`.
        """
        own = (user_room(claims.sub),)
        uncertain = self.rooms.hold(own)  # on its way while Redis is asked who this is
        try:
            identity = await self.admission.identify(claims)
        except BaseException:  # cancelled too: what is held must be let go of
            self.rooms.release(own)
            raise
        uncertain += self.rooms.hold(map(channel_room, identity.grants))
        return await self._when_certain(identity, uncertain) if uncertain else identity

    async def _when_certain(
        self, identity: Identity, uncertain: list[asyncio.Future[None]]
    ) -> Identity:
        """Wait until the rooms are heard; what was changed or revoked meanwhile counts."""
        try:
            await self.rooms.certain(uncertain)
            for _ in range(REREADS):
                if not self.admission.is_outdated(identity):
                    break
                changed = await self.admission.identify(identity.claims)
                # Held before the others are let go of: a room that stays is heard throughout.
                self.rooms.hold(map(channel_room, changed.grants))
                self.rooms.release(map(channel_room, identity.grants))
                identity = changed
        except BaseException:  # cancelled too: what is held must be let go of
            self.let_go(identity)
            raise
        return identity

    def let_go(self, identity: Identity) -> None:
        """Let go of the rooms that were held: those entered are kept by whoever is in them."""
        self.rooms.release((user_room(identity.user_id),))
        self.rooms.release(map(channel_room, identity.grants))

    def close_all(self, code: CloseCode, after: float | None = None) -> None:
        """Close every socket of this node, joined or not."""
        for stranger in tuple(self.strangers):
            stranger.close(code, after)
        self.hub.cut_all(code, after)
