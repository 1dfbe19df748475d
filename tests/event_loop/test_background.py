"""Loops that survive their own errors and stop on request."""

from __future__ import annotations

import asyncio
import logging

import pytest

from services.errors import DatabaseUnavailable, StoreUnavailable
from services.event_loop.background import Background
from services.metrics import Metrics
from tests.support.redis import within


def errors(metrics: Metrics, loop: str) -> float:
    return metrics.registry.get_sample_value("usher_loop_errors_total", {"loop": loop}) or 0.0


class Work:
    """Counts its runs, and fails in the given ones."""

    def __init__(self, *faults: Exception | None) -> None:
        self.faults = list(faults)
        self.turns = 0
        self.enough = asyncio.Event()

    async def __call__(self) -> None:
        self.turns += 1
        fault = self.faults.pop(0) if self.faults else None
        if not self.faults and fault is None:
            self.enough.set()
        if fault is not None:
            raise fault


@pytest.mark.gen_test
async def test_work_is_done_again_and_again_and_not_at_once() -> None:
    background, work = Background(Metrics()), Work(None, None, None)
    background.every(0.01, "count", work)
    await asyncio.sleep(0)
    assert work.turns == 0
    await within(work.enough.wait())
    await background.close()
    assert work.turns >= 3


@pytest.mark.gen_test
async def test_a_loop_survives_its_errors_logs_them_and_counts_them(
    caplog: pytest.LogCaptureFixture,
) -> None:
    metrics = Metrics()
    background = Background(metrics)
    refused = DatabaseUnavailable("postgresql did not answer")
    work, other = Work(refused, ZeroDivisionError("a fault of ours"), refused), Work(None)
    with caplog.at_level(logging.WARNING, "usher.background"):
        background.every(0.001, "frail", work)
        background.every(0.001, "sound", other)
        await within(work.enough.wait())
        await within(other.enough.wait())
        await background.close()
    assert errors(metrics, "frail") == 3
    assert errors(metrics, "sound") == 0
    levels = [r.levelno for r in caplog.records if r.name == "usher.background"]
    assert levels == [logging.WARNING, logging.ERROR, logging.WARNING]
    assert "postgresql did not answer" in caplog.text
    assert "a fault of ours" in caplog.text, "with its traceback"


@pytest.mark.gen_test
async def test_an_unavailable_redis_is_counted_and_not_logged_at_each_run(
    caplog: pytest.LogCaptureFixture,
) -> None:
    metrics = Metrics()
    background = Background(metrics)
    away = StoreUnavailable("redis: no link")
    work = Work(away, away, None)
    with caplog.at_level(logging.INFO, "usher.background"):
        background.every(0.001, "redis", work)
        await within(work.enough.wait())
        await background.close()
    assert errors(metrics, "redis") == 2
    assert caplog.records == [], "the store has logged it once"


@pytest.mark.gen_test
async def test_closing_waits_until_every_loop_has_ended() -> None:
    background, begun, ended = Background(Metrics()), asyncio.Event(), []

    async def long() -> None:
        begun.set()
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0)
            ended.append("tidied up")

    background.every(0.001, "long", long)
    background.every(3600, "waiting", long)
    await within(begun.wait())
    before = asyncio.all_tasks()
    await within(background.close())
    assert ended == ["tidied up"]
    assert len(before - asyncio.all_tasks()) == 2
    await background.close()


@pytest.mark.gen_test
async def test_a_turn_has_ended_before_the_next_begins() -> None:
    background, running, most, done = Background(Metrics()), 0, 0, asyncio.Event()
    turns = 0

    async def slow() -> None:
        nonlocal running, most, turns
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.005)
        running -= 1
        turns += 1
        if turns == 3:
            done.set()

    background.every(0.0001, "slow", slow)
    await within(done.wait())
    await background.close()
    assert most == 1
