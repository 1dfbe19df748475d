"""A bearer token is bound to one open socket, on any node: over one real Redis."""

from __future__ import annotations

import re

import pytest

from services.sessions.admission import Identity
from services.sessions.token_binding import bearer_key
from services.sockets.session_pool import LEASE_MS
from tests.sessions.test_control import Noting, nodes
from tests.support.parts import (
    ACCESS_TTL,
    Parts,
    Peer,
    client_socket,
    database_away,
    node,
    open_socket,
    redis_away,
    redis_back,
    socket_pair,
)
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
async def test_it_applies_until_the_token_expires(
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
async def test_another_token_ticket_or_cookie_closes_no_socket(
    database_url: str, redis_server: RealRedis
) -> None:
    async with nodes(database_url, redis_server, "a", "b") as (a, b):
        login, again = await a.signed_in(), await a.signed_in()
        newer = await a.refresh.rotation.refresh(login.refresh_token.reveal())
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
async def test_on_the_same_node_no_other_is_notified(
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
async def test_an_ended_socket_that_was_bound_affects_no_other(
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
        newer = await a.refresh.rotation.refresh(login.refresh_token.reveal())
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
        assert peers[1].client.connection.is_open


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


# ---- without Redis, and after it -------------------------------------------------------------


@pytest.mark.gen_test
async def test_while_redis_is_unavailable_tokens_are_bound_by_rows_and_stay_bound(
    database_url: str, redis_server: RealRedis
) -> None:
    async with nodes(database_url, redis_server, "a", "b") as (a, b):
        login = await a.signed_in()
        first = await open_socket(a, login, bearer=True)
        await redis_away(a, redis_server, b)
        second = await open_socket(b, login, bearer=True)
        await until(lambda: b.revocations.is_bound_by_row(login.claims.jti))
        await a.revocations.sweep()
        assert await first.close_code() == 4409
        assert second.client.connection.is_open
        await redis_back(a, redis_server, b)
        third = await open_socket(a, login, bearer=True)
        await until(lambda: _bound_to(a) == third.client.session_id)
        await b.revocations.sweep()
        assert await second.close_code() == 4409
        for parts in (a, b):
            await parts.revocations.sweep()
            await parts.token_binding.check()
        assert third.client.connection.is_open
        assert a.revocations.names(login.claims) is False, "the token itself is not revoked"


def _bound_to(parts: Parts) -> str:
    return next(iter(parts.revocations._bindings.values())).exempt


@pytest.mark.gen_test
async def test_two_bindings_during_an_outage_in_any_order_of_their_rows(
    database_url: str, redis_server: RealRedis
) -> None:
    async with nodes(database_url, redis_server, "a", "b") as (a, b):
        login = await a.signed_in()
        await redis_away(a, redis_server, b)
        first = await open_socket(a, login, bearer=True)
        await until(lambda: a.revocations.is_bound_by_row(login.claims.jti))
        second = await open_socket(b, login, bearer=True)
        await until(lambda: b.revocations.is_bound_by_row(login.claims.jti))
        await b.revocations.sweep()
        await a.revocations.sweep()
        assert await first.close_code() == 4409
        assert second.client.connection.is_open


@pytest.mark.gen_test
async def test_where_neither_redis_nor_the_database_can_say_the_socket_is_closed(
    database_url: str, redis_server: RealRedis
) -> None:
    async with nodes(database_url, redis_server, "a") as (a,):
        login = await a.signed_in()
        identity = await a.joins.admit_claims(login.claims)
        await redis_away(a, redis_server)
        await database_away(a)
        peer = await open_as(a, identity)
        assert await peer.close_code() == 4503


async def open_as(parts: Parts, identity: Identity) -> Peer:
    ours, theirs = socket_pair()
    client = client_socket(parts, ours)
    client.open_joined(b"", b"", identity, True)
    peer = Peer(theirs, client)
    parts.peers.append(peer)
    return peer


@pytest.mark.parametrize("how", ["emptied", "restarted"])
@pytest.mark.gen_test
async def test_a_redis_that_has_forgotten_is_noticed_and_one_socket_stays(
    database_url: str, redis_server: RealRedis, how: str
) -> None:
    async with nodes(database_url, redis_server, "a", "b") as (a, b):
        login, alone = await a.signed_in(), await a.signed_in()
        first = await open_socket(a, login, bearer=True)
        bystander = await open_socket(a, alone, bearer=True)
        for parts in (a, b):
            await parts.token_binding.check()
        if how == "emptied":
            redis_server.ask("FLUSHALL")
        else:
            await redis_away(a, redis_server, b)
            await redis_back(a, redis_server, b)
        second = await open_socket(b, login, bearer=True)
        for _ in range(2):
            for parts in (a, b):
                await parts.token_binding.check()
        await until(
            lambda: not second.client.connection.is_open or not (first.client.connection.is_open)
        )
        sockets = [first.client.connection, second.client.connection]
        assert [socket.is_open for socket in sockets].count(True) == 1
        assert bystander.client.connection.is_open
        third = await open_socket(b, alone, bearer=True)
        assert await bystander.close_code() == 4409, "Redis has learnt of it again"
        assert third.client.connection.is_open


@pytest.mark.gen_test
async def test_an_older_binding_restored_by_a_snapshot_closes_no_socket(
    database_url: str, redis_server: RealRedis
) -> None:
    async with nodes(database_url, redis_server, "a", "b") as (a, b):
        login = await a.signed_in()
        await open_socket(b, login, bearer=True)
        key = bearer_key(login.user.id, login.claims.jti)
        await until(lambda: redis_server.ask("EXISTS", key))
        redis_server.ask("SAVE")
        mine = await open_socket(a, login, bearer=True)
        await until(lambda: redis_server.ask("GET", key).startswith(b"a "))
        await redis_away(a, redis_server, b)
        await redis_back(a, redis_server, b)
        for _ in range(3):
            for parts in (a, b):
                await parts.token_binding.check()
        assert mine.client.connection.is_open
