"""Publishes events into one or several rooms, and optionally into their history."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

import msgspec
import peewee

from models.channel import Channel
from models.user import User
from services.backends.idempotency import Idempotency
from services.errors import NotFound, TooLarge
from services.rooms.room_names import CHANNEL, USER
from services.rooms.room_protocol import kept_body, published
from services.rooms.rooms import Rooms
from services.storage.database import Database

MAX_KEPT_BYTES = 60 * 1024
"""Of one event in history: with the rest of the answer around it, it has to fit into a frame."""


class Event(msgspec.Struct, frozen=True):
    """A published event. `keep`: whether it is in the rooms' history, in order with messages."""

    rooms: Sequence[str]
    name: str
    data: msgspec.Raw
    keep: bool


class Publishing:
    """Publishes events."""

    def __init__(
        self,
        database: Database,
        rooms: Rooms,
        idempotency: Idempotency,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database, self._rooms, self._clock = database, rooms, clock
        self._idempotency = idempotency

    async def publish(
        self, event: Event, caller: str, idempotency_key: str = "", request: bytes = b""
    ) -> None:
        """Send an event to every member of its rooms, on every node.

        Args:
            caller: the owner of the idempotency key.
            idempotency_key: events with the same key are sent once within an hour; "" for no key.
            request: the bytes of the request.

        Raises:
            NotFound: one of the rooms does not exist; nothing was sent.
            TooLarge: the event would not fit into a frame of `history`; nothing was sent.
            KeyReused, StillUnderWay: as `Idempotency.once`.
            Unavailable: the event may not have reached every room.
        """
        if idempotency_key:
            await self._idempotency.once(
                caller, idempotency_key, request, lambda: self._publish(event, caller)
            )
        else:
            await self._publish(event, caller)

    async def is_guarded(self, names: Sequence[str]) -> bool:
        """Whether a room among these needs a step-up."""
        return await self._database.run(_is_guarded, names)

    async def _publish(self, event: Event, caller: str) -> None:
        names = list(dict.fromkeys(event.rooms))
        sent_at = self._clock()
        bodies = (
            {name: kept_body(event.name, name, event.data, sent_at) for name in names}
            if event.keep
            else {}
        )
        if any(len(body) > MAX_KEPT_BYTES for body in bodies.values()):
            raise TooLarge("publish: more than history can give in one frame")
        unknown = await self._database.run(_unknown, names)
        if unknown:
            raise NotFound(f"publish: no such room among {len(names)}")
        sending: list[Awaitable[object]] = []
        for name in names:
            if event.keep:
                sending.append(self._rooms.keep(name, bodies[name], caller))
            else:
                text = published(event.name, name, event.data)
                sending.append(self._rooms.publish(name, text))
        await asyncio.gather(*sending)


def _is_guarded(db: peewee.Database, names: Sequence[str]) -> bool:
    ids = [name.removeprefix(CHANNEL) for name in names if name.startswith(CHANNEL)]
    guarded = Channel.id.in_(ids) & (Channel.step_up == True)  # noqa: E712  # a column, not a truth
    return bool(Channel.select().where(guarded).exists(db))


def _unknown(db: peewee.Database, names: Sequence[str]) -> set[str]:
    """The rooms that do not exist."""
    users = {name.removeprefix(USER) for name in names if name.startswith(USER)}
    channels = {name.removeprefix(CHANNEL) for name in names if name.startswith(CHANNEL)}
    known: set[str] = set()
    if users:
        found = User.select(User.id).where(User.id.in_(list(users))).execute(db)
        known |= {USER + row.id for row in found}
    if channels:
        opened = Channel.select(Channel.id).where(Channel.id.in_(list(channels))).execute(db)
        known |= {CHANNEL + row.id for row in opened}
    return set(names) - known
