"""The order of messages in rooms on one node, and the recovery of a gap."""

from __future__ import annotations

import asyncio

import pytest

from services.bus.bus import LoggedMessage
from services.rooms.missed_messages import GAP_PAGE, GAPS_AT_ONCE, MAX_WAITING
from services.sessions.control import CONTROL_ROOM
from tests.rooms.slow_bus import ROOM, installation, numbers
from tests.support.members import enter
from tests.support.redis import until


@pytest.mark.gen_test
async def test_what_was_delivered_is_not_delivered_again() -> None:
    h = installation()
    (ada,) = await h.people("ada")
    for message_id in ("5-0", "4-9", "5-0", "5-1", "10-0", "9-0"):
        h.rooms.logged(ROOM, LoggedMessage(message_id, message_id.encode()))
    h.rooms.logged("channel:nobody-is-in", LoggedMessage("99-0", b"x"))
    await asyncio.sleep(0)
    assert ada.texts == ["5-0", "5-1", "10-0"]


@pytest.mark.gen_test
async def test_after_a_gap_what_was_missed_comes_first_and_what_comes_meanwhile_waits() -> None:
    h = installation()
    ada, bob = await h.people("ada", "bob")
    await h.say("1")
    await h.miss("2", "3")
    h.bus.gate.clear()
    h.rooms.gap(ROOM)
    await until(lambda: h.bus.reading)
    await h.say("4", "5")
    assert ada.texts == ["1"]
    h.bus.gate.set()
    await until(lambda: len(ada.texts) == 5)
    await h.say("6")
    assert ada.texts == bob.texts == numbers(range(1, 7))


@pytest.mark.gen_test
async def test_missed_messages_are_not_delivered_to_later_members() -> None:
    h = installation()
    (ada,) = await h.people("ada")
    await h.say("1")
    await h.miss("2")
    h.clock.forward(1)
    (bob,) = await h.people("bob")
    await h.miss("3 in the same millisecond")
    h.clock.forward(1)
    await h.miss("4")
    (cleo,) = await h.people("cleo")
    h.rooms.gap(ROOM)
    await until(lambda: len(ada.texts) == 4)
    await h.say("5")
    assert ada.texts == ["1", "2", "3 in the same millisecond", "4", "5"]
    assert bob.texts == ["3 in the same millisecond", "4", "5"]
    assert cleo.texts == ["4", "5"], "of one millisecond nobody can say which was first"


@pytest.mark.gen_test
async def test_messages_queued_behind_missed_ones_are_not_delivered_to_later_members_either() -> (
    None
):
    h = installation()
    (ada,) = await h.people("ada")
    await h.miss("1")
    h.bus.gate.clear()
    h.rooms.gap(ROOM)
    await until(lambda: h.bus.reading)
    await h.say("2", "3")
    h.clock.forward(1)
    (bob,) = await h.people("bob")
    h.clock.forward(-1)  # the log was read just now
    h.bus.gate.set()
    await until(lambda: len(ada.texts) == 3)
    h.clock.forward(1)
    await h.say("4")
    assert (ada.texts, bob.texts) == (["1", "2", "3", "4"], ["4"])


@pytest.mark.gen_test
@pytest.mark.parametrize("ahead", [-300.0, -0.5, 0.5, 300.0])
async def test_different_clocks_neither_withhold_nor_leak_messages(
    ahead: float,
) -> None:
    h = installation()
    h.bus.ahead = ahead
    (ada,) = await h.people("ada")
    h.rooms.logged(ROOM, LoggedMessage(f"{int((h.clock() - 900) * 1000)}-0", b"0"))
    await h.bus.keep_at(ROOM, b"1", h.clock() + ahead)
    h.clock.forward(0.2)
    (bob,) = await h.people("bob")
    for body in (b"2", b"3"):
        h.clock.forward(1)
        await h.bus.keep_at(ROOM, body, h.clock() + ahead)
    h.rooms.gap(ROOM)
    await until(lambda: len(ada.texts) == 4)
    assert ada.texts == numbers(range(4))
    assert bob.texts == ["2", "3"]


@pytest.mark.gen_test
async def test_a_slow_read_of_the_log_withholds_nothing_from_earlier_members() -> None:
    h = installation()
    (ada,) = await h.people("ada")
    h.clock.forward(1)
    (bob,) = await h.people("bob")
    h.clock.forward(0.01)
    await h.miss("1")
    h.bus.gate.clear()
    h.rooms.gap(ROOM)
    await until(lambda: h.bus.reading)
    h.clock.forward(5)  # the answer is long on its way, and the log's clock seems behind
    h.bus.gate.set()
    await until(lambda: bob.texts)
    assert ada.texts == bob.texts == ["1"]


@pytest.mark.gen_test
async def test_a_line_that_is_lost_again_during_the_reading_loses_nothing() -> None:
    h = installation()
    (ada,) = await h.people("ada")
    await h.miss("1")
    h.bus.gate.clear()
    h.rooms.gap(ROOM)
    await until(lambda: h.bus.reading)
    await h.miss("2")
    h.rooms.gap(ROOM)
    await h.say("3")
    h.bus.gate.set()
    await until(lambda: len(ada.texts) >= 3)
    assert ada.texts == ["1", "2", "3"]


@pytest.mark.gen_test
async def test_a_log_that_cannot_be_read_yet_is_read_later() -> None:
    h = installation()
    (ada,) = await h.people("ada")
    await h.miss("1", "2")
    h.bus.refusals = 2
    h.rooms.gap(ROOM)
    await until(lambda: len(ada.texts) >= 2)
    assert ada.texts == ["1", "2"]
    assert h.bus.refusals == 0


@pytest.mark.gen_test
async def test_a_long_gap_is_read_page_by_page() -> None:
    h = installation()
    (ada,) = await h.people("ada")
    many = numbers(range(GAP_PAGE * 2 + 50))
    await h.miss(*many)
    h.rooms.gap(ROOM)
    await until(lambda: len(ada.texts) >= len(many))
    assert ada.texts == many


@pytest.mark.gen_test
async def test_more_than_may_wait_is_accepted_from_the_log() -> None:
    h = installation()
    (ada,) = await h.people("ada")
    await h.miss("missed")
    h.bus.gate.clear()
    h.rooms.gap(ROOM)
    await until(lambda: h.bus.reading)
    many = numbers(range(MAX_WAITING + 10))
    await h.say(*many)
    h.bus.gate.set()
    await until(lambda: len(ada.texts) > len(many))
    assert ada.texts == ["missed", *many]


@pytest.mark.gen_test
async def test_without_a_received_message_a_gap_begins_at_the_subscription() -> None:
    h = installation()
    await h.say("before anybody was there")
    h.clock.forward(1)
    (ada,) = await h.people("ada")
    await h.miss("missed in the same millisecond", "and after it")
    h.rooms.gap(ROOM)
    await until(lambda: len(ada.texts) > 1)
    await h.say("on")
    assert ada.texts == ["missed in the same millisecond", "and after it", "on"]


@pytest.mark.gen_test
async def test_a_gap_in_a_room_without_members_reads_nothing() -> None:
    h = installation()
    (ada,) = await h.people("ada")
    await h.miss("missed")
    h.bus.gate.clear()
    h.rooms.gap(ROOM)
    await until(lambda: h.bus.reading)
    await h.say("waits")
    h.rooms.leave(ada.member, ROOM)
    (bob,) = await h.people("bob")
    h.bus.gate.set()
    await h.say("for bob")
    await asyncio.sleep(0.01)  # what was being read would arrive now
    assert (ada.texts, bob.texts) == ([], ["for bob"])
    h.rooms.gap("channel:nobody-is-in")


@pytest.mark.gen_test
async def test_many_gaps_at_once_leave_the_store_room_for_others() -> None:
    h = installation()
    (ada,) = await h.people("ada", room="channel:0")
    names = [f"channel:{n}" for n in range(GAPS_AT_ONCE * 2)]
    await enter(h.rooms, ada, *names)
    h.bus.gate.clear()
    for name in names:
        h.bus.lose(name)
        await h.say(name, room=name)
        h.rooms.gap(name)
    await until(lambda: h.bus.reading == GAPS_AT_ONCE)
    h.bus.gate.set()
    await until(lambda: len(ada.texts) == len(names))
    assert sorted(ada.texts) == sorted(names)
    assert h.bus.most_at_once == GAPS_AT_ONCE


@pytest.mark.gen_test
async def test_news_between_nodes_are_caught_up_with_too() -> None:
    h, received = installation(), list[bytes]()
    await h.rooms.receive_from_nodes(received.append)
    h.bus.lose(CONTROL_ROOM)
    h.clock.forward(1)
    await h.say("1", "2", room=CONTROL_ROOM)
    h.bus.find(CONTROL_ROOM)
    h.rooms.gap(CONTROL_ROOM)
    await until(lambda: len(received) >= 2)
    assert received == [b"1", b"2"]
