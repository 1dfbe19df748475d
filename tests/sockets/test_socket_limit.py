"""The sockets of one user without Redis; with it, tests/websocket/test_unjoined.py."""

from __future__ import annotations

import pytest

from services.claims import Claims
from services.errors import RateLimited
from services.sockets.hub import Hub
from services.sockets.socket_limit import SocketLimit
from tests.support.parts import redis_pair
from tests.support.redis import RealRedis, redis_server, until

__all__ = ["redis_server"]

ADA = Claims("ada", "login", "token", 0.0, 1.0, "user")


def taken(limit: SocketLimit) -> int:
    """How many places one process gives."""
    count = 0
    while True:
        try:
            limit.take(ADA)
        except RateLimited:
            return count
        count += 1


@pytest.mark.gen_test
async def test_without_redis_the_processes_of_a_node_have_a_part_each(
    redis_server: RealRedis,
) -> None:
    store, bus = await redis_pair(redis_server)
    try:
        assert taken(SocketLimit(store, Hub(), 5, processes=2)) == 5
        redis_server.kill()
        await until(lambda: not store.available)
        assert taken(SocketLimit(store, Hub(), 5, processes=2)) == 3
        assert taken(SocketLimit(store, Hub(), 5)) == 5
    finally:
        await bus.close()
        await store.close()
