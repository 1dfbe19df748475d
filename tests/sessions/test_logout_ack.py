"""Logout with acknowledgement, on several nodes over one real Redis."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from services.bus.log_keys import channel
from services.errors import DatabaseUnavailable, NotFound
from services.sessions.control import CONTROL_ROOM
from services.sessions.logout_ack import WAIT_SECONDS, NodeOutcome
from services.sessions.session_views import SignedIn
from services.sockets.session_pool import LEASE_SECONDS
from tests.sessions.test_control import nodes
from tests.support.parts import Parts, database_away, node, open_socket, redis_away
from tests.support.redis import RealRedis, redis_server, until

__all__ = ["redis_server"]


def who(login: SignedIn) -> tuple[str, str, str, str]:
    return login.user.id, login.claims.sid, "logout", login.claims.jti


async def active(*parts: Parts) -> None:
    await asyncio.gather(*(each.nodes.renew() for each in parts))


@pytest.mark.gen_test
async def test_when_it_is_answered_the_sockets_are_closed_on_every_node(
    database_url: str, redis_server: RealRedis
) -> None:
    async with nodes(database_url, redis_server, "a", "b", "c") as (a, b, c):
        await active(a, b, c)
        login, stays = await a.signed_in(), await a.signed_in()
        peers = [await open_socket(each, login) for each in (a, b, b)]
        others = [await open_socket(each, stays) for each in (a, b, c)]
        outcome = await a.logout_ack.end(*who(login))
        assert not any(peer.client.connection.is_open for peer in peers), "acknowledged is closed"
        assert (outcome.closed, outcome.pending) == (3, 0)
        assert outcome.nodes == [
            NodeOutcome("a", 1, 0),
            NodeOutcome("b", 2, 0),
            NodeOutcome("c", 0, 0),
        ]
        assert all(peer.client.connection.is_open for peer in others)
        assert [await peer.close_code() for peer in peers] == [4410] * 3
        assert b.revocations.names(login.claims)


@pytest.mark.gen_test
async def test_a_node_that_read_the_row_before_the_news_came_still_says_what_it_closed(
    database_url: str, redis_server: RealRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with nodes(database_url, redis_server, "a", "b") as (a, b):
        await active(a, b)
        login = await a.signed_in()
        peers = [await open_socket(each, login) for each in (a, b, b)]
        publish = a.control.publish

        async def late(*args: Any) -> bool:
            await b.revocations.sweep()
            assert len(b.hub) == 0
            return await publish(*args)

        monkeypatch.setattr(a.control, "publish", late)
        outcome = await a.logout_ack.end(*who(login))
        assert (outcome.closed, outcome.pending) == (3, 0)
        assert outcome.nodes == [NodeOutcome("a", 1, 0), NodeOutcome("b", 2, 0)]
        assert [await peer.close_code() for peer in peers] == [4410] * 3
        assert b.count("usher_sockets_revoked_total", reason="logout") == 2, "counted once"


@pytest.mark.gen_test
async def test_a_node_that_is_silent_has_its_sockets_pending_after_two_seconds(
    database_url: str, redis_server: RealRedis
) -> None:
    async with nodes(database_url, redis_server, "a", "b", "c") as (a, b, c):
        await active(a, b, c)
        login = await a.signed_in()
        for each in (a, b, b, c):
            await open_socket(each, login)
        b.bus.unsubscribe(CONTROL_ROOM)
        await until(lambda: redis_server.ask("PUBSUB", "NUMSUB", channel(CONTROL_ROOM))[1] == 2)
        loop = asyncio.get_running_loop()
        began = loop.time()
        outcome = await a.logout_ack.end(*who(login))
        assert WAIT_SECONDS <= 1.9, "the contract gives two seconds"
        assert loop.time() - began >= WAIT_SECONDS - 0.05
        assert (outcome.closed, outcome.pending) == (2, 2)
        assert NodeOutcome("b", 0, 2) in outcome.nodes
        await b.revocations.sweep()
        assert len(b.hub) == 0, "it reads the row"


@pytest.mark.gen_test
async def test_no_logout_waits_for_a_node_whose_lease_has_expired(
    database_url: str, redis_server: RealRedis
) -> None:
    async with nodes(database_url, redis_server, "a", "b") as (a, b):
        await active(a, b)
        login = await a.signed_in()
        await open_socket(b, login)
        b.bus.unsubscribe(CONTROL_ROOM)
        a.clock.forward(LEASE_SECONDS + 1)
        await active(a)
        outcome = await asyncio.wait_for(a.logout_ack.end(*who(login)), WAIT_SECONDS - 0.3)
        assert (outcome.closed, outcome.pending) == (0, 0)
        assert outcome.nodes == [NodeOutcome("a", 0, 0)]


@pytest.mark.gen_test
async def test_a_single_node_waits_for_no_other(database_url: str) -> None:
    async with node(database_url) as parts:
        login = await parts.signed_in()
        peer = await open_socket(parts, login)
        outcome = await parts.logout_ack.end(*who(login))
        assert (outcome.closed, outcome.pending, outcome.nodes) == (
            1,
            0,
            [NodeOutcome("node", 1, 0)],
        )
        assert not peer.client.connection.is_open


@pytest.mark.gen_test
async def test_without_redis_the_local_result_is_returned_and_others_are_unknown(
    database_url: str, redis_server: RealRedis
) -> None:
    async with nodes(database_url, redis_server, "a", "b") as (a, b):
        await active(a, b)
        login = await a.signed_in()
        here, there = await open_socket(a, login), await open_socket(b, login)
        await redis_away(a, redis_server)
        outcome = await a.logout_ack.end(*who(login))
        assert (outcome.closed, outcome.pending) == (1, None)
        assert not here.client.connection.is_open
        await b.revocations.sweep()
        assert not there.client.connection.is_open


@pytest.mark.gen_test
async def test_what_has_ended_already_or_another_users_is_not_found(
    database_url: str, redis_server: RealRedis
) -> None:
    async with nodes(database_url, redis_server, "a") as (a,):
        await active(a)
        login, other = await a.signed_in(), await a.signed_in()
        peer = await open_socket(a, login)
        for user_id, sid in ((other.user.id, login.claims.sid), (login.user.id, "none")):
            with pytest.raises(NotFound):
                await a.logout_ack.end(user_id, sid, "logout", "jti")
        assert peer.client.connection.is_open
        await a.logout_ack.end(*who(login))
        with pytest.raises(NotFound):
            await a.logout_ack.end(*who(login))
        assert a.control._waiting == {}, "nobody waits for anything any more"


@pytest.mark.gen_test
async def test_without_the_database_nothing_is_said_to_be_over(
    database_url: str, redis_server: RealRedis
) -> None:
    async with nodes(database_url, redis_server, "a") as (a,):
        login = await a.signed_in()
        peer = await open_socket(a, login)
        await database_away(a)
        with pytest.raises(DatabaseUnavailable):
            await a.logout_ack.end(*who(login))
        assert peer.client.connection.is_open
