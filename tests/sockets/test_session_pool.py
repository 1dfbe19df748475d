"""Socket sessions in a real Redis, and the same in memory: leases and lookups."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from services.errors import StoreUnavailable
from services.grants.rules import Right
from services.redis.store import Store
from services.redis.store_cluster import ClusterStore
from services.redis.store_memory import MemoryStore
from services.redis.store_redis import RedisStore
from services.rooms.room_names import channel_room
from services.sockets.room_index import HERE_SECONDS, Entry, RoomIndex, room_index_key
from services.sockets.session_pool import (
    LEASE_SECONDS,
    LOOKUP_BATCH,
    RENEW_BATCH,
    RENEW_SECONDS,
    SessionPool,
    SocketSession,
    session_key,
    user_index_key,
)
from services.websocket.protocol import CloseCode
from tests.sessions.test_control import nodes
from tests.support.parts import (
    Clock,
    CountingStore,
    Parts,
    node,
    open_socket,
    redis_away,
    redis_back,
)
from tests.support.redis import PATIENCE, RealRedis, redis_server, until
from tests.support.redis_forms import Cluster, cluster

__all__ = ["redis_server"]

KINDS = ("redis", "memory", "cluster")
ROOM = channel_room("herons")


def session(number: int, user: str = "ada", login: str = "laptop") -> SocketSession:
    return SocketSession(
        session_id=f"s{number}",
        user_id=user,
        login_session_id=login,
        name=user.title(),
        role="user",
        node="n1",
        connected_at=100.0,
        expires_at=1000.0,
    )


class Installation:
    """Two nodes' pools over one store, and one clock."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self.store, self.clock = CountingStore(store), clock
        self.pool, self.other_node = SessionPool(self.store, clock), SessionPool(self.store, clock)
        self._index = RoomIndex(self.store, clock)

    def enters(self, room: str, *sessions: SocketSession) -> None:
        """As presence notes it."""
        self._index.write(room, map(entry, sessions))

    def leaves(self, room: str, one: SocketSession) -> None:
        self._index.remove(room, entry(one))


def entry(one: SocketSession) -> Entry:
    return Entry(one.user_id, one.node, one.name, one.session_id)


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


@asynccontextmanager
async def installation(redis: RealRedis | Cluster | None) -> AsyncIterator[Installation]:
    clock = Clock()
    store: Store = MemoryStore(clock=clock)
    if redis is not None:
        kind = ClusterStore if isinstance(redis, Cluster) else RedisStore
        over_redis = kind(redis.url, timeout=PATIENCE)
        await over_redis.connect()
        store = over_redis
    try:
        yield Installation(store, clock)
    finally:
        await store.close()


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


# ---- with real sockets ---------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_socket_session_is_removed_with_its_socket(
    database_url: str, redis_server: RealRedis
) -> None:
    async with node(database_url, redis_server) as parts:
        login = await parts.signed_in()
        peer = await open_socket(parts, login)
        (record,) = await parts.pool.of_login_session(login.user.id, login.claims.sid)
        assert record == peer.client.session
        peer.client.close(CloseCode.FORBIDDEN)
        assert await parts.pool.of_user(login.user.id) == []
        assert await parts.pool.get(record.session_id) is None


class SecondInstallation:
    """A channel on two nodes, and somebody with sockets on both."""

    def __init__(self, here: Parts, there: Parts, owner: str, user: str, channel: str) -> None:
        self.here, self.there = here, there
        self.owner, self.user, self.channel, self.room = owner, user, channel, channel_room(channel)

    async def socket(self, parts: Parts, user: str) -> SocketSession:
        peer = await open_socket(parts, await parts.signed_in(user))
        return peer.client.session

    async def finds(self, *sessions: SocketSession) -> None:
        """Wait until both nodes find these in the room, and no others."""
        for parts in (self.here, self.there):
            end = asyncio.get_running_loop().time() + PATIENCE
            while set(found := await parts.pool.of_room(self.room)) != set(sessions):
                assert asyncio.get_running_loop().time() < end, found
                await asyncio.sleep(0.01)


@asynccontextmanager
async def second_installation(where: str, redis: RealRedis) -> AsyncIterator[SecondInstallation]:
    async with nodes(where, redis, "a", "b") as (here, there):
        owner, user = await here.user("Owner"), await here.user("Ada")
        channel = (await here.channels.create(owner, "Herons")).id
        await here.channels.put_member(owner, channel, user, Right.READ)
        here.clock.forward(1)
        yield SecondInstallation(here, there, owner, user, channel)


@pytest.mark.gen_test
async def test_the_sockets_of_a_channel_are_found_from_every_node(
    database_url: str, redis_server: RealRedis
) -> None:
    async with second_installation(database_url, redis_server) as h:
        first, second = await h.socket(h.here, h.user), await h.socket(h.here, h.user)
        third, owner = await h.socket(h.there, h.user), await h.socket(h.there, h.owner)
        await h.finds(first, second, third, owner)
        assert set(await h.here.pool.of_room(f"user:{h.user}")) == {first, second, third}
        one = h.here.hub.get(second.session_id)
        assert one is not None
        one.membership.leave(h.room)
        await h.finds(first, third, owner)
        one.close(CloseCode.FORBIDDEN)
        other = h.there.hub.get(owner.session_id)
        assert other is not None
        other.close(CloseCode.FORBIDDEN)
        await h.finds(first, third)
        await h.here.channels.remove_member(h.owner, h.channel, h.user)
        await h.finds()


@pytest.mark.gen_test
async def test_the_index_of_a_room_comes_back_with_the_renewal_when_redis_was_emptied(
    database_url: str, redis_server: RealRedis
) -> None:
    async with second_installation(database_url, redis_server) as h:
        sockets = [await h.socket(h.here, h.user), await h.socket(h.there, h.owner)]
        await h.finds(*sockets)
        redis_server.ask("FLUSHALL")
        await h.finds()
        for parts in (h.here, h.there):
            await parts.pool.renew(client.session for client in parts.hub)
            await parts.presence.renew()
        await h.finds(*sockets)


@pytest.mark.slow
@pytest.mark.gen_test(timeout=60)
async def test_removing_one_user_among_100_000_costs_by_their_sockets_and_rooms_alone(
    database_url: str, redis_server: RealRedis
) -> None:
    async with node(database_url, redis_server) as parts:
        owner, rooms = await parts.user("Owner"), 3
        channels = [(await parts.channels.create(owner, "Herons")).id for _ in range(rooms)]
        costs = [await removal_cost(parts, redis_server, owner, channels, n) for n in (1, 20)]
        crowded = [
            await removal_cost(parts, redis_server, owner, channels, n, others=100_000)
            for n in (1, 20)
        ]
        assert crowded == costs, "the others cost nothing"
        # Of each socket its record, its place with its user and in each room; the rest is told
        # once: the rows' own keys, the news, and that the user has left each room.
        each = 2 + rooms
        assert costs[1] - costs[0] == 19 * each
        assert costs[0] <= each + rooms + 4


def crowd(redis: RealRedis, channels: list[str], sessions: int) -> None:
    """Socket sessions of other people in the same rooms, written by Redis itself."""
    script = """
    for s = 1, ARGV[1] do
      local user, id = 'u' .. s, 'synthetic' .. s
      redis.call('SET', 'usher:socket:{' .. id .. '}', '{}', 'PX', 30000)
      redis.call('ZADD', 'usher:{' .. user .. '}:sockets', ARGV[2], 'sid/' .. id)
      local entry = '["' .. user .. '","elsewhere","Somebody","' .. id .. '"]'
      for _, key in ipairs(KEYS) do redis.call('ZADD', key, ARGV[2], entry) end
    end
    """
    keys = [room_index_key(channel_room(channel)) for channel in channels]
    redis.ask("EVAL", script, len(keys), *keys, sessions, "9e15")
    assert redis.ask("ZCARD", keys[0]) > sessions


async def removal_cost(
    parts: Parts,
    redis: RealRedis,
    owner: str,
    channels: list[str],
    sockets: int,
    others: int = 0,
) -> int:
    """Commands to Redis from the end of a user's login sessions to that of their last socket."""
    user = await parts.user("Ada")
    for channel in channels:
        await parts.channels.put_member(owner, channel, user, Right.READ)
    parts.clock.forward(1)
    login = await parts.signed_in(user)
    peers = [await open_socket(parts, login) for _ in range(sockets)]
    assert len(await parts.pool.of_user(user)) == sockets
    for channel in channels:
        await parts.presence.people(channel_room(channel))  # no look is under way any more
    if others:
        crowd(redis, channels, others)
        assert redis.ask("DBSIZE") > 2 * others
    parts.store.groups.clear()
    await parts.session_ends.end_all(user, "disabled")
    assert [await peer.close_code() for peer in peers] == [CloseCode.SESSION_REVOKED] * sockets
    await until(lambda: not redis.ask("EXISTS", user_index_key(user)))
    cost = sum(map(len, parts.store.groups))
    redis.ask("DEL", *(room_index_key(channel_room(channel)) for channel in channels))
    return cost


@pytest.mark.gen_test
async def test_a_usual_join_and_its_end_are_eight_commands(
    database_url: str, redis_server: RealRedis
) -> None:
    async with node(database_url, redis_server) as parts:
        login = await parts.signed_in()
        for _ in range(2):  # from the first on Redis knows the login session
            parts.store.groups.clear()
            (await open_socket(parts, login, bearer=True)).close()
            await until(lambda: len(parts.hub) == 0)
        sent = [[str(command[0]) for command in group] for group in parts.store.groups]
        # Who it is and their place come in one answer; nothing is waited for behind it.
        who = ["MGET", "ZADD", "PEXPIRE", "ZCARD"]
        record_and_binding = ["SET", "SET"]
        assert sent == [who, record_and_binding, ["DEL", "ZREM"]]


@pytest.mark.gen_test
async def test_redis_holds_no_address_and_no_token(
    database_url: str, redis_server: RealRedis
) -> None:
    async with node(database_url, redis_server) as parts:
        login = await parts.signed_in()
        await open_socket(parts, login, bearer=True)
        ticket = await parts.tickets.issue(login.claims)
        assert await parts.pool.of_user(login.user.id)
        everything = b""
        for key in redis_server.ask("KEYS", "*"):
            everything += key + repr(stored(redis_server, key)).encode()
        assert login.user.id.encode() in everything, "the check looks at the right server"
        for secret in (
            login.user.email,
            "@",
            login.access_token.reveal(),
            login.access_token.reveal().rpartition(".")[2],
            login.refresh_token.reveal(),
            ticket.reveal(),
            "192.0.2.7",
        ):
            assert secret.encode() not in everything


def stored(redis: RealRedis, key: bytes) -> object:
    if redis.ask("TYPE", key) == b"string":
        return redis.ask("GET", key)
    return redis.ask("ZRANGE", key, 0, -1, "WITHSCORES")


@pytest.mark.gen_test
async def test_a_record_holds_only_what_the_contract_lets_it() -> None:
    async with installation(None) as h:
        h.pool.write(session(1))
        (raw,) = await h.store.call(("GET", session_key("s1")))
        assert set(msgspec.json.decode(raw)) == {
            "session_id",
            "user_id",
            "login_session_id",
            "name",
            "role",
            "node",
            "connected_at",
            "expires_at",
        }


# ---- Redis away ----------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_without_redis_writing_is_quiet_and_asking_is_refused(
    database_url: str, redis_server: RealRedis
) -> None:
    async with node(database_url, redis_server) as parts:
        await redis_away(parts, redis_server)
        parts.pool.write(session(1))
        parts.pool.remove(session(2))
        for asking in (
            parts.pool.get("s1"),
            parts.pool.user_id_of("s1"),
            parts.pool.of_user("ada"),
            parts.pool.of_login_session("ada", "laptop"),
            parts.pool.of_room("user:ada"),
            parts.pool.counts("ada"),
            parts.pool.renew([session(1)]),
        ):
            with pytest.raises(StoreUnavailable):
                await asking
        await redis_back(parts, redis_server)
        await parts.pool.renew([session(1)])
        assert await parts.pool.of_user("ada") == [session(1)]
