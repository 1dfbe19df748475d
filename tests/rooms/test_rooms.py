"""Rooms on one node: who receives what, in which order, and the recovery of a gap."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec
import pytest

from services.bus.bus import SENDER_BYTES, LoggedMessage, Window
from services.bus.bus_memory import MemoryBus, _Log
from services.bus.bus_redis import RedisBus
from services.errors import StoreUnavailable
from services.redis.store_redis import RedisStore
from services.rooms.missed_messages import GAP_PAGE, GAPS_AT_ONCE, MAX_WAITING
from services.rooms.room_names import channel_room, user_room
from services.rooms.rooms import FLUSH_BYTES, Rooms
from services.sessions.control import CONTROL_ROOM
from services.websocket.frames import encode_text
from tests.support.members import RecordingMember, enter
from tests.support.parts import Clock
from tests.support.redis import RealRedis, redis_server, until, within

__all__ = ["redis_server"]

ROOM = "channel:herons"


class SlowBus(MemoryBus):
    """A bus in memory that can lose its line, and whose log takes its time to be read."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(10_000, 86400.0, clock)
        self.said: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.refusals = 0
        self.reading, self.most_at_once = 0, 0
        self.ahead = 0.0
        """Seconds by which the log's clock is ahead of the node's."""

    def subscribe(self, room: str) -> None:
        self.said.append(f"+{room}")
        super().subscribe(room)

    def unsubscribe(self, room: str) -> None:
        self.said.append(f"-{room}")
        super().unsubscribe(room)

    def lose(self, room: str) -> None:
        """The line is lost: nothing of the room is heard."""
        super().unsubscribe(room)

    def find(self, room: str) -> None:
        super().subscribe(room)

    async def read_behind(self, room: str, after: str, limit: int) -> Window:
        window = await super().read_behind(room, after, limit)  # as the log is at this moment
        self.reading += 1
        self.most_at_once = max(self.most_at_once, self.reading)
        await self.gate.wait()
        self.reading -= 1
        if self.refusals:
            self.refusals -= 1
            raise StoreUnavailable("away")
        return msgspec.structs.replace(window, now=window.now + self.ahead)

    async def keep_at(self, room: str, body: bytes, seconds: float) -> None:
        """Keep a message whose id is of that time."""
        log = self._logs.setdefault(room, _Log(self._size, SENDER_BYTES))
        log.add("", LoggedMessage(f"{int(seconds * 1000)}-0", body))


@dataclass
class Installation:
    """The rooms of a node."""

    bus: SlowBus
    rooms: Rooms
    clock: Clock

    async def people(self, *names: str, room: str = ROOM) -> list[RecordingMember]:
        made = [RecordingMember(name) for name in names]
        for person in made:
            await enter(self.rooms, person, room)
        return made

    async def say(self, *bodies: str, room: str = ROOM) -> None:
        for body in bodies:
            await self.bus.keep(room, body.encode())
        await asyncio.sleep(0)  # what is said in one turn of the loop goes out at its end

    async def miss(self, *bodies: str) -> None:
        """Messages sent while the connection is lost; the reconnect is not announced yet."""
        self.bus.lose(ROOM)
        await self.say(*bodies)
        self.bus.find(ROOM)


def installation() -> Installation:
    clock = Clock()
    bus = SlowBus(clock)
    return Installation(bus, Rooms(bus, as_event=lambda kept: kept.body, clock=clock), clock)


def numbers(these: Iterable[int]) -> list[str]:
    return [str(n) for n in these]


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


# ---- order ---------------------------------------------------------------------------------


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
