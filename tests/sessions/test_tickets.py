"""Tickets in a real Redis, in memory and, without Redis, in the database."""

from __future__ import annotations

import asyncio

import peewee
import pytest

from models.ticket import Ticket
from services.claims import Claims
from services.errors import DatabaseUnavailable, StoreUnavailable, Unauthenticated
from services.opaque import token_hash
from services.sessions.tickets import IN_DATABASE, IN_STORE, looks_like_ticket
from tests.support.parts import TICKET_TTL, Parts, database_away, node, redis_away, redis_back
from tests.support.redis import RealRedis, redis_server

__all__ = ["redis_server"]


def claims(parts: Parts) -> Claims:
    now = parts.clock()
    return Claims("ada", "sid", "jti", now, now + 900.0, "user")


def stored(db: peewee.Database) -> list[tuple[str, str]]:
    return [(row.hash, row.payload) for row in Ticket.select().execute(db)]


async def takes(count: int, ticket: str, *nodes: Parts) -> list[object]:
    """So many racing takes of one ticket, spread over the nodes."""
    racing = [nodes[n % len(nodes)].tickets.take(ticket) for n in range(count)]
    return list(await asyncio.gather(*racing, return_exceptions=True))


@pytest.mark.gen_test
async def test_a_ticket_stands_for_the_claims_it_was_given_out_for(
    database_url: str, redis_server: RealRedis
) -> None:
    async with node(database_url, redis_server) as parts:
        ticket = (await parts.tickets.issue(claims(parts))).reveal()
        assert ticket.startswith(IN_STORE)
        assert looks_like_ticket(ticket)
        assert await parts.tickets.take(ticket) == claims(parts)


@pytest.mark.gen_test
async def test_a_ticket_is_used_up_by_taking_it(database_url: str, redis_server: RealRedis) -> None:
    async with node(database_url, redis_server) as parts:
        one, two = [(await parts.tickets.issue(claims(parts))).reveal() for _ in range(2)]
        assert one != two
        await parts.tickets.take(one)
        with pytest.raises(Unauthenticated):
            await parts.tickets.take(one)
        assert await parts.tickets.take(two) == claims(parts)


@pytest.mark.gen_test(timeout=60)
async def test_of_a_thousand_racing_takes_on_two_nodes_one_gets_it(
    database_url: str, redis_server: RealRedis
) -> None:
    async with node(database_url, redis_server) as here, node(database_url, redis_server) as there:
        ticket = (await here.tickets.issue(claims(here))).reveal()
        outcomes = await takes(1000, ticket, here, there)
        assert outcomes.count(claims(here)) == 1
        assert [type(outcome) for outcome in outcomes].count(Unauthenticated) == 999


@pytest.mark.gen_test(timeout=60)
async def test_of_a_thousand_racing_takes_from_the_database_one_gets_it(
    database_url: str, redis_server: RealRedis
) -> None:
    async with (
        node(database_url, redis_server, timeout=40.0) as here,
        node(database_url, redis_server, timeout=40.0) as there,
    ):
        await redis_away(here, redis_server)
        ticket = (await here.tickets.issue(claims(here))).reveal()
        assert ticket.startswith(IN_DATABASE)
        outcomes = await takes(1000, ticket, here, there)
        assert outcomes.count(claims(here)) == 1
        assert [type(outcome) for outcome in outcomes].count(Unauthenticated) == 999
        assert await here.database.run(stored) == []


@pytest.mark.gen_test
async def test_of_racing_takes_from_memory_one_gets_it(database_url: str) -> None:
    async with node(database_url) as parts:
        ticket = (await parts.tickets.issue(claims(parts))).reveal()
        assert (await takes(100, ticket, parts)).count(claims(parts)) == 1


@pytest.mark.gen_test
async def test_an_unused_ticket_expires_in_redis(
    database_url: str, redis_server: RealRedis
) -> None:
    async with node(database_url, redis_server) as parts:
        ticket = (await parts.tickets.issue(claims(parts))).reveal()
        (key,) = redis_server.ask("KEYS", "usher:ticket:*")
        assert 0 < redis_server.ask("PTTL", key) <= TICKET_TTL * 1000
        parts.clock.forward(TICKET_TTL)
        with pytest.raises(Unauthenticated):
            await parts.tickets.take(ticket)


@pytest.mark.gen_test
async def test_a_ticket_in_the_database_expires_and_is_used_up_by_an_attempt(
    database_url: str, redis_server: RealRedis
) -> None:
    async with node(database_url, redis_server) as parts:
        await redis_away(parts, redis_server)
        ticket = (await parts.tickets.issue(claims(parts))).reveal()
        parts.clock.forward(TICKET_TTL)
        with pytest.raises(Unauthenticated):
            await parts.tickets.take(ticket)
        assert await parts.database.run(stored) == []


@pytest.mark.gen_test
async def test_a_ticket_is_stored_nowhere_but_as_a_hash(
    database_url: str, redis_server: RealRedis
) -> None:
    async with node(database_url, redis_server) as parts:
        ticket = (await parts.tickets.issue(claims(parts))).reveal()
        (key,) = redis_server.ask("KEYS", "usher:ticket:*")
        assert key == f"usher:ticket:{{{token_hash(ticket)}}}".encode()
        assert ticket.encode() not in redis_server.ask("GET", key)
        await redis_away(parts, redis_server)
        ticket = (await parts.tickets.issue(claims(parts))).reveal()
        ((hash_, payload),) = await parts.database.run(stored)
        assert hash_ == token_hash(ticket)
        assert ticket not in payload


@pytest.mark.parametrize(
    "ticket",
    [
        "",
        "t.",
        "d.",
        "t.unknown",
        "d.unknown",
        "t.a.b",
        "x.unknown",
        "T.unknown",
        "t.\x00",
        "d.\x00",
        "d.ü\ud800",
        "t." + "x" * 200,
        "t.{}*\r\nFLUSHALL",
    ],
)
@pytest.mark.gen_test
async def test_what_is_no_ticket_of_ours_is_refused(database_url: str, ticket: str) -> None:
    async with node(database_url) as parts:
        with pytest.raises(Unauthenticated):
            await parts.tickets.take(ticket)


def test_a_token_does_not_look_like_a_ticket() -> None:
    assert looks_like_ticket("t.abc")
    assert looks_like_ticket("d.abc")
    for other in ("a.b.c", "t.b.c", "d.b.c", "eyJhbGciOiJIUzI1NiJ9.e30.x", "abc", ""):
        assert not looks_like_ticket(other)


@pytest.mark.gen_test
async def test_a_ticket_is_unavailable_without_redis_and_valid_afterwards(
    database_url: str, redis_server: RealRedis
) -> None:
    async with node(database_url, redis_server) as parts:
        in_redis = (await parts.tickets.issue(claims(parts))).reveal()
        await redis_away(parts, redis_server)
        from_the_database = (await parts.tickets.issue(claims(parts))).reveal()
        with pytest.raises(StoreUnavailable):
            await parts.tickets.take(in_redis)
        await redis_back(parts, redis_server)
        assert await parts.tickets.take(from_the_database) == claims(parts)
        with pytest.raises(Unauthenticated):
            await parts.tickets.take(in_redis)


@pytest.mark.gen_test
async def test_a_ticket_of_a_redis_that_was_emptied_is_refused(
    database_url: str, redis_server: RealRedis
) -> None:
    async with node(database_url, redis_server) as parts:
        ticket = (await parts.tickets.issue(claims(parts))).reveal()
        redis_server.ask("FLUSHALL")
        with pytest.raises(Unauthenticated):
            await parts.tickets.take(ticket)


@pytest.mark.gen_test
async def test_with_both_away_there_are_no_tickets(
    database_url: str, redis_server: RealRedis
) -> None:
    async with node(database_url, redis_server) as parts:
        await redis_away(parts, redis_server)
        in_database = (await parts.tickets.issue(claims(parts))).reveal()
        await database_away(parts)
        with pytest.raises(DatabaseUnavailable):
            await parts.tickets.issue(claims(parts))
        with pytest.raises(DatabaseUnavailable):
            await parts.tickets.take(in_database)


# ---- a Redis that has forgotten ------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_used_ticket_that_comes_back_with_an_older_snapshot_opens_nothing(
    database_url: str, redis_server: RealRedis
) -> None:
    async with node(database_url, redis_server) as here, node(database_url, redis_server) as there:
        used, unused = [(await here.tickets.issue(claims(here))).reveal() for _ in range(2)]
        redis_server.ask("SAVE")
        assert await here.tickets.take(used) == claims(here)
        await redis_away(here, redis_server, there)
        await redis_back(here, redis_server, there)
        assert redis_server.ask("EXISTS", f"usher:ticket:{{{token_hash(used)}}}") == 1
        for parts in (there, here):
            with pytest.raises((StoreUnavailable, Unauthenticated)):
                await parts.tickets.take(used)
        with pytest.raises(StoreUnavailable):
            await there.tickets.take(unused)
        newer = (await here.tickets.issue(claims(here))).reveal()
        assert await there.tickets.take(newer) == claims(here)


@pytest.mark.gen_test
async def test_where_redis_does_not_say_which_server_it_is_tickets_lie_in_the_database(
    database_url: str, redis_server: RealRedis
) -> None:
    redis_server.ask("ACL", "SETUSER", "default", "-info")
    async with node(database_url, redis_server) as parts:
        assert parts.store.available
        ticket = (await parts.tickets.issue(claims(parts))).reveal()
        assert ticket.startswith(IN_DATABASE)
        assert await parts.tickets.take(ticket) == claims(parts)
        with pytest.raises(Unauthenticated):
            await parts.tickets.take(ticket)


@pytest.mark.gen_test
async def test_issuing_and_taking_cost_one_round_trip_each_and_no_query(
    database_url: str, redis_server: RealRedis
) -> None:
    async with node(database_url, redis_server) as parts:
        await database_away(parts)
        ticket = (await parts.tickets.issue(claims(parts))).reveal()
        assert await parts.tickets.take(ticket) == claims(parts)
        # EVAL counts the ticket for its limit, in the same write as SET.
        assert [group[0][0] for group in parts.store.groups] == ["EVAL", "SET", "GETDEL"]
