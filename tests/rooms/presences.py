"""Presence on several nodes over one real Redis, whose store can be slow or mute."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import msgspec

from services.bus.bus import Bus
from services.bus.bus_redis import RedisBus
from services.grants.rules import Grant, Right
from services.redis.store import Command, Store
from services.redis.store_redis import RedisStore
from services.rooms.membership import Membership
from services.rooms.presence import Presence
from services.rooms.room_names import channel_room
from services.rooms.rooms import Rooms
from services.sockets.room_index import room_index_key
from services.websocket.protocol import Member
from tests.support.members import RecordingMember
from tests.support.parts import Clock, CountingStore
from tests.support.redis import PATIENCE, RealRedis

ROOM = channel_room("herons")
GRANTS = {"herons": Grant(Right.WRITE, 0.0)}


class SlowStore(CountingStore):
    """A store whose answers can be held back, as on their way."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.gate = asyncio.Event()
        self.gate.set()
        self.held = 0

    def call(self, *commands: Command) -> Awaitable[list[Any]]:
        answer = super().call(*commands)
        return self._held(answer) if commands[-1][0] == "ZRANGEBYSCORE" else answer

    async def _held(self, answer: Awaitable[list[Any]]) -> list[Any]:
        found = await answer
        self.held += 1
        await self.gate.wait()
        self.held -= 1
        return found


class Mute(RedisBus):
    """A bus that loses ephemeral messages while `is_mute` is set by the test."""

    is_mute = False

    def send(self, room: str, body: bytes) -> Awaitable[object]:
        if self.is_mute:
            lost = asyncio.get_running_loop().create_future()
            lost.set_result(None)
            return lost
        return super().send(room, body)


class Node:
    """Presence on one node."""

    def __init__(self, name: str, store: Store, bus: Bus, clock: Clock) -> None:
        self.name, self.store, self.bus = name, SlowStore(store), bus
        self.rooms = Rooms(bus, as_event=lambda kept: kept.body, clock=clock)
        self.presence = Presence(self.store, self.rooms, name, clock)

    async def come(self, user_id: str, name: str = "", room: str = ROOM) -> Somebody:
        somebody = Somebody(self, user_id, name or user_id.title())
        await somebody.membership.enter_subscribed([room])
        return somebody

    async def people(self, room: str = ROOM) -> list[str]:
        return sorted(member.id for member in await self.presence.people(room))

    async def sees(self, *user_ids: str) -> None:
        """Wait until these people are known here, and nobody else."""
        loop = asyncio.get_running_loop()
        end = loop.time() + PATIENCE
        while (seen := await self.people()) != sorted(user_ids):
            assert loop.time() < end, seen
            await asyncio.sleep(0.01)


class Somebody(RecordingMember):
    """One socket of a user."""

    def __init__(self, at: Node, user_id: str, name: str) -> None:
        super().__init__(f"{user_id}@{at.name}-{id(self)}")
        user, grants = Member(user_id, name), dict(GRANTS)
        self.membership = Membership(at.rooms, at.presence, self.member, user, grants)

    def reported(self, what: str) -> list[str]:
        """The users who joined or left, as this socket was notified."""
        return [member["id"] for event in self.presences for member in event[what]]

    @property
    def presences(self) -> list[Any]:
        events = self.events
        assert all(event["event"] == "presence" for event in events)
        assert all(event["data"]["room"] == ROOM for event in events)
        return [event["data"] for event in events]


@asynccontextmanager
async def nodes(redis: RealRedis, *names: str) -> AsyncIterator[tuple[Clock, list[Node]]]:
    clock, made = Clock(), list[Node]()
    async with AsyncExitStack() as stack:
        for name in names:
            store = RedisStore(redis.url, timeout=PATIENCE)
            await store.connect()
            stack.push_async_callback(store.close)
            bus = Mute(redis.url, store, 100, 3600.0)
            await bus.open()
            stack.push_async_callback(bus.close)
            made.append(Node(name, store, bus, clock))
        yield clock, made


def written(redis: RealRedis, room: str = ROOM) -> list[list[str]]:
    """User, node and name of every entry in Redis."""
    entries = redis.ask("ZRANGE", room_index_key(room), 0, -1)
    return sorted(msgspec.json.decode(entry)[:3] for entry in entries)
