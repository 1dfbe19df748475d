"""Redis is replaced by an empty one, or restarts with less data: what members receive."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from services.bus.bus import id_order
from services.bus.log_keys import EPOCH_KEY, log_key
from services.rooms.rooms import Rooms
from tests.bus.nodes import ROOM, Node, hang_up, node
from tests.support.members import RecordingMember, enter
from tests.support.redis import RealRedis, until

AHEAD = "+30m"
GAP = "gap"


@pytest.fixture
def redis() -> Iterator[RealRedis]:
    """A Redis whose clock is half an hour ahead of the one that takes its place."""
    server = RealRedis(clock=AHEAD)
    yield server
    server.close()


@asynccontextmanager
async def rooms_on(redis: RealRedis) -> AsyncIterator[tuple[Node, Rooms]]:
    async with node(redis) as each:
        rooms = Rooms(
            each.bus, as_event=lambda kept: kept.id.encode(), as_gap=lambda _: GAP.encode()
        )
        yield each, rooms


async def replace(redis: RealRedis, *nodes: Node) -> None:
    """An empty one with another clock takes its place."""
    redis.kill()
    await until(lambda: not any(each.store.available for each in nodes))
    redis.clock = ""
    redis.start()
    await until(lambda: all(each.store.available for each in nodes))


@pytest.mark.gen_test(timeout=60)
async def test_nothing_said_after_it_is_read_as_old_and_the_gap_is_sent(redis: RealRedis) -> None:
    """Before: of 223 acknowledged messages 97 arrived, and no client was notified."""
    async with rooms_on(redis) as (a, rooms), node(redis) as b:
        ada = RecordingMember("ada")
        await enter(rooms, ada, ROOM)
        before = [await b.say(b"x") for _ in range(5)]
        await until(lambda: ada.texts == before)
        await replace(redis, a, b)
        after = [await b.say(b"y") for _ in range(20)]
        await until(lambda: len(ada.texts) == len(before) + 1 + len(after))
        assert ada.texts == [*before, GAP, *after]
        orders = [id_order(each) for each in [*before, *after]]
        assert orders == sorted(set(orders)), "ids of a room grow"


@pytest.mark.gen_test(timeout=60)
async def test_messages_that_are_said_all_the_while_come_or_a_gap_is_sent(
    redis: RealRedis,
) -> None:
    async with rooms_on(redis) as (a, rooms), node(redis) as b:
        ada = RecordingMember("ada")
        await enter(rooms, ada, ROOM)
        stop, said = asyncio.Event(), list[str]()

        async def speak() -> None:
            while not stop.is_set():
                said.append(await b.say(b"x"))
                await asyncio.sleep(0.002)

        speaking = asyncio.create_task(speak())
        await until(lambda: len(said) > 50)
        await replace(redis, a, b)
        so_far = len(said)
        await until(lambda: len(said) > so_far + 50)
        stop.set()
        await speaking
        await until(lambda: ada.texts[-1] == said[-1])
        reported = ada.texts.index(GAP)
        after = ada.texts[reported + 1 :]
        assert after == said[-len(after) :]
        assert ada.texts[:reported] == said[:reported]
        assert ada.texts.count(GAP) == 1


@pytest.mark.gen_test(timeout=60)
async def test_a_node_that_knows_nothing_of_the_time_before_is_received_too(
    redis: RealRedis,
) -> None:
    """Its ids begin further back: another epoch is something new, not something old."""
    async with rooms_on(redis) as (a, rooms):
        ada = RecordingMember("ada")
        await enter(rooms, ada, ROOM)
        before = [await a.say(b"x") for _ in range(3)]
        await until(lambda: ada.texts == before)
        await replace(redis, a)
        async with node(redis) as fresh:
            after = [await fresh.say(b"y") for _ in range(5)]
            await until(lambda: ada.texts[-1:] == after[-1:])
            assert id_order(after[0]) < id_order(before[-1])
            assert ada.texts == [*before, GAP, *after]


@pytest.mark.gen_test(timeout=60)
async def test_history_after_an_id_of_another_epoch_is_not_complete(
    redis: RealRedis,
) -> None:
    async with node(redis) as a:
        old = await a.say(b"x")
        await replace(redis, a)
        new = await a.say(b"y")
        window = await a.bus.read(ROOM, old, 10)
        assert not window.complete
        assert [message.id for message in window.messages] == [new]
        assert (await a.bus.read(ROOM, new, 10)).complete


@pytest.mark.gen_test(timeout=60)
async def test_a_log_that_came_back_without_its_end_is_a_gap_and_nothing_comes_twice(
    redis: RealRedis,
) -> None:
    """A failover to a replica, or an older snapshot: the same epoch, with less in it."""
    async with rooms_on(redis) as (_, rooms), node(redis) as b:
        ada = RecordingMember("ada")
        await enter(rooms, ada, ROOM)
        before = [await b.say(b"x") for _ in range(5)]
        await until(lambda: ada.texts == before)
        redis.ask("XDEL", log_key(ROOM), *before[-2:])
        hang_up(redis)
        await until(lambda: ada.texts[-1] == GAP)
        after = await b.say(b"y")
        await until(lambda: ada.texts == [*before, GAP, after])


@pytest.mark.gen_test(timeout=60)
async def test_a_lost_line_alone_is_no_gap(redis: RealRedis) -> None:
    async with rooms_on(redis) as (a, rooms), node(redis) as b:
        ada, bob = RecordingMember("ada"), RecordingMember("bob")
        await enter(rooms, ada, ROOM)
        await enter(rooms, bob, "channel:silent")
        said = [await b.say(b"x")]
        await until(lambda: ada.texts == said)
        for _ in range(3):
            hang_up(redis)
            hang_up(redis, "normal")
            said += [await b.say(b"x") for _ in range(3)]
            await a.is_heard()
        await until(lambda: ada.texts == said)
        assert bob.texts == []


@pytest.mark.gen_test(timeout=60)
async def test_a_log_that_was_forgotten_for_its_age_is_no_gap(redis: RealRedis) -> None:
    async with rooms_on(redis) as (a, rooms), node(redis) as b:
        a.bus._keep_ms = 300
        ada = RecordingMember("ada")
        await enter(rooms, ada, ROOM)
        said = [await b.say(b"x")]
        await until(lambda: ada.texts == said)
        redis.ask("DEL", log_key(ROOM), f"usher:{{{ROOM}}}:count")
        await asyncio.sleep(0.4)
        hang_up(redis)
        await a.is_heard()
        said.append(await b.say(b"y"))
        await until(lambda: ada.texts == said)


@pytest.mark.gen_test(timeout=60)
async def test_nodes_of_one_redis_know_one_epoch(redis: RealRedis) -> None:
    async with node(redis) as a, node(redis) as b:
        assert a.bus.epoch
        assert a.bus.epoch == b.bus.epoch == redis.ask("GET", EPOCH_KEY).decode()
