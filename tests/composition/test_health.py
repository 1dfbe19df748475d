"""Readiness with each dependency's state."""

from __future__ import annotations

import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from services.composition.health import Health, Readiness
from services.processes.link import ProcessState
from services.processes.worker import Worker
from services.storage.encryption import Encryption, generate_key
from tests.support.databases import on_postgresql
from tests.support.parts import Parts, database_away, node, redis_away, redis_back
from tests.support.postgres import postgres_server
from tests.support.redis import RealRedis, redis_server

__all__ = ["redis_server"]

KEY = generate_key()


@dataclass
class Watched:
    """A node and its health."""

    parts: Parts
    health: Health

    async def look(self) -> Readiness:
        await self.health.check()
        return self.health.readiness()


@asynccontextmanager
async def watched(
    database_url: str, redis: RealRedis | None = None, encryption: Encryption | None = None
) -> AsyncIterator[Watched]:
    async with node(database_url, redis, timeout=2.0) as parts:
        health = Health(
            parts.database,
            parts.store,
            encryption or Encryption([KEY]),
            parts.metrics,
            parts.name,
        )
        yield Watched(parts, health)


@pytest.mark.gen_test
async def test_a_process_that_is_not_ready_makes_those_beside_it_so(
    database_url: str, redis_server: RealRedis
) -> None:
    ours, theirs = socket.socketpair()
    worker = Worker(1, 2, theirs, [])
    with ours, theirs:
        async with node(database_url, redis_server, timeout=2.0) as parts:
            health = Health(
                parts.database,
                parts.store,
                Encryption([KEY]),
                parts.metrics,
                parts.name,
                worker=worker,
            )
            await health.check()
            states: tuple[ProcessState, ...]
            for states, status in (
                (("ready", "ready"), "ready"),
                (("ready", "starting"), "ready"),
                (("ready", "not_ready"), "not_ready"),
            ):
                worker.states = states
                found = health.readiness()
                assert (found.status, found.processes) == (status, states)


@pytest.mark.gen_test
async def test_with_everything_there_a_node_is_ready(
    database_url: str, redis_server: RealRedis
) -> None:
    async with watched(database_url, redis_server) as w:
        assert w.health.readiness().status == "not_ready", "nobody has looked yet"
        assert await w.look() == Readiness("ready", "ok", "ok", "ok", "files")
        assert w.parts.count("usher_database_up") == 1
        assert w.parts.count("usher_redis_up") == 1


@pytest.mark.gen_test
async def test_a_store_in_memory_is_said_to_be_that(database_url: str) -> None:
    async with watched(database_url) as w:
        assert await w.look() == Readiness("ready", "ok", "memory", "ok", "files")
        assert w.parts.count("usher_redis_up") == 0


@pytest.mark.gen_test
async def test_without_redis_a_node_is_ready_on_its_fallback(
    database_url: str, redis_server: RealRedis
) -> None:
    async with watched(database_url, redis_server) as w:
        await w.look()
        await redis_away(w.parts, redis_server)
        assert w.health.readiness().redis == "fallback", "known at once"
        assert await w.look() == Readiness("ready", "ok", "fallback", "ok", "files")
        assert w.parts.count("usher_redis_up") == 0
        await redis_back(w.parts, redis_server)
        assert (await w.look()).redis == "ok"


@pytest.mark.slow
@on_postgresql
@pytest.mark.gen_test(timeout=60)
async def test_without_the_database_a_node_is_not_ready_until_it_answers_again(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with watched(database_url) as w:
        await w.look()
        with postgres_server().frozen(), caplog.at_level(logging.WARNING, "usher.health"):
            for _ in range(2):
                state = await w.look()
                assert (state.status, state.database) == ("not_ready", "unavailable")
        assert [r.name for r in caplog.records].count("usher.health") == 1, "said once"
        assert w.parts.count("usher_database_up") == 0
        assert (await w.look()).status == "ready"


@pytest.mark.gen_test
async def test_with_a_wrong_key_a_node_is_not_ready_and_nothing_is_lost(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with watched(database_url) as w:
        await w.look()
    wrong = generate_key()
    async with watched(database_url, encryption=Encryption([wrong])) as w:
        for _ in range(2):
            state = await w.look()
            assert (state.status, state.encryption, state.database) == (
                "not_ready",
                "wrong_key",
                "ok",
            )
    assert wrong.reveal() not in caplog.text
    assert caplog.text.count("USHER_ENCRYPTION_KEYS") == 1
    async with watched(database_url, encryption=Encryption([wrong, KEY])) as w:
        assert (await w.look()).encryption == "ok"


@pytest.mark.gen_test
async def test_without_a_database_nothing_is_known_of_the_key(database_url: str) -> None:
    async with watched(database_url) as w:
        await database_away(w.parts)
        state = await w.look()
        assert (state.status, state.encryption) == ("not_ready", "unknown")
