"""Presence when a node dies, a message is lost, or Redis is away."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from services.bus.bus_memory import MemoryBus
from services.errors import StoreUnavailable
from services.redis.store_memory import MemoryStore
from services.rooms.presence import EPHEMERAL, ROOMS_AT_ONCE, Change
from services.rooms.room_names import channel_room
from services.sockets.room_index import HERE_MS, HERE_SECONDS, Here, room_index_key
from services.sockets.session_pool import LEASE_SECONDS, RENEW_BATCH, RENEW_SECONDS
from tests.rooms.presences import ROOM, Mute, Node, Somebody, nodes, written
from tests.support.parts import Clock
from tests.support.redis import RealRedis, redis_server, until, within

__all__ = ["redis_server"]

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
