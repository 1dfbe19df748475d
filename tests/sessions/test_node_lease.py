"""The lease of a node: what renews it, and what happens when it expires."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import pytest

from services.errors import UsherError
from services.event_loop.loop_watch import LoopWatch
from services.sessions.node_lease import NodeLease
from services.sockets.hub import Hub
from services.websocket.protocol import CloseCode
from tests.support.parts import (
    Clock,
    Parts,
    database_away,
    node,
    redis_away,
    redis_back,
)
from tests.support.redis import RealRedis, redis_server, until, within

__all__ = ["redis_server"]

LEASE = 30.0


class CountingHub(Hub):
    """A hub that records its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.reported: list[str] = []

    def hold(self) -> None:
        self.reported.append("hold")

    def release(self) -> None:
        self.reported.append("release")

    def close_all(self, code: CloseCode, after: float | None = None) -> int:
        self.reported.append(code.reason)
        return 0


@dataclass
class Watched:
    parts: Parts
    clock: Clock
    watch: LoopWatch
    hub: CountingHub
    node_lease: NodeLease

    async def after(self, seconds: float) -> list[str]:
        """Read revocations and check the lease after so many seconds. Returns the hub's calls."""
        self.clock.forward(seconds)
        for learn in (self.node_lease.sweep, self.node_lease.receive):
            with suppress(UsherError):
                await learn()
        await self.node_lease.enforce()
        return self.hub.reported


@asynccontextmanager
async def watched(database_url: str, redis: RealRedis | None = None) -> AsyncIterator[Watched]:
    async with node(database_url, redis, timeout=2.0) as parts:
        await parts.control.open()
        clock, hub = Clock(0.0), CountingHub()
        watch = LoopWatch(clock)
        node_lease = NodeLease(watch, hub, parts.revocations, parts.control, LEASE)
        yield Watched(parts, clock, watch, hub, node_lease)
        watch.stop()


@pytest.mark.gen_test
async def test_without_rows_and_news_sockets_go_at_the_end_of_the_lease_and_not_before(
    database_url: str, redis_server: RealRedis
) -> None:
    async with watched(database_url, redis_server) as w:
        await w.after(1)
        await redis_away(w.parts, redis_server)
        await database_away(w.parts)
        assert await w.after(LEASE - 0.01) == []
        assert w.node_lease.is_current()
        assert await w.after(0.01) == ["unavailable"]
        assert not w.node_lease.is_current()
        with pytest.raises(UsherError) as refused:
            await w.node_lease.wait_current()
        assert refused.value.code == "unavailable"


@pytest.mark.gen_test
async def test_reading_the_rows_or_the_log_renews_the_lease(
    database_url: str, redis_server: RealRedis
) -> None:
    async with watched(database_url, redis_server) as w:
        await redis_away(w.parts, redis_server)
        assert await w.after(2 * LEASE) == []
        await redis_back(w.parts, redis_server)
        await database_away(w.parts)
        assert await w.after(2 * LEASE) == []
        await redis_away(w.parts, redis_server)
        assert await w.after(LEASE) == ["unavailable"]


@pytest.mark.parametrize("how", ["READONLY", "OOM", "NOPERM"])
@pytest.mark.gen_test
async def test_a_log_that_takes_no_writes_has_no_news(
    database_url: str, redis_server: RealRedis, how: str
) -> None:
    async with watched(database_url, redis_server) as w:
        await database_away(w.parts)
        redis_server.refuse(how)
        assert await w.after(LEASE) == ["unavailable"]


@pytest.mark.gen_test
async def test_a_store_in_memory_does_not_renew_the_lease(database_url: str) -> None:
    async with watched(database_url) as w:
        await database_away(w.parts)
        assert await w.after(LEASE) == ["unavailable"]


@pytest.mark.gen_test
async def test_a_join_after_the_database_is_back_does_not_wait_for_the_sweep(
    database_url: str,
) -> None:
    async with watched(database_url) as w:
        w.clock.forward(LEASE + 1)
        assert not w.node_lease.is_current()
        await w.node_lease.wait_current()
        assert w.node_lease.is_current()


@pytest.mark.gen_test
async def test_after_a_stall_sockets_are_held_until_the_rows_are_read(database_url: str) -> None:
    async with watched(database_url) as w:
        w.watch.start()
        w.clock.forward(5)
        assert not w.node_lease.is_current()
        assert w.hub.reported == ["hold"]
        await within(w.node_lease.wait_current())
        assert w.hub.reported == ["hold", "release"]
        assert w.node_lease.is_current()


@pytest.mark.gen_test
async def test_a_node_that_stood_still_for_longer_than_its_lease_may_still_catch_up(
    database_url: str,
) -> None:
    async with watched(database_url) as w:
        w.watch.start()
        w.clock.forward(10 * LEASE)
        assert w.watch.check()
        await w.node_lease.enforce()
        await within(w.node_lease.wait_current())
        assert w.hub.reported == ["hold", "release"]


@pytest.mark.gen_test
async def test_a_node_that_reads_nothing_after_a_stall_closes_its_sockets_with_the_lease(
    database_url: str,
) -> None:
    async with watched(database_url) as w:
        await database_away(w.parts)
        w.watch.start()
        w.clock.forward(5)
        assert w.watch.check()

        def a_while_later() -> bool:
            w.clock.forward(0.5)
            return not w.watch.check()

        await until(a_while_later)
        assert w.clock() >= LEASE
        assert w.hub.reported == ["hold", "unavailable", "release"]
