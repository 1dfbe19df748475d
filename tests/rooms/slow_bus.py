"""Rooms on one node over a bus that waits where a test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from services.bus.bus import SENDER_BYTES, LoggedMessage, Window
from services.bus.bus_memory import MemoryBus, _Log
from services.errors import StoreUnavailable
from services.rooms.rooms import Rooms
from tests.support.members import RecordingMember, enter
from tests.support.parts import Clock

ROOM = "channel:herons"


class SlowBus(MemoryBus):
    """A bus in memory that can lose its line, and whose log takes its time to be read."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(10_000, 86400.0, clock)
        self.said: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.refusals = 0
        self.reading, self.most_at_once = 0, 0
        self.ahead = 0.0
        """Seconds by which the log's clock is ahead of the node's."""

    def subscribe(self, room: str) -> None:
        self.said.append(f"+{room}")
        super().subscribe(room)

    def unsubscribe(self, room: str) -> None:
        self.said.append(f"-{room}")
        super().unsubscribe(room)

    def lose(self, room: str) -> None:
        """The line is lost: nothing of the room is heard."""
        super().unsubscribe(room)

    def find(self, room: str) -> None:
        super().subscribe(room)

    async def read_behind(self, room: str, after: str, limit: int) -> Window:
        window = await super().read_behind(room, after, limit)  # as the log is at this moment
        self.reading += 1
        self.most_at_once = max(self.most_at_once, self.reading)
        await self.gate.wait()
        self.reading -= 1
        if self.refusals:
            self.refusals -= 1
            raise StoreUnavailable("away")
        return msgspec.structs.replace(window, now=window.now + self.ahead)

    async def keep_at(self, room: str, body: bytes, seconds: float) -> None:
        """Keep a message whose id is of that time."""
        log = self._logs.setdefault(room, _Log(self._size, SENDER_BYTES))
        log.add("", LoggedMessage(f"{int(seconds * 1000)}-0", body))


@dataclass
class Installation:
    """The rooms of a node."""

    bus: SlowBus
    rooms: Rooms
    clock: Clock

    async def people(self, *names: str, room: str = ROOM) -> list[RecordingMember]:
        made = [RecordingMember(name) for name in names]
        for person in made:
            await enter(self.rooms, person, room)
        return made

    async def say(self, *bodies: str, room: str = ROOM) -> None:
        for body in bodies:
            await self.bus.keep(room, body.encode())
        await asyncio.sleep(0)  # what is said in one turn of the loop goes out at its end

    async def miss(self, *bodies: str) -> None:
        """Messages sent while the connection is lost; the reconnect is not announced yet."""
        self.bus.lose(ROOM)
        await self.say(*bodies)
        self.bus.find(ROOM)


def installation() -> Installation:
    clock = Clock()
    bus = SlowBus(clock)
    return Installation(bus, Rooms(bus, as_event=lambda kept: kept.body, clock=clock), clock)


def numbers(these: Iterable[int]) -> list[str]:
    return [str(n) for n in these]
