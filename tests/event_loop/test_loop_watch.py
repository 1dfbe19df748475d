"""Detecting stalls of the event loop."""

from __future__ import annotations

import asyncio
import time

import pytest

from services.event_loop.loop_watch import STALL_SECONDS, LoopWatch, boot_time
from tests.support.parts import Clock
from tests.support.redis import until


@pytest.mark.gen_test
async def test_a_loop_that_turns_is_never_behind() -> None:
    clock = Clock(0.0)
    watch = LoopWatch(clock)
    stalls: list[float] = []
    watch.on_stall(stalls.append)
    watch.start()
    for _ in range(50):
        clock.forward(0.99 * STALL_SECONDS)
        assert not watch.check()
    watch.stop()
    assert stalls == []


@pytest.mark.gen_test
async def test_a_stall_is_reported_before_the_caller_continues() -> None:
    clock, stalls = Clock(0.0), list[float]()
    watch = LoopWatch(clock)
    watch.on_stall(stalls.append)
    watch.start()
    clock.forward(STALL_SECONDS)
    assert watch.check()
    assert stalls == [STALL_SECONDS]
    clock.forward(0.1)
    assert watch.check(), "until what was missed has been read"
    assert stalls == [STALL_SECONDS], "reported once"
    watch.caught_up()
    assert not watch.check()
    watch.stop()


@pytest.mark.gen_test
async def test_waiters_continue_after_the_catch_up() -> None:
    clock, resumed = Clock(0.0), list[str]()
    watch = LoopWatch(clock)
    watch.on_resume(lambda: resumed.append("resumed"))
    watch.start()
    clock.forward(5)
    assert watch.check()
    waiting = [asyncio.ensure_future(watch.passed()) for _ in range(3)]
    await asyncio.sleep(0)
    assert not any(each.done() for each in waiting)
    watch.caught_up()
    watch.caught_up()
    await asyncio.gather(*waiting)
    assert resumed == ["resumed"]
    await watch.passed()  # not behind: at once
    watch.stop()


@pytest.mark.gen_test
async def test_a_loop_that_is_held_up_notices_by_itself() -> None:
    watch, stalls = LoopWatch(), list[float]()
    watch.on_stall(stalls.append)
    watch.start()
    time.sleep(STALL_SECONDS + 0.05)  # noqa: ASYNC251 - this is what it is about
    await until(lambda: stalls)
    assert stalls[0] >= STALL_SECONDS
    watch.stop()


@pytest.mark.gen_test
async def test_without_a_started_watch_nothing_is_held() -> None:
    clock = Clock(0.0)
    watch = LoopWatch(clock)
    clock.forward(60)
    assert not watch.check()
    watch.start()
    watch.stop()
    clock.forward(60)
    assert not watch.check()


def test_the_clock_never_goes_back() -> None:
    times = [boot_time() for _ in range(1000)]
    assert times == sorted(times)
