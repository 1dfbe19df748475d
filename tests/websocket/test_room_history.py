"""History over a socket: of one room, of several, and a sender's share of the log."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from tests.support.nodes import channel, let_in, put_out
from tests.support.server import Client, Usher, sign_up, usher
from tests.support.talk import talking
from tests.websocket.in_rooms import ann, bob, installation, socket_kind

__all__ = ["ann", "bob", "installation", "socket_kind"]

UNKNOWN_IDS = [
    *("0-0", "1-1", "nonsense", "-", "+", "(5-0", "$", "99999999999999-0", "1-2-3", "é", "٣-٣"),
    *("9" * 25 + "-0", "1-" + "9" * 20, "1" * 64, " 1-1", "1-1\r\n", "-1-1"),
]


@pytest.mark.gen_test
async def test_history_gives_back_exactly_what_was_missed(installation: Usher, ann: Client) -> None:
    room = channel(ann)
    async with talking(installation, ann) as a:
        assert await a.ok("history", {"room": room}) == {
            "messages": [], "complete": True, "more": False,
        }  # fmt: skip
        ids = [await a.say(room, number) for number in range(5)]
        live = await a.received(room, 5)
        whole = await a.ok("history", {"room": room})
        assert whole == {"messages": live, "complete": True, "more": False}
        for place, message_id in enumerate(ids):
            part = await a.ok("history", {"room": room, "after": message_id})
            assert part == {"messages": live[place + 1 :], "complete": True, "more": False}


@pytest.mark.gen_test
@pytest.mark.parametrize("after", UNKNOWN_IDS)
async def test_an_after_that_is_not_known_gives_what_there_is_as_incomplete(
    installation: Usher, ann: Client, after: str
) -> None:
    room = channel(ann)
    async with talking(installation, ann) as a:
        await a.say(room, "x")
        part = await a.ok("history", {"room": room, "after": after})
        assert part["complete"] is False
        assert await a.refused("history", {"room": room, "after": "x" * 65}) == "bad_request"


@pytest.mark.gen_test(timeout=60)
async def test_a_long_history_comes_in_parts_without_a_hole(
    installation: Usher, ann: Client
) -> None:
    room = channel(ann)
    async with talking(installation, ann) as a:
        await asyncio.gather(*(a.say(room, number) for number in range(250)))
        await asyncio.gather(*(a.say(room, "x" * 50_000) for _ in range(8)))
        live = await a.received(room, 258)
        read: list[Any] = []
        after: dict[str, str] = {}
        more = True
        while more:
            part = await a.ok("history", {"room": room, **after})
            assert part["complete"] is True
            read += part["messages"]
            more, after = part["more"], {"after": part["messages"][-1]["id"]}
        assert read == live


@pytest.mark.gen_test(timeout=60)
async def test_a_later_member_reads_only_messages_after_being_added(
    installation: Usher, ann: Client, bob: Client
) -> None:
    room = channel(ann)
    async with talking(installation, ann) as a, talking(installation, bob) as b:
        old = await asyncio.gather(*(a.say(room, f"secret {n}") for n in range(150)))
        await asyncio.to_thread(let_in, ann, room, bob)
        await a.say(room, "welcome")
        part = await b.ok("history", {"room": room})
        assert [message["data"] for message in part["messages"]] == ["welcome"]
        for after in (old[0], old[-1], "0-0"):
            part = await b.ok("history", {"room": room, "after": after})
            assert "secret" not in json.dumps(part)


@pytest.mark.gen_test
async def test_a_time_without_the_right_is_never_read(
    installation: Usher, ann: Client, bob: Client
) -> None:
    room = channel(ann, bob)
    async with talking(installation, ann) as a, talking(installation, bob) as b:
        known = await a.say(room, "before")
        await b.hears(room, "before")
        await asyncio.to_thread(put_out, ann, room, bob)
        await a.say(room, "between")
        assert await b.refused("history", {"room": room, "after": known}) == "forbidden"
        await asyncio.to_thread(let_in, ann, room, bob)
        await a.say(room, "after")
        for asked in ({}, {"after": known}):
            part = await b.ok("history", {"room": room, **asked})
            assert [m["data"] for m in part["messages"]] == ["after"]
        assert b.said(room)[:1] == ["before"]
        assert "between" not in b.said(room)


@pytest.mark.gen_test(timeout=60)
async def test_when_the_window_was_left_history_says_so(socket_kind: str) -> None:
    with usher(socket_kind, HISTORY_MESSAGES=10, MESSAGE_RATE=10_000) as server:
        ann = sign_up(server)
        room = channel(ann)
        async with talking(server, ann) as a:
            first = await a.say(room, 0)
            for _ in range(3):
                await asyncio.gather(*(a.say(room, "x") for _ in range(100)))
            part = await a.ok("history", {"room": room, "after": first})
            assert part["complete"] is False
            assert (await a.ok("history", {"room": room}))["complete"] is False
            known = await a.say(room, "y")
            await a.say(room, "z")
            part = await a.ok("history", {"room": room, "after": known})
            assert [m["data"] for m in part["messages"]] == ["z"]
            assert part["complete"] is True


@pytest.mark.gen_test(timeout=60)
async def test_what_is_too_old_is_gone_and_what_is_young_is_not(socket_kind: str) -> None:
    with usher(socket_kind, HISTORY_SECONDS=2) as server:
        ann = sign_up(server)
        room = channel(ann)
        async with talking(server, ann) as a:
            old = await asyncio.gather(*(a.say(room, f"old {n}") for n in range(120)))
            end = time.time() + 2.2  # their age is what is waited for
            while time.time() < end:
                await asyncio.sleep(0.4)
                await a.say(room, "alive")
            await a.say(room, "young")
            for asked in ({}, {"after": old[0]}):
                part = await a.ok("history", {"room": room, **asked})
                assert part["messages"], asked
                assert part["complete"] is False, (asked, part)
                assert part["messages"][-1]["data"] == "young"
                assert "old" not in json.dumps(part)


@pytest.mark.gen_test
async def test_two_rooms_do_not_mix(installation: Usher, ann: Client) -> None:
    tea, coffee = channel(ann), channel(ann)
    async with talking(installation, ann) as a:
        known = await a.say(tea, 1)
        await a.say(coffee, 2)
        await a.hears(coffee, 2)
        assert [m["data"] for m in (await a.ok("history", {"room": tea}))["messages"]] == [1]
        # Ids are of one room: in another the same one may be anybody's, or nobody's.
        part = await a.ok("history", {"room": coffee, "after": known})
        assert part["messages"] in ([], a.messages(coffee))


@pytest.mark.gen_test(timeout=60)
async def test_what_was_missed_in_many_rooms_comes_in_few_answers(
    installation: Usher, ann: Client, bob: Client
) -> None:
    channels = [channel(ann) for _ in range(40)]
    closed = channel(bob)
    async with talking(installation, ann) as a:
        said = {
            room: [await a.say(room, [number, "ü" * 100]) for number in range(3)]
            for room in channels
        }
        asked = [{"room": room, "after": said[room][0]} for room in channels]
        asked += [{"room": closed}, {"room": f"user:{ann.user['id']}"}, {"room": "channel:x"}]
        got: dict[str, Any] = {}
        answers = 0
        while asked:
            part = (await a.ok("history", {"rooms": asked}))["rooms"]
            answers += 1
            assert part, "at least one"
            assert [each["room"] for each in part] == [each["room"] for each in asked[: len(part)]]
            asked = asked[len(part) :]
            for each in part:
                before = got.get(each["room"], {}).get("messages", [])
                got[each["room"]] = each
                if "error" not in each:
                    each["messages"] = before + each["messages"]
                    if each["more"]:
                        last = each["messages"][-1]["id"]
                        asked.insert(0, {"room": each["room"], "after": last})
        assert answers <= 2
        for room in channels:
            assert [m["id"] for m in got[room]["messages"]] == said[room][1:]
            assert (got[room]["complete"], got[room]["more"]) == (True, False)
        for room in (closed, "channel:x"):
            assert got[room] == {"room": room, "error": got[room]["error"]}
            assert got[room]["error"]["code"] == "forbidden"
        assert got[f"user:{ann.user['id']}"]["messages"] == []


@pytest.mark.gen_test(timeout=60)
async def test_no_answer_of_history_is_above_64_kib_and_nothing_is_lost_by_that(
    installation: Usher, ann: Client
) -> None:
    channels = [channel(ann) for _ in range(3)]
    async with talking(installation, ann) as a:
        said = {room: [await a.say(room, "x" * 15_000) for _ in range(25)] for room in channels}
        for many in (True, False):
            got: dict[str, list[str]] = {room: [] for room in channels}
            todo: dict[str, str | None] = dict.fromkeys(channels)
            while todo:
                asked = [{"room": r, "after": after} for r, after in todo.items()]
                if many:
                    reply = await a.ask("history", {"rooms": asked})
                    parts = reply["data"]["rooms"]
                else:
                    reply = await a.ask("history", asked[0])
                    parts = [{"room": asked[0]["room"], **reply["data"]}]
                text = json.dumps(reply, separators=(",", ":"), ensure_ascii=False)
                assert len(text.encode()) <= 64 * 1024
                for part in parts:
                    got[part["room"]] += [m["id"] for m in part["messages"]]
                    if part["more"]:
                        todo[part["room"]] = got[part["room"]][-1]
                    else:
                        del todo[part["room"]]
            assert got == said


@pytest.mark.gen_test
async def test_history_takes_one_room_or_several_and_so_many(
    installation: Usher, ann: Client
) -> None:
    room = channel(ann)
    async with talking(installation, ann) as a:
        one = {"room": room}
        wrong: list[Any] = [
            {},
            {"rooms": []},
            {"rooms": [one], "room": room},
            {"rooms": [one] * 251},
        ]
        for data in wrong:
            assert await a.refused("history", data) == "bad_request"
        assert len((await a.ok("history", {"rooms": [one] * 250}))["rooms"]) == 250
        for number in range(30):
            await a.ok("message", {"room": room, "data": number})
        (alone,) = (await a.ok("history", {"rooms": [one]}))["rooms"]
        assert (len(alone["messages"]), alone["more"]) == (30, False), "of few rooms more of each"
        of_many = (await a.ok("history", {"rooms": [one] * 10}))["rooms"]
        assert {(len(each["messages"]), each["more"]) for each in of_many} == {(20, True)}


@pytest.mark.gen_test(timeout=60)
async def test_one_sender_cannot_empty_a_history_for_the_others(database_kind: str) -> None:
    with usher(database_kind, HISTORY_MESSAGES=100, MESSAGE_RATE=10_000) as server:
        ann, bob = sign_up(server), sign_up(server)
        room = channel(ann, bob)
        async with talking(server, ann) as a, talking(server, bob) as b:
            first = await a.say(room, "first")
            asked = [await a.say(room, f"question {number}") for number in range(30)]
            for _ in range(10):
                await asyncio.gather(*(b.say(room, "flood") for _ in range(100)))
            kept: list[Any] = []
            more, after = True, None
            while more:
                part = await a.ok("history", {"room": room} | ({"after": after} if after else {}))
                kept += part["messages"]
                more, after = part["more"], kept[-1]["id"]
            ids = [message["id"] for message in kept]
            assert set(asked) <= set(ids)
            assert first in ids
            assert ids == sorted(ids, key=lambda i: [int(part) for part in i.split("-")])
            assert len(kept) <= 350, "it is bounded all the same"
            # A reader who was up to date before the flood gets `complete: false`.
            part = await a.ok("history", {"room": room, "after": asked[-1]})
            assert part["complete"] is False
            known = await a.say(room, "after it")
            part = await a.ok("history", {"room": room, "after": known})
            assert (part["messages"], part["complete"]) == ([], True)
