"""The events of rooms on one node: shapes, order, typing, presence and usage."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.support.nodes import channel, put_out
from tests.support.raw import RawClient, by_subprotocol, frame, joined
from tests.support.raw import event as raw_event
from tests.support.server import Client, Usher, sign_up
from tests.support.talk import Talker, start_talking, talking
from tests.websocket.in_rooms import ann, bob, installation, nothing_more, socket_kind

__all__ = ["ann", "bob", "installation", "socket_kind"]

KIB = 1024


# ---- joining --------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_user_joins_their_own_room_and_every_readable_channel(
    installation: Usher, ann: Client, bob: Client
) -> None:
    own, read = channel(ann), channel(bob, ann, right="read")
    hidden = channel(bob)
    async with talking(installation, ann) as a:
        assert set(a.joined["rooms"]) >= {f"user:{a.id}", own, read}
        assert hidden not in a.joined["rooms"]
        assert set((await a.ok("join-channels"))["rooms"]) == set(a.joined["rooms"])


@pytest.mark.gen_test
async def test_user_join_puts_one_into_rooms_as_well(installation: Usher, ann: Client) -> None:
    room = channel(ann)
    with RawClient(installation) as client:
        client.upgrade()
        reply = client.ask("user-join", {"auth": {"token": ann.token}})
        assert {room, f"user:{ann.user['id']}"} <= set(reply["data"]["rooms"])


@pytest.mark.gen_test
async def test_after_leave_nothing_of_the_room_arrives_until_join(
    installation: Usher, ann: Client, bob: Client
) -> None:
    room = channel(ann, bob)
    async with talking(installation, ann) as a, talking(installation, bob) as b:
        assert await b.ok("leave", {"room": room}) == {"room": room}
        await nothing_more(b, room, a)
        await a.sees(room, a.id)
        assert await b.ok("join", {"room": room}) == {"room": room}
        await a.say(room, "again")
        await b.hears(room, "again")
        await a.sees(room, a.id, b.id)
        assert b.said(room) == ["again"]


@pytest.mark.gen_test
async def test_join_channels_enters_again_what_was_left(installation: Usher, ann: Client) -> None:
    room = channel(ann)
    async with talking(installation, ann) as a:
        await a.ok("leave", {"room": room})
        assert room in (await a.ok("join-channels"))["rooms"]
        await a.say(room, 1)
        await a.hears(room, 1)


@pytest.mark.gen_test
async def test_joining_twice_succeeds_and_nothing_is_delivered_twice(
    installation: Usher, ann: Client
) -> None:
    room = channel(ann)
    async with talking(installation, ann) as a:
        await asyncio.gather(*(a.ok("join", {"room": room}) for _ in range(5)))
        await a.say(room, "once")
        await a.hears(room, "once")
        await a.settle()
        assert a.said(room) == ["once"]
        await a.ok("leave", {"room": room})
        await a.sees(room)


# ---- messages -------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_message_reaches_every_member_and_its_sender(
    installation: Usher, ann: Client, bob: Client
) -> None:
    room, data = channel(ann, bob), {"text": "tea?", "n": [1, None, "é€😀"], "big": 2**53}
    async with (
        talking(installation, ann) as a,
        talking(installation, bob) as b,
        talking(installation, bob) as c,
    ):
        before = time.time()
        message_id = await a.say(room, data)
        expected = {"id": message_id, "room": room, "from": a.member, "data": data}
        for member in (a, b, c):
            message = await member.hears(room, data)
            sent_at = message.pop("sent_at")
            assert message == expected
            assert before - 1 < sent_at < time.time() + 1


@pytest.mark.gen_test
@pytest.mark.parametrize("data", [None, 0, False, "", [], {}, "\u2028", 1e-7, "x" * 60_000])
async def test_any_json_is_passed_on_as_it_is(installation: Usher, ann: Client, data: Any) -> None:
    async with talking(installation, ann) as a:
        own = f"user:{a.id}"
        await a.say(own, data)
        await a.hears(own, data)
        messages = (await a.ok("history", {"room": own}))["messages"]
        assert messages[-1]["data"] == data


@pytest.mark.gen_test
async def test_a_message_without_an_id_is_sent_and_not_answered(
    installation: Usher, ann: Client
) -> None:
    room = channel(ann)
    async with talking(installation, ann) as a:
        await a.send("message", {"room": room, "data": "quiet"})
        await a.hears(room, "quiet")


@pytest.mark.gen_test
async def test_the_sender_is_the_socket_and_not_a_claim_in_the_message(
    installation: Usher, ann: Client, bob: Client
) -> None:
    room = channel(ann, bob)
    forged = {"from": {"id": bob.user["id"], "name": "Bob"}, "id": "9-9", "sent_at": 0}
    async with talking(installation, ann) as a, talking(installation, bob) as b:
        token = {"token": bob.token, "auth": {"token": bob.token}}
        await a.ok("message", {"room": room, "data": "x", **forged, **token})
        message = await b.hears(room, "x")
        assert message["from"] == a.member
        assert message["id"] != "9-9"
        assert message["sent_at"] > 0


@pytest.mark.gen_test(timeout=60)
async def test_messages_of_twenty_concurrent_senders_are_received_in_one_order(
    installation: Usher, ann: Client
) -> None:
    room, each = channel(ann), 15
    async with AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(talking(installation, ann)) for _ in range(20)]

        async def speak(number: int, socket: Talker) -> list[str]:
            return [await socket.say(room, [number, count]) for count in range(each)]

        ids = await asyncio.gather(*(speak(n, s) for n, s in enumerate(sockets)))
        received = [await socket.received(room, 20 * each) for socket in sockets]
    first = received[0]
    assert all(messages == first for messages in received)
    orders = [tuple(map(int, message["id"].split("-"))) for message in first]
    assert orders == sorted(set(orders))
    assert {m["id"] for m in first} == {message_id for some in ids for message_id in some}
    for number in range(20):  # each speaker's own order stands
        assert [d["data"][1] for d in first if d["data"][0] == number] == list(range(each))


@pytest.mark.gen_test(timeout=60)
async def test_a_slow_consumer_is_closed_and_affects_no_other(
    installation: Usher, ann: Client, bob: Client
) -> None:
    room = channel(ann, bob)
    async with talking(installation, ann) as a, talking(installation, bob) as witness:
        with joined(installation, by_subprotocol(bob.token), receive_buffer=4096) as slow:
            sent = 0
            while (await asyncio.to_thread(installation_metric, installation, "4413")) == 0:
                await a.say(room, [sent, "x" * 60 * KIB])
                sent += 1
                assert sent < 400, "the outbox has no bound"
            assert len(await witness.received(room, sent)) == sent
            assert len(await a.received(room, sent)) == sent
            ending = await asyncio.to_thread(slow.ending)
            assert ending.code in (4413, 1006)  # a peer that reads nothing may be cut hard
        users = await a.sees(room, a.id, witness.id)
        assert len(users) == 2


def installation_metric(server: Usher, code: str) -> float:
    """How many sockets were closed with a code."""
    for line in Client(server).get("/metrics").text.decode().splitlines():
        if "closes_total" in line and f'code="{code}"' in line:
            return float(line.rpartition(" ")[2])
    return 0.0


def test_a_frame_of_more_than_64_kib_ends_its_socket_only(installation: Usher, ann: Client) -> None:
    room = channel(ann)
    head = len(json.dumps({"event": "message", "id": 1, "data": {"room": room, "data": ""}}))
    with joined(installation, [], f"/ws?ticket={ann.ticket()}") as other:
        with joined(installation, by_subprotocol(ann.token)) as client:
            largest = {"room": room, "data": "x" * (64 * KIB - head)}
            client.send(raw_event("message", 1, largest))
            names = {client.event()["event"] for _ in range(2)}
            assert names >= {"message"}
            largest["data"] += "x"
            client.send(raw_event("message", 1, largest))
            assert client.ending().code == 1009
        other.send(raw_event("heartbeat", "h"))
        while other.event().get("id") != "h":
            pass


def test_fragments_add_up_to_the_limit_too(installation: Usher, ann: Client) -> None:
    with joined(installation, by_subprotocol(ann.token)) as client:
        client.send(frame(b'{"event":"message","data":"' + b"x" * 60 * KIB, final=False))
        client.send(frame(b"x" * 10 * KIB, 0x0, final=False))
        assert client.ending().code == 1009


# ---- typing, presence -----------------------------------------------------------------------


@pytest.mark.gen_test
async def test_typing_is_sent_to_the_others_and_not_logged(
    installation: Usher, ann: Client, bob: Client
) -> None:
    room = channel(ann, bob)
    async with talking(installation, ann) as a, talking(installation, bob) as b:
        assert await a.ok("typing", {"room": room}) == {"room": room}
        assert await b.next("typing") == {"room": room, "from": a.member}
        await a.settle()
        assert not [f for f in a.events if f["event"] == "typing"]
        assert (await b.ok("history", {"room": room}))["messages"] == []


@pytest.mark.gen_test
async def test_a_user_is_announced_once_however_many_sockets_they_have(
    installation: Usher, ann: Client, bob: Client
) -> None:
    room = channel(ann, bob)
    async with talking(installation, ann) as a:
        await a.next("presence")  # one's own coming
        first, second = (
            await start_talking(installation, bob),
            await start_talking(installation, bob),
        )
        news = await a.next(
            "presence", lambda d: d["room"] == room and d["joined"] == [first.member]
        )
        assert news == {"room": room, "joined": [first.member], "left": []}
        users = await a.sees(room, a.id, first.id)
        assert sorted(users, key=str) == sorted([a.member, first.member], key=str)
        await first.close()
        await a.sees(room, a.id, second.id)
        await second.drop()
        news = await a.next("presence", lambda d: d["room"] == room and d["left"])
        assert news == {"room": room, "joined": [], "left": [first.member]}
        await a.sees(room, a.id)
        reported = [f["data"] for f in a.events if f["event"] == "presence"]
        assert sum(len(d["left"]) for d in reported if d["room"] == room) == 1


@pytest.mark.gen_test
async def test_whose_right_is_taken_away_is_present_no_more(
    installation: Usher, ann: Client, bob: Client
) -> None:
    room = channel(ann, bob)
    async with talking(installation, ann) as a, talking(installation, bob) as b:
        await a.next("presence", lambda d: d["room"] == room and b.member in d["joined"])
        await asyncio.to_thread(put_out, ann, room, bob)
        await a.sees(room, a.id)
        assert (await a.next("presence", lambda d: d["left"]))["left"] == [b.member]


@pytest.mark.gen_test
async def test_the_own_room_contains_the_user(installation: Usher, ann: Client) -> None:
    async with talking(installation, ann) as a, talking(installation, ann) as other:
        people = await a.ok("presence", {"room": f"user:{a.id}"})
        assert people["users"] == [a.member]
        await a.say(f"user:{a.id}", "note to self")
        await other.hears(f"user:{a.id}", "note to self")


# ---- usage ----------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_models_in_use_are_announced_and_expire_without_renewal(
    installation: Usher, ann: Client, bob: Client
) -> None:
    async with talking(installation, ann) as a, talking(installation, bob) as b:
        assert "gpt" in (await a.ok("usage", {"model": "gpt"}))["models"]
        last = time.monotonic()
        while True:
            models = (await b.ok("usage", {"model": "opus"}))["models"]
            assert "opus" in models  # it is repeated, so it stays
            if "gpt" not in models:
                break
            await asyncio.sleep(0.2)
        assert 2.5 < time.monotonic() - last < 8
        for wrong in ({}, {"model": ""}, {"model": "x" * 129}, {"model": 1}, None):
            assert await a.refused("usage", wrong) == "bad_request"
        assert "é" * 128 in (await a.ok("usage", {"model": "é" * 128}))["models"]


@pytest.mark.gen_test
async def test_a_user_may_use_a_hundred_models_at_one_time(
    installation: Usher, bob: Client
) -> None:
    ada = sign_up(installation)
    refused: list[Any] = []
    async with talking(installation, ada) as one, talking(installation, bob) as other:
        for _ in range(5):  # on a busy machine, the first ones may have expired by then
            said = (one.ask("usage", {"model": f"m{number}"}) for number in range(110))
            refused = [r["error"] for r in await asyncio.gather(*said) if not r["ok"]]
            if refused:
                break
        assert {error["code"] for error in refused} == {"rate_limited"}
        assert all(0 < error["retry_after"] <= 3 for error in refused)
        assert "opus" in (await other.ok("usage", {"model": "opus"}))["models"]
