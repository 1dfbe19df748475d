"""Socket sessions in a real Redis, and the same in memory: leases and lookups."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from services.rooms.room_names import channel_room
from services.sockets.room_index import HERE_SECONDS
from services.sockets.session_pool import (
    LEASE_SECONDS,
    LOOKUP_BATCH,
    RENEW_BATCH,
    RENEW_SECONDS,
    session_key,
    user_index_key,
)
from tests.sockets.pools import installation, session
from tests.support.redis import RealRedis, redis_server
from tests.support.redis_forms import Cluster, cluster

__all__ = ["redis_server"]

KINDS = ("redis", "memory", "cluster")
ROOM = channel_room("herons")


@pytest.fixture(scope="module")
def shared_cluster() -> Iterator[Cluster]:
    with cluster() as made:
        yield made


@pytest.fixture(params=KINDS)
def redis_or_none(request: pytest.FixtureRequest) -> RealRedis | Cluster | None:
    """An empty Redis, an empty cluster, or None: all in memory."""
    if request.param == "cluster":
        made: Cluster = request.getfixturevalue("shared_cluster")
        for server in made.masters:
            server.ask("FLUSHALL")
        return made
    if request.param == "redis":
        redis: RealRedis = request.getfixturevalue("redis_server")
        return redis
    return None


# ---- lookups -------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_session_written_here_is_found_on_every_node(
    redis_or_none: RealRedis | Cluster | None,
) -> None:
    async with installation(redis_or_none) as h:
        h.pool.write(session(1))
        assert await h.other_node.get("s1") == session(1)
        assert await h.other_node.user_id_of("s1") == "ada"


@pytest.mark.gen_test
async def test_what_is_not_there_is_nobodys(redis_or_none: RealRedis | Cluster | None) -> None:
    async with installation(redis_or_none) as h:
        assert await h.pool.get("s1") is None
        assert await h.pool.user_id_of("s1") is None
        assert await h.pool.of_user("ada") == []
        assert await h.pool.of_login_session("ada", "laptop") == []
        assert await h.pool.of_room("user:ada") == []
        assert await h.pool.of_room(ROOM) == []
        assert await h.pool.counts("ada") == {}


@pytest.mark.gen_test
async def test_sessions_are_found_by_user_login_session_and_room(
    redis_or_none: RealRedis | Cluster | None,
) -> None:
    async with installation(redis_or_none) as h:
        mine = [session(1), session(2), session(3, login="phone")]
        for one in [*mine, session(4, user="bob", login="laptop")]:
            h.pool.write(one)
        assert set(await h.other_node.of_user("ada")) == set(mine)
        assert set(await h.other_node.of_login_session("ada", "laptop")) == set(mine[:2])
        assert await h.other_node.of_login_session("ada", "phone") == mine[2:]
        assert set(await h.other_node.of_room("user:ada")) == set(mine)
        assert await h.other_node.of_room("channel:ada") == []
        h.enters(ROOM, mine[0], mine[2], session(4, user="bob", login="laptop"))
        found = await h.other_node.of_room(ROOM)
        assert {one.session_id for one in found} == {"s1", "s3", "s4"}
        assert mine[0] in found
        assert await h.other_node.counts("ada") == {"laptop": 2, "phone": 1}


@pytest.mark.gen_test
async def test_a_removed_session_is_in_no_lookup(redis_or_none: RealRedis | Cluster | None) -> None:
    async with installation(redis_or_none) as h:
        for number in (1, 2):
            h.pool.write(session(number))
        h.pool.remove(session(1))
        assert await h.pool.get("s1") is None
        assert await h.pool.of_user("ada") == [session(2)]
        assert await h.pool.counts("ada") == {"laptop": 1}


@pytest.mark.gen_test
async def test_a_lookup_of_many_takes_two_round_trips(
    redis_or_none: RealRedis | Cluster | None,
) -> None:
    async with installation(redis_or_none) as h:
        for number in range(50):
            h.pool.write(session(number))
        h.store.groups.clear()
        assert len(await h.pool.of_user("ada")) == 50
        assert len(h.store.groups) == 2


@pytest.mark.gen_test
async def test_a_full_room_is_looked_up_in_batches(
    redis_or_none: RealRedis | Cluster | None,
) -> None:
    async with installation(redis_or_none) as h:
        many = [session(number, user=f"u{number}") for number in range(LOOKUP_BATCH + 1)]
        await h.pool.renew(many)
        h.enters(ROOM, *many)
        h.store.groups.clear()
        assert set(await h.other_node.of_room(ROOM)) == set(many)
        assert [len(group) for group in h.store.groups] == [2, LOOKUP_BATCH, 1]


@pytest.mark.gen_test
async def test_sockets_that_left_or_closed_are_not_found_in_a_room(
    redis_or_none: RealRedis | Cluster | None,
) -> None:
    async with installation(redis_or_none) as h:
        stays, leaves, gone = session(1), session(2), session(3)
        await h.pool.renew([stays, leaves, gone])
        h.enters(ROOM, stays, leaves, gone)
        h.leaves(ROOM, leaves)
        h.pool.remove(gone)
        assert await h.other_node.of_room(ROOM) == [stays]
        assert set(await h.other_node.of_user("ada")) == {stays, leaves}


# ---- leases --------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_the_sessions_of_a_dead_node_vanish_with_their_lease() -> None:
    async with installation(None) as h:
        h.pool.write(session(1))
        h.clock.forward(LEASE_SECONDS - 1)
        h.other_node.write(session(2))
        assert await h.other_node.counts("ada") == {"laptop": 2}
        h.clock.forward(2)
        assert await h.other_node.get("s1") is None
        assert await h.other_node.of_user("ada") == [session(2)]
        assert await h.other_node.counts("ada") == {"laptop": 1}


@pytest.mark.gen_test
async def test_the_sessions_of_a_dead_node_vanish_from_the_room(
    redis_or_none: RealRedis | Cluster | None,
) -> None:
    async with installation(redis_or_none) as h:
        for one in (session(1), session(2)):
            h.pool.write(one)
            h.enters(ROOM, one)
        h.clock.forward(HERE_SECONDS - 1)
        h.pool.write(session(2))
        h.enters(ROOM, session(2))
        assert set(await h.other_node.of_room(ROOM)) == {session(1), session(2)}
        h.clock.forward(2)
        assert HERE_SECONDS <= LEASE_SECONDS
        assert await h.other_node.of_room(ROOM) == [session(2)]


@pytest.mark.gen_test
async def test_in_redis_every_key_has_a_lease_and_nothing_is_left_for_a_reaper(
    redis_server: RealRedis,
) -> None:
    async with installation(redis_server) as h:
        h.pool.write(session(1))
        await h.pool.renew([session(2)])
        keys = set(redis_server.ask("KEYS", "*"))
        named = {user_index_key("ada"), session_key("s1"), session_key("s2")}
        assert keys == {key.encode() for key in named}
        for key in keys:
            assert 0 < redis_server.ask("PTTL", key) <= LEASE_SECONDS * 1000


@pytest.mark.gen_test
async def test_a_member_whose_lease_ended_is_swept_out_of_a_live_index(
    redis_server: RealRedis,
) -> None:
    async with installation(redis_server) as h:
        h.pool.write(session(1))
        h.clock.forward(LEASE_SECONDS + 1)
        h.pool.write(session(2))
        assert await h.pool.counts("ada") == {"laptop": 1}
        assert redis_server.ask("ZCARD", user_index_key("ada")) == 1


@pytest.mark.gen_test
async def test_renewal_keeps_a_session_for_as_long_as_it_continues(
    redis_or_none: RealRedis | Cluster | None,
) -> None:
    async with installation(redis_or_none) as h:
        h.pool.write(session(1))
        for _ in range(8):
            h.clock.forward(RENEW_SECONDS)
            await h.pool.renew([session(1)])
        assert await h.other_node.of_user("ada") == [session(1)]


@pytest.mark.gen_test
async def test_renewal_writes_the_whole_record_when_redis_was_emptied(
    redis_server: RealRedis,
) -> None:
    async with installation(redis_server) as h:
        h.pool.write(session(1))
        assert await h.pool.of_user("ada") == [session(1)]
        redis_server.ask("FLUSHALL")
        assert await h.pool.of_user("ada") == []
        await h.pool.renew([session(1)])
        assert await h.pool.of_user("ada") == [session(1)]
        assert await h.pool.get("s1") == session(1)


@pytest.mark.gen_test
async def test_many_are_renewed_in_batches(redis_or_none: RealRedis | Cluster | None) -> None:
    async with installation(redis_or_none) as h:
        many = [session(number) for number in range(2 * RENEW_BATCH + 1)]
        await h.pool.renew(many)
        assert len(h.store.groups) == 3
        assert set(await h.pool.of_user("ada")) == set(many)


@pytest.mark.gen_test
async def test_a_socket_that_closes_during_a_renewal_does_not_come_back(
    redis_server: RealRedis,
) -> None:
    async with installation(redis_server) as h:
        many = {f"s{number}": session(number) for number in range(RENEW_BATCH + 1)}
        last = session(RENEW_BATCH)
        renewal = asyncio.ensure_future(
            h.pool.renew(one for key, one in list(many.items()) if key in many)
        )
        await asyncio.sleep(0)
        assert len(h.store.groups) == 1, "the second batch is still to come"
        del many[last.session_id]
        h.pool.remove(last)
        await renewal
        assert await h.pool.get(last.session_id) is None
        assert await h.pool.counts("ada") == {"laptop": RENEW_BATCH}
