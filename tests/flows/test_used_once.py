"""Single-use credentials on two real nodes, while Redis is killed and restarted."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.checks import outcome
from tests.support.databases import kinds, slow
from tests.support.nodes import at, nodes
from tests.support.server import PASSWORD, Client, address, log_in, sign_up, wait_until
from tests.support.talk import start_talking

# Several nodes are run on PostgreSQL, as a rule.
database_kind = kinds("postgresql", slow("sqlite"))

ELSEWHERE = 3.0
"""Seconds: the contract's bound where Redis is gone."""


def fallback(client: Client) -> bool:
    return bool(client.get("/readyz").body["redis"] == "fallback")


@pytest.mark.gen_test(timeout=90)
async def test_a_bearer_token_holds_one_socket_during_a_redis_outage_and_after_it(
    database_kind: str,
) -> None:
    with nodes(database_kind) as both:
        ann = sign_up(both[0])
        first = await start_talking(both[0], ann, ticket=False)
        both.redis.kill()
        for each in both:
            await asyncio.to_thread(wait_until, lambda each=each: fallback(Client(each)))
        second = await start_talking(both[1], at(both[1], ann), ticket=False)
        since = time.monotonic()
        assert await first.code() == 4409
        assert time.monotonic() - since < ELSEWHERE
        both.redis.start()
        for each in both:
            await asyncio.to_thread(wait_until, lambda each=each: not fallback(Client(each)))
        await second.ok("heartbeat")
        third = await start_talking(both[0], ann, ticket=False)
        since = time.monotonic()
        assert await second.code() == 4409
        assert time.monotonic() - since < ELSEWHERE
        await third.ok("heartbeat")
        await third.close()


@pytest.mark.gen_test(timeout=90)
async def test_a_redis_that_came_back_empty_leaves_one_socket_to_a_token(
    database_kind: str,
) -> None:
    with nodes(database_kind) as both:
        ann = sign_up(both[0])
        first = await start_talking(both[0], ann, ticket=False)
        both.redis.ask("FLUSHALL")
        second = await start_talking(both[1], at(both[1], ann), ticket=False)
        codes = [asyncio.ensure_future(each.code()) for each in (first, second)]
        done, open_ = await asyncio.wait(codes, timeout=30, return_when=asyncio.FIRST_COMPLETED)
        assert [code.result() for code in done] == [4409]
        assert len(open_) == 1
        left = first if codes[0] in open_ else second
        await left.ok("heartbeat")
        for code in open_:
            code.cancel()
        await left.close()


@pytest.mark.gen_test(timeout=90)
async def test_a_ticket_opens_one_socket_though_redis_restarts_from_an_older_snapshot(
    database_kind: str,
) -> None:
    with nodes(database_kind) as both:
        ann = sign_up(both[0])
        used, unused = ann.ticket(), ann.ticket()
        both.redis.ask("SAVE")
        assert await outcome(both[0], f"?ticket={used}") == 0
        both.redis.kill()
        both.redis.start()
        assert len(both.redis.ask("KEYS", "usher:ticket:*")) == 2, "both are there again"
        for each in both:
            await asyncio.to_thread(wait_until, lambda each=each: not fallback(Client(each)))
        newer = at(both[1], ann).ticket()
        assert await outcome(both[1], f"?ticket={used}") in (4401, 4503)
        assert await outcome(both[0], f"?ticket={used}") in (4401, 4503)
        assert await outcome(both[0], f"?ticket={unused}") == 4503
        assert await outcome(both[0], f"?ticket={newer}") == 0


@pytest.mark.slow
def test_of_a_thousand_tries_of_one_link_on_two_nodes_one_sets_the_password(
    database_kind: str,
) -> None:
    limits = {"LIMIT_WRONG_SIGNINS": 0, "LIMIT_REFRESHES": 0, "LIMIT_SIGNINS": 0}
    with nodes(database_kind, **limits) as both:
        email = address()
        made = both.admin.post("/api/admin/users", {"email": email, "name": "Grace"})
        token = made.body["set_password_url"].rpartition("=")[2]

        def attempt(number: int) -> int:
            body = {"token": token, "new_password": f"{PASSWORD} {number}"}
            return Client(both[number % 2]).post("/api/auth/password/reset", body).status

        with ThreadPoolExecutor(50) as pool:
            statuses = list(pool.map(attempt, range(1000)))
        assert statuses.count(204) == 1
        assert set(statuses) <= {204, 403, 503}, "503: more passwords at once than it hashes"
        good = statuses.index(204)
        assert log_in(both[1], email, password=f"{PASSWORD} {good}").user["email"] == email
