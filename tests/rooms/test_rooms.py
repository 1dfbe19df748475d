"""Rooms on one node: who is in, and who receives what."""

from __future__ import annotations

import asyncio
import signal

import pytest

from services.bus.bus_redis import RedisBus
from services.redis.store_redis import RedisStore
from services.rooms.room_names import channel_room, user_room
from services.rooms.rooms import FLUSH_BYTES, Rooms
from services.sessions.control import CONTROL_ROOM
from services.websocket.frames import encode_text
from tests.rooms.slow_bus import ROOM, installation
from tests.support.members import RecordingMember, enter
from tests.support.redis import RealRedis, redis_server, until, within

__all__ = ["redis_server"]


def test_rooms_are_named_after_whose_they_are() -> None:
    assert user_room("u1") == "user:u1"
    assert channel_room("c1") == "channel:c1"
    assert not CONTROL_ROOM.startswith(("user:", "channel:")), "no client may name it"


# ---- who is in -----------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_room_is_received_from_its_first_member_to_its_last() -> None:
    h = installation()
    ada, bob = await h.people("ada", "bob")
    h.rooms.leave(ada.member, ROOM)
    assert h.bus.said[-1] == f"+{ROOM}"
    assert h.rooms.members(ROOM) == [bob.member]
    assert h.rooms.names() == [ROOM]
    h.rooms.leave(bob.member, ROOM)
    assert h.bus.said[-1] == f"-{ROOM}"
    assert (h.rooms.members(ROOM), h.rooms.names()) == ([], [])


@pytest.mark.gen_test
async def test_a_subscription_keeps_a_room_without_members() -> None:
    h = installation()
    h.rooms.subscribe([ROOM])
    (ada,) = await h.people("ada")
    h.rooms.leave(ada.member, ROOM)
    assert h.bus.said.count(f"-{ROOM}") == 0
    assert h.rooms.names() == []
    h.rooms.unsubscribe([ROOM])
    assert h.bus.said[-1] == f"-{ROOM}"
    h.rooms.unsubscribe([ROOM, "channel:never-held"])
    h.rooms.leave(ada.member, ROOM)
    assert h.bus.said.count(f"-{ROOM}") == 1


@pytest.mark.gen_test
async def test_only_remaining_members_get_further_messages() -> None:
    h = installation()
    ada, bob = await h.people("ada", "bob")
    await h.say("1")
    h.rooms.leave(ada.member, ROOM)
    h.rooms.leave(ada.member, ROOM)
    await h.say("2")
    assert (ada.texts, bob.texts) == (["1"], ["1", "2"])


@pytest.mark.gen_test
async def test_a_member_that_joins_twice_gets_each_message_once() -> None:
    h = installation()
    (ada,) = await h.people("ada")
    await enter(h.rooms, ada, ROOM)
    await h.say("1")
    assert ada.texts == ["1"]
    h.rooms.leave(ada.member, ROOM)
    assert h.rooms.members(ROOM) == []


@pytest.mark.gen_test
async def test_a_cancelled_waiter_for_a_room_cancels_no_other(redis_server: RealRedis) -> None:
    store = RedisStore(redis_server.url)
    bus = RedisBus(redis_server.url, store, 10, 10.0)
    await bus.open()
    rooms = Rooms(bus, as_event=lambda kept: kept.body)
    redis_server.send_signal(signal.SIGSTOP)
    try:
        one = asyncio.create_task(rooms.wait_subscribed(rooms.subscribe([ROOM])))
        other = asyncio.create_task(rooms.wait_subscribed(rooms.subscribe([ROOM])))
        await asyncio.sleep(0)
        one.cancel()
        await asyncio.wait([one])
        assert not other.done()
    finally:
        redis_server.send_signal(signal.SIGCONT)
    await within(other)
    await bus.close()
    await store.close()


# ---- what is sent --------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_message_is_encoded_once_for_everybody() -> None:
    h = installation()
    people = await h.people(*(f"p{n}" for n in range(10)))
    await h.say("hello", "again")
    h.rooms.send_here(ROOM, b"here")
    await asyncio.sleep(0)
    texts = [encode_text(text) for text in (b"hello", b"again", b"here")]
    assert people[0].connection.frames == texts
    assert people[0].connection.writes == [texts[0] + texts[1], texts[2]], "one write a turn"
    for number in range(2):
        assert len({id(person.connection.writes[number]) for person in people}) == 1, (
            "the same bytes"
        )


@pytest.mark.gen_test
async def test_a_member_for_part_of_an_iteration_gets_the_messages_of_that_time() -> None:
    h = installation()
    ada, bob = await h.people("ada", "bob")
    cleo = RecordingMember("cleo")
    h.rooms.send_here(ROOM, b"1")
    h.rooms.leave(bob.member, ROOM)
    await enter(h.rooms, cleo, ROOM)
    h.rooms.send_here(ROOM, b"2")
    await asyncio.sleep(0)
    assert (ada.texts, bob.texts, cleo.texts) == (["1", "2"], ["1"], ["2"])


@pytest.mark.gen_test
async def test_a_turn_in_which_much_is_said_is_not_gathered_without_bounds() -> None:
    h = installation()
    (ada,) = await h.people("ada")
    part = b"x" * (FLUSH_BYTES // 4)
    for _ in range(20):
        h.rooms.send_here(ROOM, part)
    assert len(ada.connection.frames) >= 15, "before the turn has ended"
    await asyncio.sleep(0)
    assert ada.connection.frames == [encode_text(part)] * 20
    assert max(map(len, ada.connection.writes)) < 2 * FLUSH_BYTES


@pytest.mark.gen_test
async def test_a_frame_is_sent_to_all_but_one_session() -> None:
    h = installation()
    ada, bob = await h.people("ada", "bob")
    h.rooms.send_frame(ROOM, b"to all")
    h.rooms.send_frame(ROOM, b"typing with spaces", but="ada")
    await h.rooms.publish(ROOM, b"pushed")
    await until(lambda: len(bob.texts) == 3)
    assert bob.texts == ["to all", "typing with spaces", "pushed"]
    assert ada.texts == ["to all", "pushed"]


@pytest.mark.gen_test
async def test_local_messages_are_delivered_without_the_network() -> None:
    h = installation()
    (ada,) = await h.people("ada")
    h.bus.lose(ROOM)
    h.rooms.send_here(ROOM, b"here")
    await asyncio.sleep(0)
    assert ada.texts == ["here"]
    h.rooms.send_here("channel:nobody-is-in", b"here")


@pytest.mark.gen_test
async def test_rooms_do_not_mix() -> None:
    h = installation()
    (ada,) = await h.people("ada")
    (bob,) = await h.people("bob", room="channel:another")
    await h.say("1")
    await h.say("2", room="channel:another")
    h.rooms.send_here("channel:another", b"3")
    await asyncio.sleep(0)
    assert (ada.texts, bob.texts) == (["1"], ["2", "3"])


@pytest.mark.gen_test
async def test_a_member_that_is_closed_by_a_message_affects_no_other() -> None:
    h = installation()
    people = await h.people("slow", "ada", "bob")
    slow = people[0]

    def closes(frames: list[bytes], joined: bytes) -> None:
        for person in people[:2]:
            h.rooms.leave(person.member, ROOM)

    slow.connection.send_frames = closes  # type: ignore[method-assign]
    await h.say("1", "2")
    assert people[2].texts == ["1", "2"]
    assert h.rooms.members(ROOM) == [people[2].member]


@pytest.mark.gen_test
async def test_ephemeral_messages_are_dispatched_by_kind() -> None:
    h = installation()
    received: list[tuple[str, bytes]] = []
    h.rooms.on_ephemeral(b"z", lambda room, body: received.append((room, body)))
    (ada,) = await h.people("ada")
    h.rooms.send_ephemeral(ROOM, b"z", b"e for z")
    h.rooms.send_ephemeral(ROOM, b"?", b"of no kind that is known")
    await h.bus.send(ROOM, b"")
    h.rooms.send_frame(ROOM, b"last")
    await until(lambda: ada.texts)
    assert received == [(ROOM, b"e for z")]
    assert ada.texts == ["last"]


@pytest.mark.gen_test
async def test_messages_between_nodes_reach_no_client() -> None:
    h, received = installation(), list[bytes]()
    await h.rooms.receive_from_nodes(received.append)
    (ada,) = await h.people("ada", room=CONTROL_ROOM)
    await h.say("news", room=CONTROL_ROOM)
    assert (received, ada.texts) == ([b"news"], [])
