"""What was said while the line to Redis was lost is received in order, and once."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.bus.bus import LoggedMessage
from services.bus.log_keys import log_key
from services.rooms.rooms import Rooms
from tests.bus.nodes import ROOM, Node, hang_up, node
from tests.support.members import RecordingMember, enter
from tests.support.redis import RealRedis, redis_server, run, until

__all__ = ["redis_server"]


@asynccontextmanager
async def rooms_on(redis: RealRedis) -> AsyncIterator[tuple[Node, Rooms]]:
    async with node(redis) as each:
        yield each, Rooms(each.bus, as_event=lambda kept: kept.id.encode())


def log_of(redis: RealRedis, room: str = ROOM) -> list[str]:
    return [entry[0].decode() for entry in redis.ask("XRANGE", log_key(room), "-", "+")]


@pytest.mark.gen_test
async def test_what_was_said_while_the_line_was_lost_is_brought_in_its_order(
    redis_server: RealRedis,
) -> None:
    async with rooms_on(redis_server) as (a, rooms), node(redis_server) as b:
        ada, bob = RecordingMember("ada"), RecordingMember("bob")
        await enter(rooms, ada, ROOM)
        await enter(rooms, bob, ROOM)
        await b.say(b"0")
        await until(lambda: len(ada.texts) == 1)
        redis_server.ask("CLIENT", "PAUSE", "200", "WRITE")
        for _ in range(5):
            hang_up(redis_server)
            await asyncio.gather(*(b.say(b"x") for _ in range(100)))
        expected = log_of(redis_server)
        assert len(expected) == 501
        await until(lambda: len(ada.texts) >= 501 and len(bob.texts) >= 501)
        assert ada.texts == bob.texts == expected
        assert a.ear.kept_messages == [], "the rooms listen now"


@pytest.mark.slow
@pytest.mark.gen_test
async def test_a_log_that_can_be_read_only_later_than_the_line_is_back_is_read_then(
    redis_server: RealRedis,
) -> None:
    """The line and the store reconnect each for itself, in any order."""
    async with rooms_on(redis_server) as (a, rooms), node(redis_server) as b:
        ada = RecordingMember("ada")
        await enter(rooms, ada, ROOM)
        await b.say(b"0")
        await until(lambda: len(ada.texts) == 1)
        for _ in range(10):
            hang_up(redis_server)
            await b.say(b"missed")
            hang_up(redis_server, "normal")  # the store's
            await a.is_heard()
        expected = log_of(redis_server)
        await until(lambda: ada.texts == expected)


STEPS = st.lists(
    st.sampled_from(["say", "say", "say many", "cut line", "cut store", "wait", "come", "go"]),
    min_size=3,
    max_size=14,
)


@pytest.fixture(scope="module")
def enduring() -> Iterator[RealRedis]:
    """One Redis for all examples; each has rooms of its own."""
    server = RealRedis()
    yield server
    server.close()


@pytest.mark.slow
@given(steps=STEPS)
@settings(max_examples=40)
def test_whatever_happens_to_the_line_every_member_gets_every_message_once_and_in_order(
    enduring: RealRedis, steps: list[str]
) -> None:
    run(_live_through(enduring, steps))


async def _live_through(redis: RealRedis, steps: list[str]) -> None:
    room = f"channel:{secrets.token_hex(8)}"
    async with rooms_on(redis) as (_, here), rooms_on(redis) as (_, there), node(redis) as speaker:
        people = [
            (here, RecordingMember("ada")),
            (here, RecordingMember("bob")),
            (there, RecordingMember("cleo")),
        ]
        for rooms, person in people:
            await enter(rooms, person, room)
        guests: list[RecordingMember] = []
        for step in steps:
            await _take(step, redis, room, here, speaker, guests)
        expected = log_of(redis, room)
        for _, person in people:
            await until(lambda: person.texts[-1:] == expected[-1:])  # noqa: B023
            assert person.texts == expected
        for guest in guests:
            assert guest.texts == expected[len(expected) - len(guest.texts) :]


async def _take(
    step: str,
    redis: RealRedis,
    room: str,
    here: Rooms,
    speaker: Node,
    guests: list[RecordingMember],
) -> None:
    if step.startswith("say"):
        for _ in range(20 if step == "say many" else 1):
            await speaker.say(b"x", room)
    elif step.startswith("cut"):
        hang_up(redis, "pubsub" if step == "cut line" else "normal")
    elif step == "wait":
        await asyncio.sleep(0.03)
    elif step == "come":
        guests.append(RecordingMember(f"guest {len(guests)}"))
        await enter(here, guests[-1], room)
    elif guests:
        here.leave(guests.pop().member, room)


@pytest.mark.gen_test
async def test_a_message_received_live_and_in_the_history_is_delivered_once(
    redis_server: RealRedis,
) -> None:
    async with rooms_on(redis_server) as (a, rooms):
        ada = RecordingMember("ada")
        await enter(rooms, ada, ROOM)
        (message_id,) = [await a.say(b"once")]
        await until(lambda: ada.texts == [message_id])
        rooms.gap(ROOM)
        rooms.gap(ROOM)
        rooms.logged(ROOM, LoggedMessage(message_id, b"once"))
        last = await a.say(b"and on")
        await until(lambda: ada.texts[-1:] == [last])
        assert ada.texts == [message_id, last]
