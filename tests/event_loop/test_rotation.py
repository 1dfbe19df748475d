from __future__ import annotations

import asyncio
import logging
from collections import Counter
from functools import partial

import pytest

from services.event_loop.rotation import AT_ONCE, CROWD, Rotation, UnderWay


class Begun:
    """What a rotation has begun, and in which iteration of the loop."""

    def __init__(self) -> None:
        self.under_way = UnderWay()
        self.rotation = Rotation(self.under_way)
        self.order: list[str] = []

    def ask(self, caller: str, times: int = 1) -> None:
        for _ in range(times):
            self.rotation.start(caller, partial(self.order.append, caller))

    async def iterations(self, count: int) -> list[int]:
        """How many were begun in each of the next ones."""
        begun = []
        for _ in range(count):
            before = len(self.order)
            await asyncio.sleep(0)
            begun.append(len(self.order) - before)
        return begun


@pytest.mark.gen_test
async def test_a_few_begin_at_once_without_waiting() -> None:
    begun = Begun()
    begun.ask("a", AT_ONCE)
    assert begun.order == ["a"] * AT_ONCE
    await begun.rotation.idle()
    begun.ask("a", AT_ONCE)
    assert begun.order == ["a"] * 2 * AT_ONCE


@pytest.mark.gen_test
async def test_of_more_a_few_begin_in_each_iteration_in_their_order() -> None:
    begun = Begun()
    for number in range(3 * AT_ONCE):
        begun.rotation.start("a", partial(begun.order.append, str(number)))
    assert len(begun.order) == AT_ONCE
    assert await begun.iterations(3) == [AT_ONCE, AT_ONCE, 0]
    assert begun.order == [str(number) for number in range(3 * AT_ONCE)]


@pytest.mark.gen_test
async def test_a_new_caller_is_served_before_a_waiting_crowd() -> None:
    begun = Begun()
    begun.ask("crowd", 500)
    await asyncio.sleep(0)
    begun.ask("b")
    begun.ask("c")
    await asyncio.sleep(0)
    assert begun.order[2 * AT_ONCE :] == ["b", "c", *["crowd"] * (AT_ONCE - 2)]


@pytest.mark.gen_test
async def test_no_sender_gets_far_ahead_of_another() -> None:
    begun = Begun()
    begun.ask("first", AT_ONCE)
    for name in "abcdefgh":
        begun.ask(name, 10)
    await begun.rotation.idle()
    order = begun.order[AT_ONCE:]
    assert len(order) == 80
    for end in range(12, 80):  # of four, one is for those who had their first already
        counts = Counter(order[:end])
        assert len(counts) == 8
        assert max(counts.values()) - min(counts.values()) <= 2


@pytest.mark.gen_test
async def test_ever_new_callers_do_not_starve_others() -> None:
    begun = Begun()
    begun.ask("old", AT_ONCE + 20)
    number = 0
    for _ in range(30):
        for _ in range(AT_ONCE + 1):
            begun.ask(f"new {number}")
            number += 1
        await asyncio.sleep(0)
    assert begun.order.count("old") == AT_ONCE + 20


@pytest.mark.gen_test
async def test_a_crowd_leaves_the_loop_to_requests_of_others_and_to_its_own_not() -> None:
    begun = Begun()
    begun.under_way.enter("crowd")
    begun.ask("crowd", 200)
    assert await begun.iterations(4) == [AT_ONCE] * 4
    begun.under_way.enter("b")
    assert sum(await begun.iterations(10)) < 10, "it pauses"
    begun.ask("b")
    begun.under_way.leave("b")
    await begun.rotation.idle()
    assert len(begun.order) == 201


@pytest.mark.gen_test
async def test_a_crowd_without_work_in_progress_yields_too() -> None:
    begun = Begun()
    begun.under_way.enter("b")
    begun.ask("crowd", 200)
    assert sum(await begun.iterations(10)) < 10


@pytest.mark.gen_test
async def test_crowds_do_not_stand_before_one_request_of_another() -> None:
    begun = Begun()
    begun.under_way.enter("b")
    begun.ask("a", AT_ONCE)
    for number in range(30):
        begun.ask(f"crowd {number}", 2 * CROWD)
    begun.ask("b")
    await asyncio.sleep(0)
    assert begun.order[AT_ONCE] == "b"


@pytest.mark.gen_test
async def test_a_few_of_one_caller_are_no_crowd() -> None:
    begun = Begun()
    begun.under_way.enter("a")
    begun.under_way.enter("b")
    begun.ask("a", CROWD)
    assert await begun.iterations(3) == [AT_ONCE] * 3


@pytest.mark.gen_test
async def test_an_error_keeps_the_others_not_waiting_and_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    begun = Begun()

    def fail() -> None:
        raise RuntimeError("of one")

    begun.ask("a", AT_ONCE)
    begun.rotation.start("b", fail)
    begun.ask("c")
    with caplog.at_level(logging.ERROR, "usher.rotation"):
        await begun.rotation.idle()
    assert begun.order == ["a"] * AT_ONCE + ["c"]
    assert "of one" in caplog.text


@pytest.mark.gen_test
async def test_a_cancelled_turn_delays_no_other() -> None:
    begun = Begun()
    begun.ask("a", AT_ONCE)
    turn, other = begun.rotation.turn("b"), begun.rotation.turn("c")
    assert turn is not None
    assert other is not None
    turn.cancel()
    await asyncio.wait_for(other, 10)
    await begun.rotation.idle()
    assert begun.rotation.turn("b") is None


@pytest.mark.gen_test
async def test_idle_is_when_nothing_waits() -> None:
    begun = Begun()
    await begun.rotation.idle()
    begun.ask("a", 100)
    await begun.rotation.idle()
    assert len(begun.order) == 100
