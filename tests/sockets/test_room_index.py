"""The sockets of a room in Redis: one of several nodes writes, another reads."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from services.errors import StoreUnavailable
from services.redis.store import Store
from services.redis.store_cluster import ClusterStore
from services.redis.store_memory import MemoryStore
from services.redis.store_redis import RedisStore
from services.sockets.room_index import HERE_MS, HERE_SECONDS, Entry, RoomIndex, room_index_key
from tests.support.parts import Clock, CountingStore
from tests.support.redis import PATIENCE, RealRedis, redis_server, run, until
from tests.support.redis_forms import Cluster, cluster

__all__ = ["redis_server"]

ROOM = "channel:herons"


class Installation:
    """Two nodes' indexes over one store, and one clock."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self.store, self.clock = CountingStore(store), clock
        self.here, self.there = RoomIndex(self.store, clock), RoomIndex(self.store, clock)

    async def read(self, room: str = ROOM) -> set[str]:
        """Socket sessions, as the other node finds them."""
        return {entry.session_id for entry in await self.there.read(room)}


Run = Callable[[Callable[[Installation], Awaitable[None]]], None]


@pytest.fixture(scope="module")
def shared_cluster() -> Iterator[Cluster]:
    with cluster() as made:
        yield made


@pytest.fixture(params=["memory", "redis", "cluster"])
def in_installation(request: pytest.FixtureRequest) -> Run:
    """Runs a test in a installation over an empty store of one kind."""

    def in_it(work: Callable[[Installation], Awaitable[None]]) -> None:
        clock = Clock()
        if request.param == "cluster":
            made: Cluster = request.getfixturevalue("shared_cluster")
            for server in made.masters:
                server.ask("FLUSHALL")
            run(_with(ClusterStore(made.url, timeout=PATIENCE), clock, work))
        elif request.param == "redis":
            redis: RealRedis = request.getfixturevalue("redis_server")
            run(_with(RedisStore(redis.url, timeout=PATIENCE), clock, work))
        else:
            run(_with(MemoryStore(clock=clock), clock, work))

    return in_it


async def _with(
    store: MemoryStore | RedisStore | ClusterStore,
    clock: Clock,
    work: Callable[[Installation], Awaitable[None]],
) -> None:
    if not isinstance(store, MemoryStore):
        await store.connect()
    try:
        await work(Installation(store, clock))
    finally:
        await store.close()


def entry(number: int, user: str = "ada", node: str = "n1") -> Entry:
    return Entry(user, node, user.title(), f"s{number}")


def test_what_one_node_writes_another_reads(in_installation: Run) -> None:
    async def work(h: Installation) -> None:
        written = [entry(1), entry(2), entry(3, "bob", "n2")]
        h.here.write(ROOM, written[:2])
        h.here.write(ROOM, written[2:])
        h.here.write("channel:another", [entry(4)])
        assert sorted(await h.there.read(ROOM), key=lambda e: e.session_id) == written
        assert await h.there.read("channel:empty") == []

    in_installation(work)


def test_what_is_removed_is_not_found(in_installation: Run) -> None:
    async def work(h: Installation) -> None:
        h.here.write(ROOM, [entry(1), entry(2)])
        h.here.remove(ROOM, entry(1))
        h.here.remove(ROOM, entry(9))
        h.here.remove("channel:empty", entry(1))
        assert await h.read() == {"s2"}

    in_installation(work)


def test_an_entry_that_is_not_renewed_is_swept_out_of_a_live_index(in_installation: Run) -> None:
    async def work(h: Installation) -> None:
        h.here.write(ROOM, [entry(1), entry(2)])
        h.clock.forward(HERE_SECONDS - 1)
        h.here.write(ROOM, [entry(2)])
        assert await h.read() == {"s1", "s2"}
        h.clock.forward(2)
        assert await h.read() == {"s2"}
        (count,) = await h.store.call(("ZCARD", room_index_key(ROOM)))
        assert count == 1

    in_installation(work)


def test_a_write_of_many_is_two_commands_and_a_look_is_one_round_trip(in_installation: Run) -> None:
    async def work(h: Installation) -> None:
        await h.here.write(ROOM, (entry(n) for n in range(100)))
        assert len(await h.read()) == 100
        names = [[command[0] for command in group] for group in h.store.groups]
        assert names == [["ZADD", "PEXPIRE"], ["ZREMRANGEBYSCORE", "ZRANGEBYSCORE"]]

    in_installation(work)


@pytest.mark.gen_test
async def test_the_index_of_a_room_expires_in_redis_without_renewal(
    redis_server: RealRedis,
) -> None:
    async def work(h: Installation) -> None:
        await h.here.write(ROOM, [entry(1)])
        assert 0 < redis_server.ask("PTTL", room_index_key(ROOM)) <= HERE_MS <= 30_000

    await _with(RedisStore(redis_server.url, timeout=PATIENCE), Clock(), work)


@pytest.mark.gen_test
async def test_what_another_version_wrote_is_passed_over(redis_server: RealRedis) -> None:
    async def work(h: Installation) -> None:
        await h.here.write(ROOM, [entry(1)])
        for strange in (b"", b"{}", b"[]", b'["ada","n1","Ada"]', b"\xff", b"[1,2,3,4]"):
            redis_server.ask("ZADD", room_index_key(ROOM), "+inf", strange)
        newer = b'["bob","n2","Bob","s2","more"]'
        redis_server.ask("ZADD", room_index_key(ROOM), "+inf", newer)
        assert await h.read() == {"s1", "s2"}

    await _with(RedisStore(redis_server.url, timeout=PATIENCE), Clock(), work)


@pytest.mark.gen_test
async def test_without_redis_writing_is_quiet_and_reading_is_refused(
    redis_server: RealRedis,
) -> None:
    async def work(h: Installation) -> None:
        redis_server.kill()
        await until(lambda: not h.store.available)
        h.here.remove(ROOM, entry(1))
        unwritten: Any = h.here.write(ROOM, [entry(1)])
        for asked in (unwritten, h.here.read(ROOM)):
            with pytest.raises(StoreUnavailable):
                await asyncio.ensure_future(asked)

    await _with(RedisStore(redis_server.url, timeout=PATIENCE), Clock(), work)
