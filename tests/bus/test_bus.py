"""The bus between nodes: messages and their ids, in memory and over a real Redis."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.bus.bus import LoggedMessage, Window, id_order
from tests.bus.ears import ROOM, installation, redis, said
from tests.support.redis import RealRedis, until

__all__ = ["redis"]

BODIES = [
    b"",
    b" ",
    b"k1-1 a kept one in disguise",
    b"p",
    b"\x00\r\n$3\r\n*1",
    bytes(range(256)),
    b"x" * 70_000,
]


# ---- kept messages, live -------------------------------------------------------------------


@pytest.mark.gen_test
async def test_what_is_kept_without_waiting_has_the_order_of_the_calls(
    redis: RealRedis | None,
) -> None:
    async with installation(redis) as h:
        assert h.bus.keeps_order
        await h.hear(ROOM)
        bodies = [f"{n}".encode() for n in range(200)]
        kept = [h.bus.keep(ROOM, body) for body in bodies]
        ids = [await each for each in reversed(kept)]
        assert ids == sorted(set(ids), key=id_order, reverse=True)
        await h.ear.hears(len(bodies))
        assert h.ear.bodies() == bodies
        assert said(await h.read(limit=len(bodies))) == bodies


@pytest.mark.gen_test
async def test_kept_messages_arrive_in_the_order_of_the_log_with_ids_that_grow(
    redis: RealRedis | None,
) -> None:
    async with installation(redis) as h:
        await h.hear(ROOM)
        given = await h.say(*(b"%d" % n for n in range(50)))
        await h.ear.hears(50)
        assert h.ear.bodies() == [b"%d" % n for n in range(50)]
        assert h.ear.ids() == given
        orders = [id_order(message_id) for message_id in given]
        assert orders == sorted(set(orders))
        assert min(orders) > (0, 0)


@pytest.mark.gen_test
async def test_a_message_id_contains_its_time(redis: RealRedis | None) -> None:
    async with installation(redis) as h:
        (message_id,) = await h.say(b"now")
        assert id_order(message_id)[0] / 1000 == pytest.approx(h.now(), abs=60)


@pytest.mark.gen_test
async def test_messages_of_concurrent_senders_are_received_in_one_order(
    redis: RealRedis | None,
) -> None:
    async with installation(redis) as h:
        await h.hear(ROOM)
        given = await asyncio.gather(*(h.bus.keep(ROOM, b"%d" % n) for n in range(300)))
        await h.ear.hears(300)
        assert sorted(h.ear.ids(), key=id_order) == h.ear.ids()
        assert {*h.ear.ids()} == {*given}
        assert [m.id for m in (await h.read(limit=300)).messages] == h.ear.ids()
        by_id = {message.id: message.body for _, message in h.ear.kept_messages}
        assert [by_id[message_id] for message_id in given] == [b"%d" % n for n in range(300)]


@pytest.mark.gen_test
async def test_any_bytes_are_carried_as_they_are(redis: RealRedis | None) -> None:
    async with installation(redis) as h:
        await h.hear(ROOM)
        await h.say(*BODIES)
        for body in BODIES:
            await h.bus.send(ROOM, body)
        await h.ear.hears(2 * len(BODIES))
        assert h.ear.bodies() == BODIES
        assert h.ear.said == [(ROOM, body) for body in BODIES]
        assert said(await h.read()) == BODIES


@pytest.mark.parametrize(
    "room", ["user:ü", "channel:a}b{c", "channel:{}", "a b\r\nQUIT", "x" * 500]
)
@pytest.mark.gen_test
async def test_a_room_may_have_any_name(redis: RealRedis | None, room: str) -> None:
    async with installation(redis) as h:
        await h.hear(room)
        (message_id,) = await h.say(b"kept", room=room)
        await h.bus.send(room, b"passing")
        await h.ear.hears(2)
        assert h.ear.kept_messages == [(room, LoggedMessage(message_id, b"kept"))]
        assert h.ear.said == [(room, b"passing")]
        assert said(await h.bus.read(room, None, 5)) == [b"kept"]


@pytest.mark.gen_test
async def test_a_room_is_received_from_subscribe_to_unsubscribe_and_no_other(
    redis: RealRedis | None,
) -> None:
    async with installation(redis) as h:
        await h.say(b"before")
        await h.bus.send(ROOM, b"before")
        await h.hear(ROOM, "channel:witness")
        await h.say(b"during")
        await h.say(b"elsewhere", room="channel:another")
        await h.ear.hears(1)
        h.bus.unsubscribe(ROOM)
        await h.say(b"behind")
        await h.bus.send(ROOM, b"behind")
        await h.say(b"a sign", room="channel:witness")  # behind it nothing is on its way any more
        await h.ear.hears(2)
        assert h.ear.bodies() == [b"during"]
        await h.hear(ROOM)
        await h.say(b"again")
        await h.ear.hears(3)
        assert h.ear.bodies() == [b"during", b"again"]
        assert h.ear.gaps == []


@pytest.mark.gen_test
async def test_what_is_received_already_needs_no_waiting_and_is_reported_once(
    redis: RealRedis | None,
) -> None:
    async with installation(redis) as h:
        await h.hear(ROOM)
        assert h.bus.subscribe(ROOM) is None
        await h.say(b"once")
        await h.ear.hears(1)
        h.bus.unsubscribe("channel:never-heard")
        await h.say(b"still")
        await h.ear.hears(2)


@pytest.mark.gen_test
async def test_going_in_and_out_and_in_within_one_turn_ends_inside(redis: RealRedis | None) -> None:
    async with installation(redis) as h:
        for _ in range(3):
            h.bus.subscribe(ROOM)
            h.bus.unsubscribe(ROOM)
        await h.hear(ROOM)
        await h.say(b"inside")
        await until(lambda: b"inside" in h.ear.bodies())
        h.bus.subscribe(ROOM)
        h.bus.unsubscribe(ROOM)
        await h.say(b"outside")
        await h.hear("channel:witness")
        await h.say(b"a sign", room="channel:witness")
        await until(lambda: h.ear.bodies("channel:witness"))
        assert h.ear.bodies() == [b"inside"]


@pytest.mark.gen_test
async def test_after_close_nothing_is_reported(redis: RealRedis | None) -> None:
    async with installation(redis) as h:
        await h.hear(ROOM)
        await h.bus.close()
        await h.say(b"too late")
        await h.bus.send(ROOM, b"too late")
        await asyncio.sleep(0.05)  # nothing comes; what could, would be here by now
        assert (h.ear.kept_messages, h.ear.said) == ([], [])
        assert said(await h.read()) == [b"too late"], "it was said all the same"


# ---- passing messages ----------------------------------------------------------------------


@pytest.mark.gen_test
async def test_an_ephemeral_message_is_received_and_not_logged(redis: RealRedis | None) -> None:
    async with installation(redis) as h:
        await h.hear(ROOM)
        h.bus.send(ROOM, b"issued when called")  # nobody awaits it
        await h.bus.send(ROOM, b"and awaited")
        await h.ear.hears(2)
        assert h.ear.said == [(ROOM, b"issued when called"), (ROOM, b"and awaited")]
        assert await h.read() == Window([], complete=True)


@pytest.mark.gen_test
async def test_sending_without_listeners_succeeds(redis: RealRedis | None) -> None:
    async with installation(redis) as h:
        await h.bus.send(ROOM, b"hello?")
        (message_id,) = await h.say(b"hello?")
        assert (await h.read()).messages == [LoggedMessage(message_id, b"hello?")]


# ---- ids -----------------------------------------------------------------------------------


@given(st.tuples(st.integers(0, 10**19 - 1), st.integers(0, 10**19 - 1)))
def test_ids_are_compared_as_numbers(order: tuple[int, int]) -> None:
    assert id_order(f"{order[0]}-{order[1]}") == order
    assert LoggedMessage(f"{order[0]}-{order[1]}", b"").order == order


@given(st.text())
def test_any_text_has_an_order(text: str) -> None:
    milliseconds, number = id_order(text)
    assert milliseconds >= 0
    assert number >= 0
    assert (milliseconds, number) == (0, 0) or text.count("-") == 1


def test_ids_do_not_compare_as_text_does() -> None:
    assert LoggedMessage("10-0", b"").order > LoggedMessage("9-0", b"").order
    assert LoggedMessage("9-10", b"").order > LoggedMessage("9-9", b"").order
