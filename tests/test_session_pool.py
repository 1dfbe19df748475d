"""Socket sessions in a real Redis, and the same in memory: leases and lookups."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from services.errors import StoreUnavailable
from services.protocol import CloseCode
from services.session_pool import (
    LEASE_SECONDS,
    RENEW_BATCH,
    RENEW_SECONDS,
    SessionPool,
    SocketSession,
    session_key,
    user_index_key,
)
from services.store import Store
from services.store_memory import MemoryStore
from services.store_redis import RedisStore
from tests.support.parts import Clock, CountingStore, node, open_socket, redis_away, redis_back
from tests.support.redis import PATIENCE, RealRedis, redis_server

__all__ = ["redis_server"]

KINDS = ("redis", "memory")


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


class House:
    """Two nodes' pools over one store, and one clock."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self.store, self.clock = CountingStore(store), clock
        self.pool, self.other_node = SessionPool(self.store, clock), SessionPool(self.store, clock)


@pytest.fixture(params=KINDS)
def redis_or_none(request: pytest.FixtureRequest) -> Iterator[RealRedis | None]:
    server = RealRedis() if request.param == "redis" else None
    yield server
    if server is not None:
        server.close()


@asynccontextmanager
async def house(redis: RealRedis | None) -> AsyncIterator[House]:
    clock = Clock()
    store: Store = MemoryStore(clock=clock)
    if redis is not None:
        store = RedisStore(redis.url, timeout=PATIENCE)
        await store.connect()
    try:
        yield House(store, clock)
    finally:
        await store.close()


# ---- lookups -------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_session_written_here_is_found_on_every_node(
    redis_or_none: RealRedis | None,
) -> None:
    async with house(redis_or_none) as h:
        h.pool.write(session(1))
        assert await h.other_node.get("s1") == session(1)
        assert await h.other_node.user_id_of("s1") == "ada"


@pytest.mark.gen_test
async def test_what_is_not_there_is_nobodys(redis_or_none: RealRedis | None) -> None:
    async with house(redis_or_none) as h:
        assert await h.pool.get("s1") is None
        assert await h.pool.user_id_of("s1") is None
        assert await h.pool.of_user("ada") == []
        assert await h.pool.of_login_session("ada", "laptop") == []
        assert await h.pool.of_room("user:ada") == []
        assert await h.pool.counts("ada") == {}


@pytest.mark.gen_test
async def test_sessions_are_found_by_user_login_session_and_room(
    redis_or_none: RealRedis | None,
) -> None:
    async with house(redis_or_none) as h:
        mine = [session(1), session(2), session(3, login="phone")]
        for one in [*mine, session(4, user="bob", login="laptop")]:
            h.pool.write(one)
        assert set(await h.other_node.of_user("ada")) == set(mine)
        assert set(await h.other_node.of_login_session("ada", "laptop")) == set(mine[:2])
        assert await h.other_node.of_login_session("ada", "phone") == mine[2:]
        assert set(await h.other_node.of_room("user:ada")) == set(mine)
        assert await h.other_node.of_room("channel:ada") == []
        assert await h.other_node.counts("ada") == {"laptop": 2, "phone": 1}


@pytest.mark.gen_test
async def test_a_removed_session_is_in_no_lookup(redis_or_none: RealRedis | None) -> None:
    async with house(redis_or_none) as h:
        for number in (1, 2):
            h.pool.write(session(number))
        h.pool.remove(session(1))
        assert await h.pool.get("s1") is None
        assert await h.pool.of_user("ada") == [session(2)]
        assert await h.pool.counts("ada") == {"laptop": 1}


@pytest.mark.gen_test
async def test_a_lookup_of_many_takes_two_round_trips(redis_or_none: RealRedis | None) -> None:
    async with house(redis_or_none) as h:
        for number in range(50):
            h.pool.write(session(number))
        h.store.groups.clear()
        assert len(await h.pool.of_user("ada")) == 50
        assert len(h.store.groups) == 2


# ---- leases --------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_the_sessions_of_a_dead_node_vanish_with_their_lease() -> None:
    async with house(None) as h:
        h.pool.write(session(1))
        h.clock.forward(LEASE_SECONDS - 1)
        h.other_node.write(session(2))
        assert await h.other_node.counts("ada") == {"laptop": 2}
        h.clock.forward(2)
        assert await h.other_node.get("s1") is None
        assert await h.other_node.of_user("ada") == [session(2)]
        assert await h.other_node.counts("ada") == {"laptop": 1}


@pytest.mark.gen_test
async def test_in_redis_every_key_has_a_lease_and_nothing_is_left_for_a_reaper(
    redis_server: RealRedis,
) -> None:
    async with house(redis_server) as h:
        h.pool.write(session(1))
        await h.pool.renew([session(2)])
        keys = set(redis_server.ask("KEYS", "*"))
        named = {user_index_key("ada"), session_key("s1"), session_key("s2")}
        assert keys == {key.encode() for key in named}
        for key in keys:
            assert 0 < redis_server.ask("PTTL", key) <= LEASE_SECONDS * 1000


@pytest.mark.gen_test
async def test_a_member_whose_lease_ended_is_swept_out_of_a_living_index(
    redis_server: RealRedis,
) -> None:
    async with house(redis_server) as h:
        h.pool.write(session(1))
        h.clock.forward(LEASE_SECONDS + 1)
        h.pool.write(session(2))
        assert await h.pool.counts("ada") == {"laptop": 1}
        assert redis_server.ask("ZCARD", user_index_key("ada")) == 1


@pytest.mark.gen_test
async def test_renewal_keeps_a_session_for_as_long_as_it_goes_on(
    redis_or_none: RealRedis | None,
) -> None:
    async with house(redis_or_none) as h:
        h.pool.write(session(1))
        for _ in range(8):
            h.clock.forward(RENEW_SECONDS)
            await h.pool.renew([session(1)])
        assert await h.other_node.of_user("ada") == [session(1)]


@pytest.mark.gen_test
async def test_renewal_writes_the_whole_record_when_redis_was_emptied(
    redis_server: RealRedis,
) -> None:
    async with house(redis_server) as h:
        h.pool.write(session(1))
        assert await h.pool.of_user("ada") == [session(1)]
        redis_server.ask("FLUSHALL")
        assert await h.pool.of_user("ada") == []
        await h.pool.renew([session(1)])
        assert await h.pool.of_user("ada") == [session(1)]
        assert await h.pool.get("s1") == session(1)


@pytest.mark.gen_test
async def test_many_are_renewed_in_batches(redis_or_none: RealRedis | None) -> None:
    async with house(redis_or_none) as h:
        many = [session(number) for number in range(2 * RENEW_BATCH + 1)]
        await h.pool.renew(many)
        assert len(h.store.groups) == 3
        assert set(await h.pool.of_user("ada")) == set(many)


@pytest.mark.gen_test
async def test_a_socket_that_closes_during_a_renewal_does_not_come_back(
    redis_server: RealRedis,
) -> None:
    async with house(redis_server) as h:
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
async def test_a_session_goes_when_its_socket_goes(
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
    async with house(None) as h:
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
