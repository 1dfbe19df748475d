"""Presence on several nodes over one real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import msgspec
import pytest

from services.bus.bus import Bus
from services.bus.bus_memory import MemoryBus
from services.bus.bus_redis import RedisBus
from services.errors import StoreUnavailable
from services.grants.rules import Grant, Right
from services.redis.store import Command, Store
from services.redis.store_memory import MemoryStore
from services.redis.store_redis import RedisStore
from services.rooms.membership import Membership
from services.rooms.presence import (
    EPHEMERAL,
    NOTICES_PER_SECOND,
    ROOMS_AT_ONCE,
    Change,
    Presence,
    as_fit,
)
from services.rooms.room_names import channel_room
from services.rooms.rooms import Rooms
from services.sockets.room_index import HERE_MS, HERE_SECONDS, Here, room_index_key
from services.sockets.session_pool import LEASE_SECONDS, RENEW_BATCH, RENEW_SECONDS
from services.websocket.protocol import Member
from tests.support.members import RecordingMember
from tests.support.parts import Clock, CountingStore, node, open_socket
from tests.support.redis import PATIENCE, RealRedis, redis_server, until, within

__all__ = ["redis_server"]

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


# ---- who is there --------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_the_users_of_a_room_are_known_on_every_node(redis_server: RealRedis) -> None:
    async with nodes(redis_server, "a", "b", "c") as (_, (a, b, c)):
        await a.come("ada")
        await b.come("bob")
        for each in (a, b, c):
            await each.sees("ada", "bob")
        assert await a.presence.people(ROOM) == [Member("ada", "Ada"), Member("bob", "Bob")]
        assert await c.people("channel:empty") == []


@pytest.mark.gen_test
async def test_presence_right_after_joining_is_complete(
    redis_server: RealRedis,
) -> None:
    async with nodes(redis_server, "a", "b") as (_, (a, b)):
        await a.come("ada")
        await until(lambda: written(redis_server))
        bob = Somebody(b, "bob", "Bob")
        await b.rooms.wait_subscribed(b.rooms.subscribe([ROOM]))
        bob.membership.enter([ROOM])
        assert await b.people() == ["ada", "bob"]


@pytest.mark.gen_test
async def test_presence_of_the_own_room_costs_no_round_trip(redis_server: RealRedis) -> None:
    async with nodes(redis_server, "a") as (_, (a,)):
        await a.come("ada")
        await a.sees("ada")
        before = len(a.store.groups)
        for _ in range(20):
            await a.people()
        assert len(a.store.groups) == before


@pytest.mark.gen_test
async def test_a_room_of_one_user_has_no_presence(redis_server: RealRedis) -> None:
    async with nodes(redis_server, "a") as (_, (a,)):
        ada = await a.come("ada", room="user:ada")
        assert "user:ada" in ada.membership.names()
        ada.membership.leave("user:ada")
        await a.presence.renew()
        assert a.store.groups == []
        assert redis_server.ask("KEYS", "*:here") == []


# ---- notifications of members --------------------------------------------------------------


@pytest.mark.gen_test
async def test_members_are_notified_of_joins_and_leaves_on_any_node(
    redis_server: RealRedis,
) -> None:
    async with nodes(redis_server, "a", "b") as (_, (a, b)):
        ada = await a.come("ada")
        await until(lambda: ada.reported("joined") == ["ada"])
        bob = await b.come("bob")
        await until(lambda: ada.reported("joined") == ["ada", "bob"])
        await until(lambda: sorted(bob.reported("joined")) == ["ada", "bob"])
        bob.membership.leave(ROOM)
        await until(lambda: ada.reported("left") == ["bob"])
        assert ada.presences[-1] == {
            "room": ROOM,
            "joined": [],
            "left": [{"id": "bob", "name": "Bob"}],
        }
        assert bob.reported("left") == [], "a socket that has left gets no more"
        await a.sees("ada")


@pytest.mark.gen_test
async def test_many_concurrent_joins_are_announced_in_few_frames(redis_server: RealRedis) -> None:
    async with nodes(redis_server, "a", "b") as (_, (a, b)):
        ada = await a.come("ada")
        crowd = [await b.come(f"u{n}") for n in range(200)]
        await until(lambda: len(ada.reported("joined")) == 201)
        assert len(ada.presences) <= 20
        frames = sum(len(person.connection.frames) for person in (ada, *crowd))
        assert frames <= 20 * 201
        for person in crowd:
            person.membership.leave_all()
        await until(lambda: len(ada.reported("left")) == 200)
        assert len(ada.presences) <= 40
        assert len(set(ada.reported("left"))) == 200


@pytest.mark.gen_test
async def test_long_names_make_more_frames_and_none_above_64_kib(redis_server: RealRedis) -> None:
    """The read limit of many clients."""
    long = "鷺" * 100
    async with nodes(redis_server, "a") as (_, (a,)):
        ada = await a.come("ada")
        crowd = await asyncio.gather(*(a.come(f"u{n}", long) for n in range(450)))
        await until(lambda: len(ada.reported("joined")) == 451)
        for person in crowd:
            person.membership.leave_all()
        await until(lambda: len(ada.reported("left")) == 450)
        assert len(set(ada.reported("left"))) == 450
        assert max(map(len, ada.connection.frames)) <= 64 * 1024


def test_users_are_named_up_to_a_number_and_a_size() -> None:
    people = [Member(f"u{n}", "x" * 100) for n in range(10)]
    assert as_fit(people, 4)[0] == people[:4]
    size = len(msgspec.json.encode(people[0])) + 1
    assert as_fit(people, 10, 3 * size) == (people[:3], 0)
    assert as_fit(people, 10, 4 * size - 1) == (people[:3], 0)


@pytest.mark.gen_test
async def test_presence_is_sent_less_often_in_a_large_room(redis_server: RealRedis) -> None:
    async with nodes(redis_server, "a") as (_, (a,)):
        loop = asyncio.get_running_loop()
        first = await a.come("u0")
        for n in range(1, NOTICES_PER_SECOND // 5):
            await a.come(f"u{n}")
        await until(lambda: len(first.reported("joined")) == NOTICES_PER_SECOND // 5)
        seen, began = len(first.connection.frames), loop.time()
        await a.come("late")
        await until(lambda: len(first.connection.frames) > seen)
        assert loop.time() - began >= 0.15, "a thousand members: five times a second"
        assert first.reported("joined")[-1] == "late"


@pytest.mark.gen_test
async def test_a_user_who_joins_and_leaves_in_between_is_not_announced(
    redis_server: RealRedis,
) -> None:
    async with nodes(redis_server, "a") as (_, (a,)):
        ada = await a.come("ada")
        await until(lambda: ada.reported("joined") == ["ada"])
        bob = await a.come("bob")
        bob.membership.leave(ROOM)
        await a.come("cleo")
        await until(lambda: "cleo" in ada.reported("joined"))
        assert (ada.reported("joined"), ada.reported("left")) == (["ada", "cleo"], [])


@pytest.mark.gen_test
async def test_a_user_with_several_sockets_comes_once_and_leaves_with_the_last(
    redis_server: RealRedis,
) -> None:
    async with nodes(redis_server, "a", "b") as (_, (a, b)):
        ada = await a.come("ada")
        tabs = [await a.come("bob"), await a.come("bob"), await b.come("bob")]
        await a.sees("ada", "bob")
        bobs = [["bob", "a", "Bob"], ["bob", "a", "Bob"], ["bob", "b", "Bob"]]
        await until(lambda: written(redis_server) == [["ada", "a", "Ada"], *bobs])
        for tab in tabs[:2]:
            tab.membership.leave(ROOM)
        await until(lambda: len(written(redis_server)) == 2)
        await a.come("cleo")
        await until(lambda: "cleo" in ada.reported("joined"))
        assert ada.reported("left") == []
        assert ada.reported("joined").count("bob") == 1
        tabs[2].membership.leave(ROOM)
        await until(lambda: ada.reported("left") == ["bob"])
        await a.sees("ada", "cleo")


@pytest.mark.gen_test
async def test_a_user_on_two_nodes_is_listed_once(redis_server: RealRedis) -> None:
    async with nodes(redis_server, "a", "b", "c") as (_, (a, b, c)):
        await a.come("bob")
        await b.come("bob")
        await until(lambda: len(written(redis_server)) == 2)
        assert await a.presence.people(ROOM) == await c.presence.people(ROOM)
        assert await c.people() == ["bob"]


@pytest.mark.gen_test
async def test_a_member_with_a_new_name_leaves(redis_server: RealRedis) -> None:
    async with nodes(redis_server, "a", "b") as (_, (a, b)):
        old, new = await a.come("ada", "Ada"), await a.come("ada", "Ada Lovelace")
        await b.sees("ada")
        old.membership.leave(ROOM)
        new.membership.leave(ROOM)
        await until(lambda: not written(redis_server))
        assert await b.people() == []


@pytest.mark.gen_test
async def test_a_room_without_local_members_is_forgotten(redis_server: RealRedis) -> None:
    async with nodes(redis_server, "a", "b") as (_, (a, b)):
        ada = await a.come("ada")
        ada.membership.leave(ROOM)
        await b.come("bob")
        await b.sees("bob")
        before = len(a.store.groups)
        await a.presence.renew()
        assert len(a.store.groups) == before
        a.presence.on_leave(ROOM, ada.session_id)
        a.presence.on_leave("channel:never", ada.session_id)
        assert len(a.store.groups) == before
        assert ada.connection.frames == []


# ---- leases --------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_the_users_of_a_dead_node_are_gone_when_its_lease_is(
    redis_server: RealRedis,
) -> None:
    async with nodes(redis_server, "a", "b") as (clock, (a, dead)):
        ada = await a.come("ada")
        await dead.come("bob")
        await until(lambda: "bob" in ada.reported("joined"))
        for seconds in (RENEW_SECONDS, RENEW_SECONDS):
            clock.forward(seconds - 0.001)
            await a.presence.renew()
            assert await a.people() == ["ada", "bob"], "it may only be slow"
        clock.forward(RENEW_SECONDS)
        await a.presence.renew()
        assert clock() <= Clock()() + LEASE_SECONDS
        assert await a.people() == ["ada"]
        await until(lambda: ada.reported("left") == ["bob"])
        assert written(redis_server) == [["ada", "a", "Ada"]]


@pytest.mark.gen_test
async def test_a_renewed_socket_session_does_not_expire(redis_server: RealRedis) -> None:
    async with nodes(redis_server, "a", "b") as (clock, (a, b)):
        await a.come("ada")
        bob = await b.come("bob")
        await a.sees("ada", "bob")
        for _ in range(10):
            clock.forward(RENEW_SECONDS)
            await asyncio.gather(a.presence.renew(), b.presence.renew())
        await a.presence.renew()
        assert await a.people() == ["ada", "bob"]
        assert bob.reported("left") == []
        assert 0 < redis_server.ask("PTTL", room_index_key(ROOM)) <= HERE_MS
        assert 2 * (RENEW_SECONDS - 1) < HERE_SECONDS <= LEASE_SECONDS - RENEW_SECONDS


@pytest.mark.gen_test
async def test_more_rooms_than_are_renewed_at_once_are_all_renewed(
    redis_server: RealRedis,
) -> None:
    async with nodes(redis_server, "a") as (_, (a,)):
        rooms = [channel_room(f"c{n}") for n in range(ROOMS_AT_ONCE + 20)]
        ada = Somebody(a, "ada", "Ada")
        await a.rooms.wait_subscribed(a.rooms.subscribe(rooms))
        ada.membership.enter(rooms)
        redis_server.ask("FLUSHALL")
        await a.presence.renew()
        assert len(redis_server.ask("KEYS", "*:here")) == len(rooms)
        ada.membership.leave_all()
        await until(lambda: not redis_server.ask("KEYS", "*:here"))
        await a.presence.renew()
        assert redis_server.ask("KEYS", "*:here") == []


@pytest.mark.gen_test
async def test_all_sockets_are_renewed_in_batches_except_those_closed_meanwhile(
    redis_server: RealRedis,
) -> None:
    async with nodes(redis_server, "a") as (_, (a,)):
        crowd = [await a.come(f"u{n}") for n in range(2 * RENEW_BATCH + 1)]
        await a.people()
        redis_server.ask("FLUSHALL")
        a.store.groups.clear()
        renewal = asyncio.create_task(a.presence.renew())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert [len(group[0]) for group in a.store.groups] == [2 + 2 * RENEW_BATCH]
        crowd[-1].membership.leave(ROOM)
        await within(renewal)
        assert len(written(redis_server)) == 2 * RENEW_BATCH
        assert [f"u{2 * RENEW_BATCH}", "a", "Ada"] not in written(redis_server)
        assert len(await a.people()) == 2 * RENEW_BATCH


# ---- lost messages, lost Redis -------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_change_whose_message_was_lost_is_found_by_the_next_renewal(
    redis_server: RealRedis,
) -> None:
    async with nodes(redis_server, "a", "b") as (_, (a, b)):
        ada = await a.come("ada")
        bob = await b.come("bob")
        await until(lambda: "bob" in ada.reported("joined"))
        assert isinstance(b.bus, Mute)
        b.bus.is_mute = True
        bob.membership.leave(ROOM)
        await b.come("cleo")
        await until(lambda: written(redis_server)[1:] == [["cleo", "b", "Cleo"]])
        assert await a.people() == ["ada", "bob"], "no notification was sent"
        await a.presence.renew()
        assert await a.people() == ["ada", "cleo"]
        await until(lambda: ada.reported("left") == ["bob"])
        assert ada.reported("joined")[-1] == "cleo"


@pytest.mark.gen_test
async def test_a_revocation_received_during_the_look_up_overrides_its_result(
    redis_server: RealRedis,
) -> None:
    async with nodes(redis_server, "a", "b") as (_, (a, b)):
        await a.come("ada")
        bob = await b.come("bob")
        await a.sees("ada", "bob")
        a.store.gate.clear()
        renewal = asyncio.create_task(a.presence.renew())
        await until(lambda: a.store.held)
        bob.membership.leave(ROOM)
        await b.come("cleo")
        await a.sees("ada", "cleo")
        a.store.gate.set()
        await within(renewal)
        assert await a.people() == ["ada", "cleo"]


@pytest.mark.gen_test
async def test_without_redis_known_users_stay_known(
    redis_server: RealRedis,
) -> None:
    async with nodes(redis_server, "a", "b") as (_, (a, b)):
        ada = await a.come("ada")
        bob = await b.come("bob")
        await until(lambda: "bob" in ada.reported("joined"))
        redis_server.kill()
        await until(lambda: not a.store.available and not b.store.available)
        with pytest.raises(StoreUnavailable):
            await a.presence.renew()
        assert await a.people() == ["ada", "bob"]
        with pytest.raises(StoreUnavailable):
            await a.presence.people("channel:elsewhere")
        bob.membership.leave(ROOM)
        cleo = await b.come("cleo")
        redis_server.start()
        await until(lambda: a.store.available and b.store.available)
        await asyncio.gather(a.presence.renew(), b.presence.renew())
        await a.presence.renew()
        await b.presence.renew()
        assert await a.people() == await b.people() == ["ada", "cleo"]
        await until(lambda: ada.reported("left") == ["bob"])
        await until(lambda: sorted(set(cleo.reported("joined"))) == ["ada", "cleo"])


@pytest.mark.gen_test
async def test_a_node_of_another_version_is_passed_over(redis_server: RealRedis) -> None:
    async with nodes(redis_server, "a", "b") as (_, (a, b)):
        await a.come("ada")
        for strange in (b"", b"{}", b"[1]", b'["bob"]', b"\xff", b"null"):
            redis_server.ask("ZADD", room_index_key(ROOM), "+inf", b"x" + strange)
            a.rooms.send_ephemeral(ROOM, EPHEMERAL, strange)
        change = Change(Here("bob", "z", "Bob"), on_enter=True)
        a.rooms.send_ephemeral(ROOM, EPHEMERAL, msgspec.json.encode(change))
        await a.sees("ada", "bob")
        assert await b.people() == ["ada"]
        await a.presence.renew()
        assert await a.people() == ["ada"]


@pytest.mark.gen_test
async def test_a_node_alone_in_memory_knows_its_users() -> None:
    clock = Clock()
    a = Node("a", MemoryStore(clock=clock), MemoryBus(10, 60.0, clock), clock)
    ada = await a.come("ada")
    bob = await a.come("bob")
    await until(lambda: sorted(ada.reported("joined")) == ["ada", "bob"])
    clock.forward(RENEW_SECONDS)
    await a.presence.renew()
    bob.membership.leave(ROOM)
    await until(lambda: ada.reported("left") == ["bob"])
    assert await a.people() == ["ada"]


# ---- privacy -------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_names_lie_in_redis_and_no_address(
    database_url: str, redis_server: RealRedis
) -> None:
    async with node(database_url, redis_server) as parts:
        login = await parts.signed_in()
        await parts.channels.create(login.user.id, "Herons")
        parts.clock.forward(1)
        await open_socket(parts, login)
        await until(lambda: redis_server.ask("KEYS", "*:here"))
        everything = b""
        for key in redis_server.ask("KEYS", "*"):
            everything += key + b"\n" + bytes(redis_server.ask("DUMP", key))
        assert login.user.id.encode() in everything
        assert b"Ada" in everything
        for secret in (login.user.email, "example.org", login.access_token.reveal()):
            assert secret.lower().encode() not in everything.lower()
