"""Presence on several nodes over one real Redis: who is there, and who is told."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from services.rooms.presence import NOTICES_PER_SECOND, as_fit
from services.websocket.protocol import Member
from tests.rooms.presences import ROOM, Somebody, nodes, written
from tests.support.parts import node, open_socket
from tests.support.redis import RealRedis, redis_server, until

__all__ = ["redis_server"]

# ---- who is there --------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_the_users_of_a_room_are_known_on_every_node(redis_server: RealRedis) -> None:
    async with nodes(redis_server, "a", "b", "c") as (_, (a, b, c)):
        await a.come("ada")
        await b.come("bob")
        for each in (a, b, c):
            await each.sees("ada", "bob")
        assert await a.presence.people(ROOM) == [Member("ada", "Ada"), Member("bob", "Bob")]
        assert await c.people("channel:empty") == []


@pytest.mark.gen_test
async def test_presence_right_after_joining_is_complete(
    redis_server: RealRedis,
) -> None:
    async with nodes(redis_server, "a", "b") as (_, (a, b)):
        await a.come("ada")
        await until(lambda: written(redis_server))
        bob = Somebody(b, "bob", "Bob")
        await b.rooms.wait_subscribed(b.rooms.subscribe([ROOM]))
        bob.membership.enter([ROOM])
        assert await b.people() == ["ada", "bob"]


@pytest.mark.gen_test
async def test_presence_of_the_own_room_costs_no_round_trip(redis_server: RealRedis) -> None:
    async with nodes(redis_server, "a") as (_, (a,)):
        await a.come("ada")
        await a.sees("ada")
        before = len(a.store.groups)
        for _ in range(20):
            await a.people()
        assert len(a.store.groups) == before


@pytest.mark.gen_test
async def test_a_room_of_one_user_has_no_presence(redis_server: RealRedis) -> None:
    async with nodes(redis_server, "a") as (_, (a,)):
        ada = await a.come("ada", room="user:ada")
        assert "user:ada" in ada.membership.names()
        ada.membership.leave("user:ada")
        await a.presence.renew()
        assert a.store.groups == []
        assert redis_server.ask("KEYS", "*:here") == []


# ---- notifications of members --------------------------------------------------------------


@pytest.mark.gen_test
async def test_members_are_notified_of_joins_and_leaves_on_any_node(
    redis_server: RealRedis,
) -> None:
    async with nodes(redis_server, "a", "b") as (_, (a, b)):
        ada = await a.come("ada")
        await until(lambda: ada.reported("joined") == ["ada"])
        bob = await b.come("bob")
        await until(lambda: ada.reported("joined") == ["ada", "bob"])
        await until(lambda: sorted(bob.reported("joined")) == ["ada", "bob"])
        bob.membership.leave(ROOM)
        await until(lambda: ada.reported("left") == ["bob"])
        assert ada.presences[-1] == {
            "room": ROOM,
            "joined": [],
            "left": [{"id": "bob", "name": "Bob"}],
        }
        assert bob.reported("left") == [], "a socket that has left gets no more"
        await a.sees("ada")


@pytest.mark.gen_test
async def test_many_concurrent_joins_are_announced_in_few_frames(redis_server: RealRedis) -> None:
    async with nodes(redis_server, "a", "b") as (_, (a, b)):
        ada = await a.come("ada")
        crowd = [await b.come(f"u{n}") for n in range(200)]
        await until(lambda: len(ada.reported("joined")) == 201)
        assert len(ada.presences) <= 20
        frames = sum(len(person.connection.frames) for person in (ada, *crowd))
        assert frames <= 20 * 201
        for person in crowd:
            person.membership.leave_all()
        await until(lambda: len(ada.reported("left")) == 200)
        assert len(ada.presences) <= 40
        assert len(set(ada.reported("left"))) == 200


@pytest.mark.gen_test
async def test_long_names_make_more_frames_and_none_above_64_kib(redis_server: RealRedis) -> None:
    """The read limit of many clients."""
    long = "鷺" * 100
    async with nodes(redis_server, "a") as (_, (a,)):
        ada = await a.come("ada")
        crowd = await asyncio.gather(*(a.come(f"u{n}", long) for n in range(450)))
        await until(lambda: len(ada.reported("joined")) == 451)
        for person in crowd:
            person.membership.leave_all()
        await until(lambda: len(ada.reported("left")) == 450)
        assert len(set(ada.reported("left"))) == 450
        assert max(map(len, ada.connection.frames)) <= 64 * 1024


def test_users_are_named_up_to_a_number_and_a_size() -> None:
    people = [Member(f"u{n}", "x" * 100) for n in range(10)]
    assert as_fit(people, 4)[0] == people[:4]
    size = len(msgspec.json.encode(people[0])) + 1
    assert as_fit(people, 10, 3 * size) == (people[:3], 0)
    assert as_fit(people, 10, 4 * size - 1) == (people[:3], 0)


@pytest.mark.gen_test
async def test_presence_is_sent_less_often_in_a_large_room(redis_server: RealRedis) -> None:
    async with nodes(redis_server, "a") as (_, (a,)):
        loop = asyncio.get_running_loop()
        first = await a.come("u0")
        for n in range(1, NOTICES_PER_SECOND // 5):
            await a.come(f"u{n}")
        await until(lambda: len(first.reported("joined")) == NOTICES_PER_SECOND // 5)
        seen, began = len(first.connection.frames), loop.time()
        await a.come("late")
        await until(lambda: len(first.connection.frames) > seen)
        assert loop.time() - began >= 0.15, "a thousand members: five times a second"
        assert first.reported("joined")[-1] == "late"


@pytest.mark.gen_test
async def test_a_user_who_joins_and_leaves_in_between_is_not_announced(
    redis_server: RealRedis,
) -> None:
    async with nodes(redis_server, "a") as (_, (a,)):
        ada = await a.come("ada")
        await until(lambda: ada.reported("joined") == ["ada"])
        bob = await a.come("bob")
        bob.membership.leave(ROOM)
        await a.come("cleo")
        await until(lambda: "cleo" in ada.reported("joined"))
        assert (ada.reported("joined"), ada.reported("left")) == (["ada", "cleo"], [])


@pytest.mark.gen_test
async def test_a_user_with_several_sockets_comes_once_and_leaves_with_the_last(
    redis_server: RealRedis,
) -> None:
    async with nodes(redis_server, "a", "b") as (_, (a, b)):
        ada = await a.come("ada")
        tabs = [await a.come("bob"), await a.come("bob"), await b.come("bob")]
        await a.sees("ada", "bob")
        bobs = [["bob", "a", "Bob"], ["bob", "a", "Bob"], ["bob", "b", "Bob"]]
        await until(lambda: written(redis_server) == [["ada", "a", "Ada"], *bobs])
        for tab in tabs[:2]:
            tab.membership.leave(ROOM)
        await until(lambda: len(written(redis_server)) == 2)
        await a.come("cleo")
        await until(lambda: "cleo" in ada.reported("joined"))
        assert ada.reported("left") == []
        assert ada.reported("joined").count("bob") == 1
        tabs[2].membership.leave(ROOM)
        await until(lambda: ada.reported("left") == ["bob"])
        await a.sees("ada", "cleo")


@pytest.mark.gen_test
async def test_a_user_on_two_nodes_is_listed_once(redis_server: RealRedis) -> None:
    async with nodes(redis_server, "a", "b", "c") as (_, (a, b, c)):
        await a.come("bob")
        await b.come("bob")
        await until(lambda: len(written(redis_server)) == 2)
        assert await a.presence.people(ROOM) == await c.presence.people(ROOM)
        assert await c.people() == ["bob"]


@pytest.mark.gen_test
async def test_a_member_with_a_new_name_leaves(redis_server: RealRedis) -> None:
    async with nodes(redis_server, "a", "b") as (_, (a, b)):
        old, new = await a.come("ada", "Ada"), await a.come("ada", "Ada Lovelace")
        await b.sees("ada")
        old.membership.leave(ROOM)
        new.membership.leave(ROOM)
        await until(lambda: not written(redis_server))
        assert await b.people() == []


@pytest.mark.gen_test
async def test_a_room_without_local_members_is_forgotten(redis_server: RealRedis) -> None:
    async with nodes(redis_server, "a", "b") as (_, (a, b)):
        ada = await a.come("ada")
        ada.membership.leave(ROOM)
        await b.come("bob")
        await b.sees("bob")
        before = len(a.store.groups)
        await a.presence.renew()
        assert len(a.store.groups) == before
        a.presence.on_leave(ROOM, ada.session_id)
        a.presence.on_leave("channel:never", ada.session_id)
        assert len(a.store.groups) == before
        assert ada.connection.frames == []


# ---- privacy -------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_names_lie_in_redis_and_no_address(
    database_url: str, redis_server: RealRedis
) -> None:
    async with node(database_url, redis_server) as parts:
        login = await parts.signed_in()
        await parts.channels.create(login.user.id, "Herons")
        parts.clock.forward(1)
        await open_socket(parts, login)
        await until(lambda: redis_server.ask("KEYS", "*:here"))
        everything = b""
        for key in redis_server.ask("KEYS", "*"):
            everything += key + b"\n" + bytes(redis_server.ask("DUMP", key))
        assert login.user.id.encode() in everything
        assert b"Ada" in everything
        for secret in (login.user.email, "example.org", login.access_token.reveal()):
            assert secret.lower().encode() not in everything.lower()
