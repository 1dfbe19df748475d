"""static/usher.js in Node: missed messages are delivered in order and once."""

from __future__ import annotations

import json
from typing import Any

from tests.client.rooms_in_node import (
    ROOM,
    back,
    message,
    node,
    opened,
    page,
    per_room,
    received,
    scripted,
)
from tests.support.node import Link, Node, Scripted

__all__ = ["node", "scripted"]

# ---- a server that says what a test wants ---------------------------------------------------


def test_what_was_missed_comes_before_what_is_new_and_once(node: Node, scripted: Scripted) -> None:
    client, link = opened(node, scripted, ROOM)
    link = back(client, link, scripted, ROOM)
    link.say("message", message(4))  # said live while the log is being read, and in the log too
    asked = link.next("history")
    assert asked["data"] == {"rooms": [{"room": ROOM, "after": message(1)["id"]}]}
    link.say("message", message(5))
    link.reply(asked, per_room(tea=page(2, 3, 4)))
    link.say("message", message(6))
    assert [received(client) for _ in range(5)] == [(ROOM, number) for number in range(2, 7)]
    client.result("close")


def test_what_is_read_before_it_comes_live_comes_once(node: Node, scripted: Scripted) -> None:
    client, link = opened(node, scripted, ROOM)
    link = back(client, link, scripted, ROOM)
    link.reply(link.next("history"), per_room(tea=page(2, 3, 4)))
    for number in (3, 4, 5):
        link.say("message", message(number))
    assert [received(client)[1] for _ in range(4)] == [2, 3, 4, 5]
    client.result("close")


def test_ids_are_compared_for_equality_only(node: Node, scripted: Scripted) -> None:
    """A log that has begun anew may give ids below those of before."""
    client, link = opened(node, scripted, ROOM)
    for message_id in ("5-0", "another-kind-of-id", "1-1"):
        link.say("message", {**message(2), "id": message_id, "data": message_id})
    assert [received(client)[1] for _ in range(3)] == ["5-0", "another-kind-of-id", "1-1"]
    link = back(client, link, scripted, ROOM)
    asked = link.next("history")
    assert asked["data"]["rooms"][0]["after"] == "1-1"
    link.reply(asked, per_room(tea=page()))
    client.result("close")


def test_a_long_absence_is_read_page_by_page(node: Node, scripted: Scripted) -> None:
    client, link = opened(node, scripted, ROOM)
    link = back(client, link, scripted, ROOM)
    link.reply(link.next("history"), per_room(tea=page(2, 3, more=True)))
    asked = link.next("history")
    assert asked["data"]["rooms"] == [{"room": ROOM, "after": message(3)["id"]}]
    link.reply(asked, per_room(tea=page(4)))
    assert [received(client)[1] for _ in range(3)] == [2, 3, 4]
    client.result("close")


def test_a_room_that_did_not_fit_is_asked_for_again_and_blocks_no_other(
    node: Node, scripted: Scripted
) -> None:
    client, link = opened(node, scripted, "channel:tea", "channel:cake", "channel:jam")
    link = back(client, link, scripted, "channel:tea", "channel:cake", "channel:jam")
    asked = link.next("history")
    link.say("message", message(3, "channel:jam"))
    link.reply(asked, per_room(tea=page(2, 3, room="channel:tea", more=True)))
    assert [received(client) for _ in range(2)] == [("channel:tea", 2), ("channel:tea", 3)]
    asked = {each["data"]["rooms"][0]["room"]: each for each in map(link.next, ["history"] * 3)}
    assert next(iter(asked)) == "channel:jam", "where somebody speaks now comes first"
    link.reply(asked["channel:jam"], per_room(jam=page(2, room="channel:jam")))
    assert [received(client) for _ in range(2)] == [("channel:jam", 2), ("channel:jam", 3)]
    after = message(3, "channel:tea")["id"]
    assert asked["channel:tea"]["data"]["rooms"] == [{"room": "channel:tea", "after": after}]
    link.reply(asked["channel:tea"], per_room(tea=page(room="channel:tea")))
    link.reply(asked["channel:cake"], per_room(cake=page(2, room="channel:cake")))
    assert received(client) == ("channel:cake", 2)
    client.result("close")


def test_a_thousand_rooms_are_asked_for_at_once_and_none_waits_for_another(
    node: Node, scripted: Scripted
) -> None:
    rooms = [f"channel:{number}" for number in range(1000)]
    client, link = opened(node, scripted, ROOM)
    link.say("access-changed", {"rooms": rooms})
    client.next("state", lambda state: len(state.get("session", {}).get("rooms", ())) == 1000)
    link = back(client, link, scripted, *rooms)
    asked = [link.next("history") for _ in range(4)]  # none of them is answered yet
    assert [len(each["data"]["rooms"]) for each in asked] == [250] * 4
    last = asked[-1]["data"]["rooms"][-1]["room"]
    link.say("message", message(7, last))
    pages = {each["room"].removeprefix("channel:"): page() for each in asked[-1]["data"]["rooms"]}
    link.reply(asked[-1], per_room(**pages))
    assert received(client) == (last, 7)
    client.result("close")


def test_what_did_not_fit_is_asked_for_at_once_in_as_many_questions_as_it_takes(
    node: Node, scripted: Scripted
) -> None:
    """But four at most: what a slow reader has not read yet is bounded by the server."""
    rooms = [f"channel:{number}" for number in range(20)]
    client, link = opened(node, scripted, ROOM)
    link.say("access-changed", {"rooms": rooms})
    client.next("state", lambda state: len(state.get("session", {}).get("rooms", ())) == 20)
    link = back(client, link, scripted, *rooms)
    first = link.next("history")
    assert len(first["data"]["rooms"]) == 20
    link.reply(first, per_room(**{str(number): page() for number in range(3)}))
    asked = [link.next("history") for _ in range(4)]
    assert [len(each["data"]["rooms"]) for each in asked] == [3] * 4
    link.reply(asked[0], per_room(**{str(number): page() for number in range(3, 6)}))
    names = [each["room"] for each in link.next("history")["data"]["rooms"]]
    assert names == rooms[15:20], "all of the last question fitted: the next may be larger"
    client.result("close")


def test_a_room_that_may_not_be_read_any_more_blocks_no_other(
    node: Node, scripted: Scripted
) -> None:
    other = "channel:coffee"
    client, link = opened(node, scripted, ROOM, other)
    link = back(client, link, scripted, ROOM, other)
    asked = link.next("history")
    link.say("message", message(2))
    may_not = {"room": ROOM, "error": {"code": "forbidden", "message": "Not allowed."}}
    link.reply(asked, {"rooms": [may_not, *per_room(coffee=page(2, room=other))["rooms"]]})
    assert [received(client) for _ in range(2)] == [(ROOM, 2), (other, 2)]
    client.result("close")


def test_a_server_that_takes_one_room_at_a_time_is_asked_so(node: Node, scripted: Scripted) -> None:
    other = "channel:coffee"
    client, link = opened(node, scripted, ROOM, other)
    link = back(client, link, scripted, ROOM, other)
    link.refuse(link.next("history"), "bad_request")
    for _ in range(2):
        asked = link.next("history")
        link.reply(asked, page(2, room=asked["data"]["room"]))
    assert {received(client) for _ in range(2)} == {(ROOM, 2), (other, 2)}
    client.result("close")


def test_reading_yields_when_the_rate_is_reached(node: Node, scripted: Scripted) -> None:
    client, link = opened(node, scripted, ROOM)
    link = back(client, link, scripted, ROOM)
    link.refuse(link.next("history"), "rate_limited")
    link.reply(link.next("history"), per_room(tea=page(2)))
    assert received(client) == (ROOM, 2)
    client.result("close")


def test_more_than_a_log_keeps_is_not_held_back(node: Node, scripted: Scripted) -> None:
    client, link = opened(node, scripted, ROOM)
    link = back(client, link, scripted, ROOM)
    link.next("history")
    for number in range(2, 1003):
        link.say("message", message(number))
    assert client.next("gap")["detail"] == {"room": ROOM}
    assert [received(client)[1] for _ in range(1001)] == list(range(2, 1003))
    client.result("close")


# ---- what backends publish -------------------------------------------------------------------


def published(link: Link, **data: Any) -> None:
    link.write(json.dumps({"event": "message", "room": ROOM, "data": data}))


def test_what_a_backend_publishes_is_not_in_the_log_whatever_it_looks_like(
    node: Node, scripted: Scripted
) -> None:
    client, link = opened(node, scripted, ROOM)
    for number in range(3):
        published(link, id="9999999999999-0", room=ROOM, data=number)
    assert [received(client)[1] for _ in range(3)] == [0, 1, 2]
    link.say("message", message(2))
    assert received(client) == (ROOM, 2), "it was not taken for older"
    link = back(client, link, scripted, ROOM)
    asked = link.next("history")
    assert asked["data"]["rooms"] == [{"room": ROOM, "after": message(2)["id"]}]
    published(link, id="1-1", room=ROOM, data="not held back")
    assert received(client)[1] == "not held back"
    link.reply(asked, per_room(tea=page()))
    client.result("close")
