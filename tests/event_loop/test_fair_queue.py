from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from services.errors import Busy
from services.event_loop.callers import Caller, Callers
from services.event_loop.fair_queue import FairQueue, Lane, Slot


def lane(name: str, **more: int) -> Lane:
    usual = {
        "weight": 1,
        "reserved": 0,
        "most": 99,
        "most_of_one": 99,
        "waiting": 99,
        "waiting_of_one": 99,
    }
    return Lane(name, **{**usual, **more})


def served(queue: FairQueue, slots: list[Slot], count: int) -> list[str]:
    """Who has a slot one after the other, each giving it up for the next."""
    order: list[str] = []
    waiting = list(slots)
    while len(order) < count:
        slot = next(slot for slot in waiting if slot.granted.done())
        waiting.remove(slot)
        order.append(slot.lane.lane.name + slot.key)
        slot.release()
    return order


@pytest.mark.gen_test
async def test_all_callers_are_served_in_order() -> None:
    queue = FairQueue(1, [lane("l")])
    slots = [queue.request("l", key) for key in ("a", "a", "a", "a", "b", "c", "b")]
    assert served(queue, slots, 7) == ["la", "la", "lb", "lc", "la", "lb", "la"]


@pytest.mark.gen_test
async def test_lanes_share_by_weight_and_idleness_saves_nothing_up() -> None:
    queue = FairQueue(1, [lane("u", weight=3), lane("s")])
    slots = [queue.request("s", "") for _ in range(20)]
    assert served(queue, slots, 8) == ["s"] * 8
    slots = [slot for slot in slots if not slot.is_over]
    slots += [queue.request("u", "") for _ in range(20)]
    assert Counter(served(queue, slots, 9)[1:]) == {"u": 6, "s": 2}


@pytest.mark.gen_test
async def test_no_lane_takes_the_reserved_slots_of_another() -> None:
    queue = FairQueue(4, [lane("n", reserved=1), lane("u", reserved=1), lane("s", most=2)])
    unauthenticated = [queue.request("s", "") for _ in range(10)]
    users = [queue.request("u", "") for _ in range(10)]
    assert [sum(t.granted.done() for t in each) for each in (unauthenticated, users)] == [2, 1]
    assert queue.request("n", "").granted.done()
    unauthenticated[0].release()
    assert (
        sum(slot.granted.done() for slot in users)
        + sum(slot.granted.done() and not slot.is_over for slot in unauthenticated)
        == 3
    )


@pytest.mark.gen_test
async def test_one_caller_has_no_more_slots_than_its_limit() -> None:
    queue = FairQueue(3, [lane("s", most_of_one=2)])
    mine = [queue.request("s", "a") for _ in range(5)]
    assert [slot.granted.done() for slot in mine] == [True, True, False, False, False]
    assert queue.request("s", "b").granted.done()


@pytest.mark.gen_test
async def test_waiting_is_bounded_for_a_lane_and_for_one() -> None:
    queue = FairQueue(1, [lane("s", waiting=4, waiting_of_one=3), lane("u")])
    mine = [queue.request("s", "a") for _ in range(3)]
    with pytest.raises(Busy):
        queue.request("s", "a")
    queue.request("s", "b")
    queue.request("u", "a")  # others have room of their own
    mine[0].release()
    queue.request("s", "a")
    full = FairQueue(1, [lane("s", waiting=3)])
    for key in "abc":
        full.request("s", key)
    for key in "abd":
        with pytest.raises(Busy):
            full.request("s", key)


@pytest.mark.gen_test
async def test_in_a_full_lane_the_newest_of_who_has_the_most_makes_way() -> None:
    queue = FairQueue(1, [lane("s", waiting=8)])
    many = [queue.request("s", "a") for _ in range(6)]
    some = [queue.request("s", "b") for _ in range(2)]
    others = [queue.request("s", key) for key in "cdc"]
    assert [slot.is_over for slot in many] == [False] * 3 + [True] * 3
    for slot in many[3:]:
        with pytest.raises(Busy):
            await slot.wait()
        slot.release()
    with pytest.raises(Busy):  # as many as anybody would have then
        queue.request("s", "c")
    left = [*many[:3], *some, *others]
    assert sorted(served(queue, left, 8)) == ["sa"] * 3 + ["sb"] * 2 + ["sc"] * 2 + ["sd"]
    queue.request("s", "a").release()


@pytest.mark.gen_test
async def test_who_leaves_before_making_way_is_no_error_and_counts_once() -> None:
    queue = FairQueue(1, [lane("s", waiting=3)])
    first, second, newest = (queue.request("s", "a") for _ in range(3))
    waiting = asyncio.create_task(newest.wait())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.sleep(0)
    other = queue.request("s", "b")  # the cancelled one is still in the queue
    newest.release()
    with pytest.raises(Busy):
        queue.request("s", "b")
    assert served(queue, [first, second, other], 3) == ["sa", "sa", "sb"]


@pytest.mark.gen_test
async def test_a_cancelled_waiter_leaves_no_gap_and_releases_once() -> None:
    queue = FairQueue(1, [lane("s")])
    first, second, third = (queue.request("s", key) for key in "aba")
    second.release()
    second.release()
    with pytest.raises(asyncio.CancelledError):
        await second.wait()
    first.release()
    first.release()
    await third.wait()
    other = queue.request("s", "c")
    assert not other.granted.done()
    third.release()
    await other.wait()


@pytest.mark.gen_test
async def test_a_slot_granted_to_a_cancelled_caller_passes_to_the_next() -> None:
    queue = FairQueue(1, [lane("s")])
    first, second, third = (queue.request("s", key) for key in "abc")
    waiting = asyncio.create_task(second.wait())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.sleep(0)
    first.release()
    second.release()
    await third.wait()


@pytest.mark.gen_test
async def test_a_task_and_its_subtasks_work_for_the_caller_that_it_set() -> None:
    callers = Callers()

    async def work() -> Caller:
        return callers.current

    async def handler() -> Caller:
        callers.enter("unauthenticated", "192.0.2.1")
        with callers.on_behalf_of("node"):
            assert callers.current == Caller("node")
        return await asyncio.create_task(work())

    assert await asyncio.create_task(handler()) == Caller("unauthenticated", "192.0.2.1")
    assert callers.current == Caller("users")
