"""event_loop/equal_timeouts.py: who is called back, and when."""

from __future__ import annotations

import asyncio

import pytest

from services.event_loop.equal_timeouts import EqualTimeouts
from tests.support.redis import until

FAR = 3600.0


@pytest.mark.gen_test
async def test_members_are_called_back_in_order_and_never_before_their_time() -> None:
    loop, called = asyncio.get_running_loop(), dict[str, float]()
    timeouts = EqualTimeouts[str](loop, 0.05, lambda name: called.update({name: loop.time()}))
    began: dict[str, float] = {}
    for name in ("first", "second", "third"):
        began[name] = loop.time()
        timeouts.add(name)
        await asyncio.sleep(0.02)
    await until(lambda: len(called) == 3)
    assert list(called) == ["first", "second", "third"]
    assert all(called[name] - began[name] >= 0.05 for name in began)
    assert len(timeouts) == 0


@pytest.mark.gen_test
async def test_who_was_taken_out_is_not_called_and_those_behind_are() -> None:
    called: list[str] = []
    timeouts = EqualTimeouts(asyncio.get_running_loop(), 0.02, called.append)
    timeouts.add("gone")
    timeouts.add("stays")
    timeouts.discard("gone")
    timeouts.discard("never there")
    assert (len(timeouts), list(timeouts)) == (1, ["stays"])
    await until(lambda: called == ["stays"])
    timeouts.add("later")
    await until(lambda: called == ["stays", "later"])


@pytest.mark.gen_test
async def test_a_fault_of_one_and_what_one_does_to_another_keep_nobody_waiting(
    caplog: pytest.LogCaptureFixture,
) -> None:
    called: list[str] = []

    def act(name: str) -> None:
        called.append(name)
        timeouts.discard("taken out by the first")
        if name == "first":
            raise RuntimeError("of one")

    timeouts = EqualTimeouts(asyncio.get_running_loop(), 0.02, act)
    for name in ("first", "taken out by the first", "last"):
        timeouts.add(name)
    await until(lambda: called == ["first", "last"])
    assert "could not be met" in caplog.text


@pytest.mark.gen_test
async def test_a_thousand_take_one_timer() -> None:
    class Counted:
        """The running loop, with its timers counted."""

        timers = 0

        def __init__(self) -> None:
            self._loop = asyncio.get_running_loop()
            self.time = self._loop.time

        def call_later(self, *rest: object) -> asyncio.TimerHandle:
            self.timers += 1
            return self._loop.call_later(*rest)  # type: ignore[arg-type]  # passed on

    loop = Counted()
    timeouts = EqualTimeouts[int](loop, FAR, lambda _: None)  # type: ignore[arg-type]  # enough
    for number in range(1000):
        timeouts.add(number)
        if number % 2:
            timeouts.discard(number)
    assert (loop.timers, len(timeouts)) == (1, 500)
