"""The rooms of one socket: which it may join, and which it has joined."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from services.bus.bus_memory import MemoryBus
from services.grants.rules import Grant, Right
from services.redis.store_memory import MemoryStore
from services.rooms.membership import OWN_ROOM, Membership
from services.rooms.presence import Presence
from services.rooms.rooms import Rooms
from services.sessions.control import CONTROL_ROOM
from services.websocket.protocol import Member
from tests.support.members import RecordingMember
from tests.support.parts import Clock
from tests.support.redis import until

READ, WRITE = Grant(Right.READ, 1.0), Grant(Right.WRITE, 2.0)


class SlowRooms(Rooms):
    """Rooms that are certain only once the test says so."""

    gate: asyncio.Event | None = None

    async def wait_subscribed(self, held: object) -> None:
        if self.gate is not None:
            await self.gate.wait()


@dataclass
class Installation:
    rooms: SlowRooms
    presence: Presence
    bus: MemoryBus

    def socket(
        self, grants: Mapping[str, Grant], user_id: str = "ada"
    ) -> tuple[RecordingMember, Membership]:
        person = RecordingMember(f"socket of {user_id}")
        user = Member(user_id, user_id.title())
        return person, Membership(self.rooms, self.presence, person.member, user, grants)

    async def people(self, room: str) -> list[str]:
        return [member.id for member in await self.presence.people(room)]


def installation() -> Installation:
    clock = Clock()
    bus = MemoryBus(10, 60.0, clock)
    rooms = SlowRooms(bus, as_event=lambda kept: kept.body, clock=clock)
    return Installation(rooms, Presence(MemoryStore(clock=clock), rooms, "node", clock), bus)


@pytest.mark.gen_test
async def test_a_user_may_enter_their_own_room_and_granted_channels() -> None:
    _, membership = installation().socket({"c1": READ, "c2": WRITE})
    assert membership.allowed() == ["user:ada", "channel:c1", "channel:c2"]
    assert membership.names() == [], "to be allowed is not to be in"
    assert membership.grant_in("user:ada") == OWN_ROOM
    assert membership.grant_in("channel:c1") == READ
    assert membership.grant_in("channel:c2") == WRITE


@pytest.mark.gen_test
async def test_sockets_in_a_channel_share_its_id_and_nothing_keeps_it_behind_them() -> None:
    h = installation()
    h.rooms.subscribe(["channel:an id that nothing else has"])
    copies = [b"an id that nothing else has".decode() for _ in range(3)]
    held = [h.socket({copies[0]: READ})[1], h.socket({copies[1]: READ}, "bob")[1]]
    first, other = (next(iter(membership._grants)) for membership in held)
    assert first is other
    # CPython 3.12 never frees a string that was interned.
    assert sys.intern(copies[2]) is copies[2]


@pytest.mark.parametrize(
    "room",
    ["user:bob", "user:", "user:ada ", "channel:c2", "channel:", "channel", "c1", "user:c1", "",
     "other:c1", CONTROL_ROOM, "channel:user:ada", "Channel:c1", ":c1"],
)  # fmt: skip
@pytest.mark.gen_test
async def test_any_other_room_is_forbidden(room: str) -> None:
    h = installation()
    _, membership = h.socket({"c1": READ})
    assert membership.grant_in(room) is None
    await membership.enter_subscribed([room])
    assert membership.names() == []
    assert h.rooms.names() == []


@pytest.mark.gen_test
async def test_a_member_receives_messages_and_is_present_until_they_leave() -> None:
    h = installation()
    ada, membership = h.socket({"c1": READ})
    await membership.enter_subscribed(membership.allowed())
    assert membership.names() == ["user:ada", "channel:c1"]
    h.rooms.send_here("channel:c1", b"1")
    h.rooms.send_here("user:ada", b"2")
    assert await h.people("channel:c1") == ["ada"]
    assert membership.leave("channel:c1") is True
    assert membership.leave("channel:c1") is False
    assert membership.leave("channel:never") is False
    h.rooms.send_here("channel:c1", b"3")
    await asyncio.sleep(0)
    assert ada.texts == ["1", "2"]
    assert await h.people("channel:c1") == []


@pytest.mark.gen_test
async def test_going_in_twice_counts_once() -> None:
    h = installation()
    _, membership = h.socket({"c1": READ})
    await membership.enter_subscribed(["channel:c1"])
    await membership.enter_subscribed(["channel:c1"])
    await asyncio.gather(
        membership.enter_subscribed(["user:ada"]), membership.enter_subscribed(["user:ada"])
    )
    assert membership.names() == ["channel:c1", "user:ada"]
    membership.leave("channel:c1")
    assert await h.people("channel:c1") == [], "one socket, one presence"
    membership.leave_all()
    assert (membership.names(), h.rooms.names()) == ([], [])


@pytest.mark.gen_test
async def test_rooms_that_were_left_are_not_received() -> None:
    h = installation()
    _, membership = h.socket({"c1": READ})
    await membership.enter_subscribed(membership.allowed())
    membership.leave_all()
    received: list[bytes] = []
    h.rooms.on_ephemeral(b"z", lambda _, body: received.append(body))
    for room in ("user:ada", "channel:c1"):
        h.rooms.send_ephemeral(room, b"z", b"still heard")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert received == []


@pytest.mark.gen_test
async def test_rights_that_were_looked_up_anew_move_one_in_and_out() -> None:
    h = installation()
    _, membership = h.socket({"c1": READ, "c2": READ})
    await membership.enter_subscribed(membership.allowed())
    membership.leave("channel:c2")
    await membership.match({"c2": WRITE, "c3": READ})
    assert sorted(membership.names()) == ["channel:c2", "channel:c3", "user:ada"]
    assert membership.grant_in("channel:c1") is None
    assert membership.grant_in("channel:c2") == WRITE
    assert await h.people("channel:c1") == []


@pytest.mark.gen_test
async def test_only_an_actual_change_of_a_channel_is_announced() -> None:
    _, membership = installation().socket({"c1": READ})
    await membership.enter_subscribed(membership.allowed())
    assert await membership.change("c1", READ) is False
    assert await membership.change("c9", None) is False
    assert await membership.change("c1", WRITE) is True
    assert membership.grant_in("channel:c1") == WRITE
    assert await membership.change("c2", READ) is True
    assert membership.names() == ["user:ada", "channel:c1", "channel:c2"]
    assert await membership.change("c1", None) is True
    assert membership.names() == ["user:ada", "channel:c2"]


@pytest.mark.gen_test
async def test_a_new_right_does_not_rejoin_a_user_who_has_left() -> None:
    _, membership = installation().socket({"c1": READ})
    await membership.enter_subscribed(membership.allowed())
    membership.leave("channel:c1")
    assert await membership.change("c1", WRITE) is True
    assert membership.names() == ["user:ada"]


@pytest.mark.gen_test
async def test_a_right_revoked_during_a_join_prevents_it() -> None:
    h = installation()
    ada, membership = h.socket({"c1": READ})
    h.rooms.gate = asyncio.Event()
    going = asyncio.create_task(membership.enter_subscribed(["channel:c1", "user:ada"]))
    await asyncio.sleep(0)
    await membership.change("c1", None)
    h.rooms.gate.set()
    await going
    assert membership.names() == ["user:ada"]
    h.rooms.send_here("channel:c1", b"secret")
    await asyncio.sleep(0)
    assert ada.texts == []
    assert h.rooms.names() == ["user:ada"]


@pytest.mark.gen_test
async def test_a_socket_closed_during_a_join_is_in_no_room() -> None:
    h = installation()
    ada, membership = h.socket({"c1": READ})
    h.rooms.gate = asyncio.Event()
    going = asyncio.create_task(membership.enter_subscribed(membership.allowed()))
    await asyncio.sleep(0)
    ada.connection.is_open = False
    membership.leave_all()
    h.rooms.gate.set()
    await going
    assert (membership.names(), h.rooms.names()) == ([], [])
    assert await h.people("channel:c1") == []


@pytest.mark.gen_test
async def test_a_cancelled_join_keeps_no_subscription() -> None:
    h = installation()
    _, membership = h.socket({"c1": READ})
    h.rooms.gate = asyncio.Event()
    going = asyncio.create_task(membership.enter_subscribed(["channel:c1"]))
    await asyncio.sleep(0)
    going.cancel()
    await asyncio.wait([going])
    h.rooms.gate = None
    _, other = h.socket({"c1": READ}, "bob")
    await other.enter_subscribed(["channel:c1"])
    other.leave_all()
    await h.bus.keep("channel:c1", b"x")
    assert "channel:c1" not in h.rooms._rooms, "the last has left: it is heard no more"


@pytest.mark.gen_test
async def test_two_sockets_of_a_user_are_in_rooms_each_for_itself() -> None:
    h = installation()
    ada, one = h.socket({"c1": READ})
    again, other = h.socket({"c1": READ})
    again.session_id = "another socket"
    for membership in (one, other):
        await membership.enter_subscribed(membership.allowed())
    one.leave_all()
    h.rooms.send_here("channel:c1", b"1")
    h.rooms.send_here("user:ada", b"2")
    await asyncio.sleep(0)
    assert (ada.texts, again.texts) == ([], ["1", "2"])
    assert await h.people("channel:c1") == ["ada"]
    other.leave_all()
    await until(lambda: not h.rooms.names())
