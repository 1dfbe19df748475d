"""Messages between nodes over a real Redis, also when Redis is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from services.bus.bus_memory import MemoryBus
from services.bus.log_keys import channel, log_key
from services.metrics import Metrics
from services.rooms.rooms import Rooms
from services.sessions.control import ACKNOWLEDGED, CONTROL_ROOM, Control, Revocation
from tests.support.parts import Parts, node, open_socket, redis_away, redis_back
from tests.support.redis import RealRedis, redis_server, until, within

__all__ = ["redis_server"]

ENTRY = Revocation("session", "sid", "ada", "logout", 1.0, 7)
OTHER = Revocation("role", "bob", "bob", "role_changed", 2.5, 8, "admin")


class Noting:
    """Records the messages to a node, in place of its revocations."""

    def __init__(self, parts: Parts, closes: int = 0) -> None:
        self.received: list[Revocation] = []
        self.replaced: list[str] = []
        self._closes = closes
        parts.control.on_revocations(self._revoked)
        parts.control.on_replaced(self.replaced.append)

    def _revoked(self, revocations: Sequence[Revocation]) -> int:
        self.received += revocations
        return self._closes


@asynccontextmanager
async def nodes(database_url: str, redis: RealRedis, *names: str) -> AsyncIterator[list[Parts]]:
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(node(database_url, redis, name=names[0]))
        others = [
            await stack.enter_async_context(node(database_url, redis, first.clock, name=name))
            for name in names[1:]
        ]
        yield [first, *others]


def deafen(redis: RealRedis) -> None:
    """Every line that hears is hung up."""
    redis.ask("CLIENT", "KILL", "TYPE", "pubsub")


def listening(redis: RealRedis) -> set[str]:
    """The connections that hear, by Redis' numbers for them."""
    clients = redis.ask("CLIENT", "LIST", "TYPE", "pubsub").decode().splitlines()
    return {client.split()[0] for client in clients}


# ---- telling -------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_messages_of_a_node_reach_every_other_node_and_not_itself(
    database_url: str, redis_server: RealRedis
) -> None:
    async with nodes(database_url, redis_server, "a", "b", "c") as parts:
        a, b, c = map(Noting, parts)
        assert await parts[0].control.publish([ENTRY, OTHER]) is True
        await parts[1].control.publish([OTHER])
        await until(lambda: len(c.received) == 3 and a.received)
        assert c.received == [ENTRY, OTHER, OTHER]
        assert (a.received, b.received) == ([OTHER], [ENTRY, OTHER])


@pytest.mark.gen_test
async def test_publishing_to_an_empty_room_succeeds(database_url: str) -> None:
    async with node(database_url) as parts:
        noting = Noting(parts)
        assert await parts.control.publish([ENTRY]) is True
        assert await parts.control.publish([]) is True
        await parts.control.replace("s1")
        assert (noting.received, noting.replaced) == ([], [])


@pytest.mark.gen_test
async def test_messages_before_a_listener_is_set_do_no_harm() -> None:
    bus = MemoryBus(10, 60.0)
    rooms = Rooms(bus, as_event=lambda kept: kept.body)
    control, teller = (Control(bus, rooms, name, Metrics()) for name in ("a", "b"))
    await control.open()
    await teller.publish([ENTRY])
    await teller.replace("s1")
    await bus.send(CONTROL_ROOM, ACKNOWLEDGED + b"{}")


@pytest.mark.gen_test
async def test_a_node_applies_each_message_once(database_url: str, redis_server: RealRedis) -> None:
    async with nodes(database_url, redis_server, "a", "b") as (a, b):
        login = await a.signed_in()
        peer = await open_socket(b, login)
        entry = Revocation("session", login.claims.sid, login.user.id, "logout", b.clock(), 7)
        await a.control.publish([entry])
        assert await peer.close_code() == 4410
        assert b.revocations.names(login.claims)
        witness = Noting(a)
        await a.control.publish([entry])
        await b.control.publish([OTHER])
        await until(lambda: witness.received)
        assert b.count("usher_sockets_revoked_total", reason="logout") == 1


@pytest.mark.gen_test
async def test_a_logout_on_one_node_closes_the_sockets_of_another(
    database_url: str, redis_server: RealRedis
) -> None:
    async with nodes(database_url, redis_server, "a", "b") as (a, b):
        login, stays = await a.signed_in(), await a.signed_in()
        peer, other = await open_socket(b, login), await open_socket(b, stays)
        await a.session_ends.end(login.user.id, login.claims.sid, "logout")
        assert await within(peer.close_code(), 1.0) == 4410
        assert other.client.connection.is_open
        assert b.count("usher_revocation_seconds_count") == 1, "measured where it was cut"


@pytest.mark.gen_test
async def test_a_replaced_socket_is_closed_wherever_it_is(
    database_url: str, redis_server: RealRedis
) -> None:
    async with nodes(database_url, redis_server, "a", "b") as (a, b):
        login = await a.signed_in()
        peer, stays = await open_socket(b, login), await open_socket(b, login)
        await a.control.replace("no such session")
        await a.control.replace(peer.client.session_id)
        assert await peer.close_code() == 4409
        assert stays.client.connection.is_open


# ---- lost lines ----------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_news_that_were_missed_are_followed_from_where_the_node_stopped(
    database_url: str, redis_server: RealRedis
) -> None:
    async with nodes(database_url, redis_server, "a", "b") as (a, b):
        noting = Noting(b)
        entries = [Revocation("token", f"t{n}", "ada", "logout", 1.0, n) for n in range(60)]
        for number, entry in enumerate(entries):
            if number % 20 == 10:
                deafen(redis_server)
            await a.control.publish([entry])
        await until(lambda: len(noting.received) >= len(entries))
        assert noting.received == entries


@pytest.mark.gen_test
async def test_without_redis_the_acknowledgement_says_that_other_nodes_are_unknown(
    database_url: str, redis_server: RealRedis
) -> None:
    async with nodes(database_url, redis_server, "a", "b") as (a, b):
        noting = Noting(b)
        await redis_away(a, redis_server)
        assert await a.control.publish([ENTRY]) is False
        await a.control.replace("s1")
        assert a.count("usher_news_untold_total") == 2
        await redis_back(a, redis_server)
        await until(lambda: redis_server.ask("PUBSUB", "NUMSUB", channel(CONTROL_ROOM))[1] == 2)
        assert await a.control.publish([OTHER]) is True
        await until(lambda: noting.received)
        assert noting.received == [OTHER]


@pytest.mark.gen_test
async def test_a_node_that_starts_without_redis_subscribes_once_it_is_available(
    database_url: str, redis_server: RealRedis
) -> None:
    redis_server.kill()
    async with nodes(database_url, redis_server, "a", "b") as (a, b):
        noting = Noting(b)
        redis_server.start()
        await until(lambda: a.store.available and b.store.available)
        await until(lambda: redis_server.ask("PUBSUB", "NUMSUB", channel(CONTROL_ROOM))[1] == 2)
        await a.control.publish([ENTRY])
        await until(lambda: noting.received)
        assert noting.received == [ENTRY]


@pytest.mark.gen_test
async def test_a_node_of_another_version_is_passed_over(
    database_url: str, redis_server: RealRedis
) -> None:
    async with nodes(database_url, redis_server, "a", "b") as (a, b):
        noting, lines = Noting(b), listening(redis_server)
        for strange in (b"", b"{}", b'{"node":1}', b"\xff", b"null", b'{"node":"z","new":[1]}'):
            await a.bus.keep(CONTROL_ROOM, strange)
            await a.bus.send(CONTROL_ROOM, ACKNOWLEDGED + strange)
            await a.bus.send(CONTROL_ROOM, strange)
        await a.control.publish([ENTRY])
        await until(lambda: noting.received)
        assert noting.received == [ENTRY]
        assert listening(redis_server) == lines, "no line broke"


@pytest.mark.gen_test
async def test_news_hold_ids_and_no_address(database_url: str, redis_server: RealRedis) -> None:
    async with nodes(database_url, redis_server, "a") as (a,):
        login = await a.signed_in()
        await a.session_ends.end(login.user.id, login.claims.sid, "logout", login.claims.jti)
        reported = str(redis_server.ask("XRANGE", log_key(CONTROL_ROOM), "-", "+"))
        assert login.claims.sid in reported
        for secret in (login.user.email, "@", login.access_token.reveal(), "Ada"):
            assert secret not in reported


# ---- acknowledgements ----------------------------------------------------------------------


@pytest.mark.gen_test
async def test_every_node_says_how_many_sockets_it_has_closed(
    database_url: str, redis_server: RealRedis
) -> None:
    async with nodes(database_url, redis_server, "a", "b", "c") as parts:
        Noting(parts[1], 3)
        Noting(parts[2], 0)
        with parts[0].control.request() as request:
            await parts[0].control.publish([ENTRY], request.name)
            assert await request.gather({"b", "c"}, 10.0) == {"b": 3, "c": 0}


@pytest.mark.gen_test
async def test_a_silent_node_is_missing_after_the_timeout(
    database_url: str, redis_server: RealRedis
) -> None:
    async with nodes(database_url, redis_server, "a", "b") as parts:
        Noting(parts[1], 2)
        loop = asyncio.get_running_loop()
        with parts[0].control.request() as request:
            began = loop.time()
            await parts[0].control.publish([ENTRY], request.name)
            assert await request.gather({"b", "dead"}, 0.3) == {"b": 2}
            assert 0.29 <= loop.time() - began < 5
            assert await request.gather(set(), 10.0) == {}, "nobody to wait for"


@pytest.mark.gen_test
async def test_answers_to_another_request_count_for_nothing(
    database_url: str, redis_server: RealRedis
) -> None:
    async with nodes(database_url, redis_server, "a", "b") as parts:
        Noting(parts[1], 5)
        control = parts[0].control
        with control.request() as one, control.request() as other:
            assert one.name != other.name
            await control.publish([ENTRY], other.name)
            await control.publish([ENTRY])
            assert await other.gather({"b"}, 10.0) == {"b": 5}
            assert await one.gather({"b"}, 0.1) == {}
        with control.request() as late:
            pass
        await control.publish([ENTRY], late.name)
        witness = Noting(parts[0])
        await parts[1].control.publish([OTHER])
        await until(lambda: witness.received)  # the late answer has come, and did no harm
        assert control._waiting == {}


@pytest.mark.gen_test
async def test_an_answer_comes_only_after_the_node_has_acted(
    database_url: str, redis_server: RealRedis
) -> None:
    async with nodes(database_url, redis_server, "a", "b") as (a, b):
        login = await a.signed_in()
        peers = [await open_socket(b, login) for _ in range(5)]
        with a.control.request() as request:
            await a.session_ends.end(login.user.id, login.claims.sid, "x", None, request.name)
            answers = await request.gather({"b"}, 10.0)
            still_open = [peer for peer in peers if peer.client.connection.is_open]
        assert (answers, still_open) == ({"b": 5}, [])
