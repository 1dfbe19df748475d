"""What real sockets write into the pool of sessions, and the pool without its Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from services.errors import StoreUnavailable
from services.grants.rules import Right
from services.rooms.room_names import channel_room
from services.sockets.room_index import room_index_key
from services.sockets.session_pool import SocketSession, session_key, user_index_key
from services.websocket.protocol import CloseCode
from tests.sessions.test_control import nodes
from tests.sockets.pools import installation, session
from tests.support.parts import Parts, node, open_socket, redis_away, redis_back
from tests.support.redis import PATIENCE, RealRedis, redis_server, until

__all__ = ["redis_server"]

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
