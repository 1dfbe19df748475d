"""Deadlines that are minutes away share one timer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from services.event_loop.deadlines import Deadlines


class Loop:
    """A loop whose clock is moved by the test, with the timers that were set."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.timers: list[tuple[float, Callable[[], None], asyncio.Future[None]]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, act: Callable[[], None]) -> Any:
        handle: asyncio.Future[None] = asyncio.Future()
        self.timers.append((self.now + delay, act, handle))
        return handle

    def waiting(self) -> list[float]:
        return sorted(at for at, _, handle in self.timers if not handle.cancelled())

    def forward(self, seconds: float) -> None:
        self.now += seconds
        due = [timer for timer in self.timers if timer[0] <= self.now]
        self.timers = [timer for timer in self.timers if timer[0] > self.now]
        for _, act, handle in sorted(due, key=lambda timer: timer[0]):
            if not handle.cancelled():
                act()


def made() -> tuple[Loop, Deadlines[str], list[str]]:
    loop = Loop()
    return loop, Deadlines(loop), []  # type: ignore[arg-type]  # the two methods that it uses


@pytest.mark.gen_test
async def test_an_owner_is_called_within_the_second_before_its_deadline() -> None:
    loop, deadlines, called = made()
    deadlines.add("ada", 60.5, called.append)
    loop.forward(59.4)
    assert called == []
    loop.forward(0.7)
    assert called == ["ada"]
    assert len(deadlines) == 0


@pytest.mark.gen_test
async def test_any_number_of_deadlines_has_one_timer_and_each_is_called_in_its_turn() -> None:
    loop, deadlines, called = made()
    for minutes in (5, 1, 3, 2, 4):
        deadlines.add(f"{minutes}", minutes * 60.0, called.append)
        assert len(loop.waiting()) == 1
    for minutes in range(1, 6):
        loop.forward(60.0)
        assert called[-1] == f"{minutes}"
        assert len(loop.waiting()) == (minutes < 5)


@pytest.mark.gen_test
async def test_a_deadline_that_was_discarded_is_not_called() -> None:
    loop, deadlines, called = made()
    second = deadlines.add("ada", 60.0, called.append)
    deadlines.add("bob", 60.0, called.append)
    deadlines.discard("ada", second)
    deadlines.discard("ada", second)
    loop.forward(100.0)
    assert called == ["bob"]


@pytest.mark.gen_test
async def test_an_owner_may_set_the_next_deadline_when_it_is_called() -> None:
    loop, deadlines, called = made()

    def again(owner: str) -> None:
        called.append(owner)
        deadlines.add(owner, 60.0, again)

    deadlines.add("ada", 60.0, again)
    for _ in range(3):
        loop.forward(60.0)
    assert called == ["ada"] * 3
    assert len(deadlines) == 1


@pytest.mark.gen_test
async def test_a_loop_that_stood_still_calls_all_that_is_due() -> None:
    loop, deadlines, called = made()
    for number in range(10):
        deadlines.add(f"{number}", 10.0 + number, called.append)
    loop.forward(15.5)
    assert called == [f"{number}" for number in range(6)]


@pytest.mark.gen_test
async def test_an_owner_that_fails_costs_no_other_its_deadline(
    caplog: pytest.LogCaptureFixture,
) -> None:
    loop, deadlines, called = made()

    def fail(owner: str) -> None:
        raise RuntimeError(owner)

    deadlines.add("ada", 60.0, fail)
    deadlines.add("bob", 60.0, called.append)
    loop.forward(60.0)
    assert called == ["bob"]
    assert "a deadline could not be met" in caplog.text
