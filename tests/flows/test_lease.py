"""Cut off from Redis and the database for longer than a lease: the one test that takes so long.

It has a module of its own, so that `--dist loadfile` runs it beside the others.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack

import pytest

from services.sockets.session_pool import LEASE_SECONDS
from tests.support.checks import outcome
from tests.support.databases import on_postgresql
from tests.support.postgres import postgres_server
from tests.support.redis import RealRedis
from tests.support.server import (
    Client,
    ask,
    bearer,
    connect,
    event,
    receive,
    sign_up,
    usher,
    wait_until,
)


@on_postgresql  # SQLite's file does not go away
@pytest.mark.gen_test(timeout=115)
async def test_a_node_cut_off_from_both_for_a_lease_closes_its_sockets(database_kind: str) -> None:
    postgres = postgres_server()
    with ExitStack() as stack:
        redis = RealRedis()
        stack.callback(redis.close)
        server = stack.enter_context(usher(database_kind, REDIS_URL=redis.url))
        stack.callback(postgres.start)
        client = sign_up(server)
        async with connect(server, f"?ticket={client.ticket()}") as socket:
            await event(socket, "joined")
            postgres.kill()
            redis.kill()
            started = time.monotonic()
            # It stays for most of the lease: a short outage disturbs nobody.
            while time.monotonic() - started < LEASE_SECONDS - 5:
                assert (await ask(socket, "heartbeat"))["ok"]
                await asyncio.sleep(1)
            assert await outcome(server, subprotocols=bearer(client.token)) == 4503
            closing = await asyncio.wait_for(event(socket, "closing"), 30)
            assert closing == {"code": 4503, "reason": "unavailable", "retry": "backoff"}
            assert LEASE_SECONDS - 3 < time.monotonic() - started < LEASE_SECONDS + 15
        # Back in touch, it lets people in again.
        postgres.start()
        redis.start()
        wait_until(lambda: Client(server).get("/readyz").status == 200)
        async with connect(server, subprotocols=bearer(client.token)) as socket:
            assert (await receive(socket))["event"] == "joined"
