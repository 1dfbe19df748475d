"""static/usher.js in Node: which rooms it is in, and what it knows of each when it comes back."""

from __future__ import annotations

from typing import Any

import pytest

from tests.client.rooms_in_node import (
    ROOM,
    back,
    let_join,
    message,
    node,
    opened,
    page,
    per_room,
    received,
    scripted,
)
from tests.support.node import JsClient, Node, Scripted

__all__ = ["node", "scripted"]


def rooms_of(client: JsClient) -> Any:
    return client.result("session")["rooms"]


def test_the_session_follows_the_rights(node: Node, scripted: Scripted) -> None:
    client, link = opened(node, scripted, ROOM)
    link.say("access-changed", {"rooms": [ROOM, "channel:new"]})
    assert client.state("joined")["session"]["rooms"] == [ROOM, "channel:new"]
    link.say("access-changed", {"rooms": ["channel:new"]})
    assert client.state("joined")["session"]["rooms"] == ["channel:new"]
    assert rooms_of(client) == ["channel:new"]
    client.result("close")


def test_the_session_has_the_rooms_that_the_page_joins_and_leaves(
    node: Node, scripted: Scripted
) -> None:
    client, link = opened(node, scripted, ROOM)
    call = client.call("request", event="leave", data={"room": ROOM})
    link.reply(link.next("leave"), {"room": ROOM})
    assert client.state("joined")["session"]["rooms"] == []
    assert client.outcome(call) == {"room": ROOM}
    client.call("send", event="join", data={"room": ROOM})
    link.reply(link.next("join"), {"room": ROOM})
    assert client.state("joined")["session"]["rooms"] == [ROOM]
    client.call("request", event="join-channels")
    link.reply(link.next("join-channels"), {"rooms": [ROOM, "channel:new"]})
    assert client.state("joined")["session"]["rooms"] == [ROOM, "channel:new"]
    client.result("close")


def test_a_room_that_the_page_left_stays_left(node: Node, scripted: Scripted) -> None:
    other = "channel:coffee"
    client, link = opened(node, scripted, ROOM, other)
    call = client.call("request", event="leave", data={"room": ROOM})
    link.reply(link.next("leave"), {"room": ROOM})
    client.outcome(call)
    link = back(client, link, scripted, ROOM, other)
    assert client.state("joined")["session"]["rooms"] == [other]
    left = link.next("leave")
    assert left["data"] == {"room": ROOM}
    link.say("message", message(2, ROOM))  # before the server has taken it out
    link.reply(left, {"room": ROOM})
    asked = link.next("history")
    assert [each["room"] for each in asked["data"]["rooms"]] == [other]
    link.reply(asked, per_room(coffee=page(2, room=other)))
    assert received(client) == (other, 2)
    link.say("access-changed", {"rooms": [ROOM, other]})
    link.reply(link.next("leave"), {"room": ROOM})
    assert rooms_of(client) == [other]
    client.call("request", event="join", data={"room": ROOM})
    link.reply(link.next("join"), {"room": ROOM})
    link.say("message", message(9, ROOM))
    assert received(client) == (ROOM, 9)
    client.result("close")


def test_a_room_that_is_new_is_not_asked_for(node: Node, scripted: Scripted) -> None:
    client, link = opened(node, scripted, ROOM)
    link = back(client, link, scripted, "channel:new")
    link.say("message", message(7, "channel:new"))
    assert received(client) == ("channel:new", 7)
    client.result("close")
    assert [frame["event"] for frame in list(link.frames.queue)] in ([], ["history"])


def test_a_log_that_no_longer_has_the_last_message_is_reported_as_a_gap(
    node: Node, scripted: Scripted
) -> None:
    client, link = opened(node, scripted, ROOM)
    link = back(client, link, scripted, ROOM)
    link.reply(link.next("history"), per_room(tea=page(8, 9, complete=False)))
    assert client.next("gap")["detail"] == {"room": ROOM}
    assert [received(client)[1] for _ in range(2)] == [8, 9]
    client.result("close")


def test_a_gap_from_the_server_is_reported_and_later_messages_are_delivered(
    node: Node, scripted: Scripted
) -> None:
    """The log began anew: its ids may begin further back."""
    client, link = opened(node, scripted, ROOM)
    link.say("gap", {"room": ROOM})
    assert client.next("gap")["detail"] == {"room": ROOM}
    link.say("message", {**message(5), "id": "1000-0"})
    assert received(client) == (ROOM, 5)
    client.result("close")


def test_a_reconnect_while_the_log_is_read_loses_nothing(node: Node, scripted: Scripted) -> None:
    client, link = opened(node, scripted, ROOM)
    link = back(client, link, scripted, ROOM)
    link.next("history")
    link = back(client, link, scripted, ROOM)
    asked = link.next("history")
    assert asked["data"]["rooms"] == [{"room": ROOM, "after": message(1)["id"]}]
    link.reply(asked, per_room(tea=page(2, 3)))
    assert [received(client)[1] for _ in range(2)] == [2, 3]
    client.result("close")


def test_a_live_message_before_a_cut_does_not_hide_what_was_missed_before_it(
    node: Node, scripted: Scripted
) -> None:
    client, link = opened(node, scripted, ROOM)
    link = back(client, link, scripted, ROOM)
    link.say("message", message(5))  # live; 2 to 4 are still to be read
    link.next("history")
    link = back(client, link, scripted, ROOM)
    asked = link.next("history")
    link.reply(asked, per_room(tea=page(2, 3, 4, 5)))
    assert asked["data"]["rooms"][0]["after"] == message(1)["id"], "2 to 4 would be lost"
    assert [received(client)[1] for _ in range(4)] == [2, 3, 4, 5]
    client.result("close")


def test_a_room_that_was_entered_later_is_caught_up_on_as_well(
    node: Node, scripted: Scripted
) -> None:
    client, link = opened(node, scripted, ROOM)
    link.say("access-changed", {"rooms": [ROOM, "channel:let-in"]})
    link.say("message", message(1, "channel:joined"))  # after a `join` of the page's own
    assert received(client) == ("channel:joined", 1)
    link = back(client, link, scripted, "channel:let-in", "channel:joined")
    asked = link.next("history")
    first = {"room": "channel:joined", "after": message(1)["id"]}
    assert sorted(asked["data"]["rooms"], key=len) == [{"room": "channel:let-in"}, first]
    pages = {"let-in": page(2, room="channel:let-in"), "joined": page(2, room="channel:joined")}
    link.reply(asked, per_room(**pages))
    assert sorted(received(client) for _ in pages) == [("channel:joined", 2), ("channel:let-in", 2)]
    client.result("close")


@pytest.mark.slow
def test_a_log_that_cannot_be_read_is_reported_as_a_gap(node: Node, scripted: Scripted) -> None:
    client, link = opened(node, scripted, ROOM)
    link = back(client, link, scripted, ROOM)
    link.say("message", message(5))
    link.refuse(link.next("history"), "unavailable")
    assert client.next("gap")["detail"] == {"room": ROOM}
    assert received(client) == (ROOM, 5)
    client.result("close")


def test_another_user_gets_no_state_of_the_previous_one(node: Node, scripted: Scripted) -> None:
    client, link = opened(node, scripted, ROOM)
    link.drop()
    client.state("waiting")
    link = let_join(scripted.accept(), ROOM, user="u9")
    link.say("message", message(3))
    assert received(client) == (ROOM, 3)
    client.result("close")
    assert link.frames.qsize() == 0
