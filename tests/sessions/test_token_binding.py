"""A bearer token holds one live socket, on whichever node: over one real Redis."""

from __future__ import annotations

import re

import pytest

from services.sessions.token_binding import bearer_key
from services.sockets.session_pool import LEASE_MS
from tests.sessions.test_control import Noting, nodes
from tests.support.parts import ACCESS_TTL, node, open_socket, redis_away
from tests.support.redis import RealRedis, redis_server, until

__all__ = ["redis_server"]


@pytest.mark.gen_test
async def test_the_same_token_on_another_node_closes_the_first_socket(
    database_url: str, redis_server: RealRedis
) -> None:
    async with nodes(database_url, redis_server, "a", "b") as (a, b):
        login = await a.signed_in()
        first = await open_socket(a, login, bearer=True)
        second = await open_socket(b, login, bearer=True)
        assert await first.close_code() == 4409
        third = await open_socket(a, login, bearer=True)
        assert await second.close_code() == 4409
        assert third.client.connection.is_open
        assert a.revocations.names(login.claims) is False, "replaced is not revoked"


@pytest.mark.gen_test
async def test_it_is_so_for_as_long_as_the_token_lives(
    database_url: str, redis_server: RealRedis
) -> None:
    async with nodes(database_url, redis_server, "a") as (a,):
        login = await a.signed_in()
        a.clock.forward(100)
        await open_socket(a, login, bearer=True)
        key = bearer_key(login.user.id, login.claims.jti)
        await until(lambda: redis_server.ask("EXISTS", key))
        left = redis_server.ask("PTTL", key)
        assert LEASE_MS < left <= (ACCESS_TTL - 100) * 1000
        assert left > (ACCESS_TTL - 160) * 1000


@pytest.mark.gen_test
async def test_another_token_ticket_or_cookie_closes_nobody(
    database_url: str, redis_server: RealRedis
) -> None:
    async with nodes(database_url, redis_server, "a", "b") as (a, b):
        login, again = await a.signed_in(), await a.signed_in()
        newer = await a.login_sessions.refresh(login.refresh_token.reveal())
        peers = [
            await open_socket(a, login, bearer=True),
            await open_socket(b, newer, bearer=True),
            await open_socket(b, again, bearer=True),
            await open_socket(b, login),  # by a cookie, say
            await open_socket(a, login),
        ]
        witness = Noting(a)
        await b.control.replace("witness")
        await until(lambda: witness.replaced)
        assert witness.replaced == ["witness"]
        assert all(peer.client.connection.is_open for peer in peers)


@pytest.mark.gen_test
async def test_on_the_same_node_nobody_else_is_told(
    database_url: str, redis_server: RealRedis
) -> None:
    async with nodes(database_url, redis_server, "a", "b") as (a, b):
        login, witness = await a.signed_in(), Noting(b)
        first = await open_socket(a, login, bearer=True)
        await open_socket(a, login, bearer=True)
        assert await first.close_code() == 4409
        await a.control.replace("witness")
        await until(lambda: witness.replaced)
        assert witness.replaced == ["witness"]


@pytest.mark.gen_test
async def test_a_holder_that_has_gone_disturbs_nobody(
    database_url: str, redis_server: RealRedis
) -> None:
    async with nodes(database_url, redis_server, "a", "b") as (a, b):
        login = await a.signed_in()
        stays = await open_socket(a, await a.signed_in(login.user.id), bearer=True)
        gone = await open_socket(a, login, bearer=True)
        gone.close()
        await until(lambda: len(a.hub) == 1)
        witness = Noting(a)
        back = await open_socket(b, login, bearer=True)
        await until(lambda: witness.replaced)
        assert back.client.connection.is_open
        assert stays.client.connection.is_open


@pytest.mark.gen_test
async def test_a_newer_token_of_a_socket_is_held_from_then_on(
    database_url: str, redis_server: RealRedis
) -> None:
    async with nodes(database_url, redis_server, "a", "b") as (a, b):
        login = await a.signed_in()
        first = await open_socket(a, login, bearer=True)
        newer = await a.login_sessions.refresh(login.refresh_token.reveal())
        first.client._adopt(await a.admission.identify(newer.claims), bearer=True)
        key = bearer_key(login.user.id, newer.claims.jti)
        await until(lambda: redis_server.ask("EXISTS", key))
        await open_socket(b, newer, bearer=True)
        assert await first.close_code() == 4409


@pytest.mark.gen_test
async def test_without_redis_a_token_still_opens_a_socket(
    database_url: str, redis_server: RealRedis
) -> None:
    async with nodes(database_url, redis_server, "a", "b") as (a, b):
        login = await a.signed_in()
        await redis_away(a, redis_server)
        await until(lambda: not b.store.available)
        peers = [await open_socket(each, login, bearer=True) for each in (a, b)]
        assert all(peer.client.connection.is_open for peer in peers), (
            "another node's is not found then"
        )


@pytest.mark.gen_test
async def test_redis_knows_ids_and_no_token(database_url: str, redis_server: RealRedis) -> None:
    async with nodes(database_url, redis_server, "a") as (a,):
        login = await a.signed_in()
        peer = await open_socket(a, login, bearer=True)
        key = bearer_key(login.user.id, login.claims.jti)
        await until(lambda: redis_server.ask("EXISTS", key))
        assert redis_server.ask("GET", key).decode() == f"a {peer.client.session_id}"
        assert login.access_token.reveal() not in key
        assert re.fullmatch(r"usher:\{[^}]+\}:bearer:[\w-]+", key)


@pytest.mark.gen_test
async def test_in_memory_there_is_no_other_node_and_nothing_is_noted(database_url: str) -> None:
    async with node(database_url) as parts:
        login = await parts.signed_in()
        first = await open_socket(parts, login, bearer=True)
        second = await open_socket(parts, login, bearer=True)
        assert await first.close_code() == 4409
        assert second.client.connection.is_open
        key = bearer_key(login.user.id, login.claims.jti)
        assert await parts.store.call(("GET", key)) == [None]
