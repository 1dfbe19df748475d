"""Rights in rooms over a socket: what is refused, and what follows when a right changes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.nodes import channel, let_in, path_of, put_out
from tests.support.server import Client, Usher
from tests.support.talk import Talker, start_talking, talking
from tests.websocket.in_rooms import ann, bob, installation, nothing_more, reported, socket_kind

__all__ = ["ann", "bob", "installation", "socket_kind"]

IN_A_ROOM = ("join", "leave", "message", "typing", "presence", "history")


@pytest.mark.gen_test
@pytest.mark.parametrize("name", IN_A_ROOM)
async def test_an_unreadable_room_is_forbidden_like_an_invalid_one(
    installation: Usher, ann: Client, bob: Client, name: str
) -> None:
    others = channel(bob)
    async with talking(installation, ann) as a, talking(installation, bob) as b:
        answers: list[tuple[bool, Any]] = []
        names = (
            others, "channel:nobody-knows", "channel:", f"user:{b.id}", "user:", "nodes", "nodes:",
            others.removeprefix("channel:"), others.upper(), f" {others}", f"{others} ",
            f"{others}:log", f"{{{others}}}", "*", "channel:*", "user:*", f"user:{a.id}/", "a:b:c",
        )  # fmt: skip
        for room in names:
            reply = await a.ask(name, {"room": room, "data": "in?"})
            answers.append((reply["ok"], reply.get("error")))
        assert answers[0][0] is False
        assert answers[0][1]["code"] == "forbidden"
        assert all(answer == answers[0] for answer in answers), answers
        await b.settle()
        assert [frame["event"] for frame in b.events if frame["event"] != "presence"] == ["joined"]


@pytest.mark.gen_test
@pytest.mark.parametrize("name", IN_A_ROOM)
@pytest.mark.parametrize(
    "data", [None, {}, [], "room", {"room": None}, {"room": 1}, {"room": ""}, {"room": "x" * 200}]
)
async def test_wrong_data_is_a_bad_request(
    installation: Usher, ann: Client, name: str, data: Any
) -> None:
    async with talking(installation, ann) as a:
        assert await a.refused(name, data) == "bad_request"
        await a.settle()


@pytest.mark.gen_test
async def test_a_reader_receives_but_cannot_send(
    installation: Usher, ann: Client, bob: Client
) -> None:
    room = channel(ann, bob, right="read")
    async with talking(installation, ann) as a, talking(installation, bob) as b:
        assert await b.refused("message", {"room": room, "data": 1}) == "forbidden"
        assert await b.refused("typing", {"room": room}) == "forbidden"
        await a.say(room, 2)
        await b.hears(room, 2)
        assert (await b.ok("history", {"room": room}))["messages"][0]["data"] == 2
        assert len((await b.ok("presence", {"room": room}))["users"]) == 2


async def may(talker: Talker, room: str, *, read: bool, write: bool) -> None:
    """What a socket may do in a room, asked event by event."""
    expected = {"message": write, "typing": write, "history": read, "presence": read, "join": read}
    for name, allowed in expected.items():
        reply = await talker.ask(name, {"room": room, "data": name})
        assert reply["ok"] is allowed, (name, reply)


def patch(owner: Client, room: str, **changes: Any) -> None:
    answer = owner.call("PATCH", path_of(room), changes)
    assert answer.status == 200, answer


def delete(owner: Client, room: str) -> None:
    assert owner.call("DELETE", path_of(room)).status == 204


@pytest.mark.gen_test
async def test_every_change_of_a_members_right_is_announced_and_applies_at_once(
    installation: Usher, ann: Client, bob: Client
) -> None:
    room = channel(ann)
    async with talking(installation, bob) as b:
        await may(b, room, read=False, write=False)
        for right in ("read", "write", "manage", "read"):
            await asyncio.to_thread(let_in, ann, room, bob, right)
            await reported(b, room, inside=True)
            await may(b, room, read=True, write=right != "read")
        await asyncio.to_thread(put_out, ann, room, bob)
        await reported(b, room, inside=False)
        await may(b, room, read=False, write=False)


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("opened", "closed", "write"),
    [
        ({"private": False}, {"private": True}, True),
        ({"roles": {"user": "read"}}, {"roles": {}}, False),
        ({"roles": {"user": "manage"}}, {"roles": {"admin": "read"}}, True),
    ],
)
async def test_every_change_for_everybody_is_announced_and_applies_at_once(
    installation: Usher, ann: Client, bob: Client, opened: Any, closed: Any, write: bool
) -> None:
    room = channel(ann)
    async with talking(installation, bob) as b:
        await asyncio.to_thread(patch, ann, room, **opened)
        await reported(b, room, inside=True)
        await may(b, room, read=True, write=write)
        await asyncio.to_thread(patch, ann, room, **closed)
        await reported(b, room, inside=False)
        await may(b, room, read=False, write=False)


@pytest.mark.gen_test
async def test_a_channel_that_is_deleted_is_gone_for_its_owner_too(
    installation: Usher, ann: Client, bob: Client
) -> None:
    room = channel(ann, bob)
    async with talking(installation, ann) as a, talking(installation, bob) as b:
        await a.say(room, "last words")
        await asyncio.to_thread(delete, ann, room)
        for talker in (a, b):
            await reported(talker, room, inside=False)
            await may(talker, room, read=False, write=False)
            assert room not in (await talker.ok("join-channels"))["rooms"]


@pytest.mark.gen_test
async def test_a_change_of_name_causes_no_notification(
    installation: Usher, ann: Client, bob: Client
) -> None:
    room = channel(ann, bob)
    async with talking(installation, bob) as b:
        assert ann.call("PATCH", path_of(room), {"name": "coffee"}).status == 200
        let_in(ann, room, bob)  # the same right again
        await b.settle()
        assert [f["event"] for f in b.events if f["event"] == "access-changed"] == []


@pytest.mark.gen_test
async def test_a_new_channel_of_their_own_is_entered_by_open_sockets(
    installation: Usher, ann: Client, bob: Client
) -> None:
    async with talking(installation, ann) as a, talking(installation, bob) as b:
        room = await asyncio.to_thread(channel, ann)
        assert room in (await a.next("access-changed"))["rooms"]
        await a.say(room, 1)
        await a.hears(room, 1)
        public = await asyncio.to_thread(channel, ann, private=False)
        assert public in (await b.next("access-changed"))["rooms"]
        await b.say(public, 2)
        await a.hears(public, 2)


@pytest.mark.gen_test(timeout=60)
async def test_nothing_is_delivered_once_taking_the_right_away_was_acknowledged(
    installation: Usher, ann: Client, bob: Client
) -> None:
    room = channel(ann)
    async with (
        talking(installation, ann) as a,
        talking(installation, ann) as speaker,
        talking(installation, bob) as b,
    ):
        going = True

        async def chatter() -> None:
            count = 0
            while going:
                await speaker.say(room, count)
                count += 1

        task = asyncio.create_task(chatter())
        for _ in range(8):
            await asyncio.to_thread(let_in, ann, room, bob)
            seen = len(b.messages(room))
            await b.received(room, seen + 1)
            await asyncio.to_thread(put_out, ann, room, bob)
            await b.settle()  # what was on its way has arrived
            await nothing_more(b, room, a)
            assert await b.refused("message", {"room": room, "data": "still?"}) == "forbidden"
        going = False
        await task
        assert "still?" not in a.said(room)


@pytest.mark.gen_test(timeout=60)
async def test_a_join_concurrent_with_a_revocation_does_not_stay(
    installation: Usher, ann: Client, bob: Client
) -> None:
    room = channel(ann)
    async with talking(installation, ann) as a, talking(installation, bob) as b:
        for _ in range(40):  # one in seventy failed while a look-up followed the last check
            await asyncio.to_thread(let_in, ann, room, bob)
            asked = [b.asks(n, {"room": room}) for n in ("leave", "join", "join-channels") * 4]
            await asyncio.to_thread(put_out, ann, room, bob)
            await asyncio.gather(*asked)
            await nothing_more(b, room, a)
            assert await b.refused("history", {"room": room}) == "forbidden"


@pytest.mark.gen_test(timeout=60)
async def test_an_opening_concurrent_with_a_revocation_does_not_stay(
    installation: Usher, ann: Client, bob: Client
) -> None:
    room = channel(ann)
    async with talking(installation, ann) as a:
        for _ in range(6):
            await asyncio.to_thread(let_in, ann, room, bob)
            tickets = [await asyncio.to_thread(bob.ticket) for _ in range(3)]
            opening = [asyncio.create_task(_with_ticket(installation, bob, t)) for t in tickets]
            await asyncio.to_thread(put_out, ann, room, bob)
            for talker in await asyncio.gather(*opening):
                await nothing_more(talker, room, a)
                await talker.close()


async def _with_ticket(server: Usher, client: Client, ticket: str) -> Talker:
    one = Client(server, user=client.user)
    one.ticket = lambda: ticket  # type: ignore[method-assign]
    return await start_talking(server, one)


@pytest.mark.gen_test
async def test_the_token_of_a_stronger_user_gives_a_socket_no_right(
    installation: Usher, ann: Client, bob: Client
) -> None:
    room = channel(bob)
    async with talking(installation, ann) as a:
        for name in ("user-join", "token-refresh"):
            data = {"auth": {"token": bob.token}, "token": bob.token}
            assert await a.refused(name, data) == "identity_mismatch"
        assert await a.refused("message", {"room": room, "data": 1}) == "forbidden"
        assert await a.refused("join", {"room": f"user:{bob.user['id']}"}) == "forbidden"
