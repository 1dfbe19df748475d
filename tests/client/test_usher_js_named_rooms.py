"""static/usher.js in Node: what a page has joined by name, it is in again after a reconnect."""

from __future__ import annotations

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
from tests.support.node import JsClient, Link, Message, Node, Scripted

__all__ = ["node", "scripted"]

OTHER, THIRD = "channel:pie", "channel:jam"


def join(client: JsClient, link: Link, room: str) -> None:
    """The page joins a room by name, and hears its message 1."""
    call = client.call("request", event="join", data={"room": room})
    link.reply(link.next("join"), {"room": room})
    client.outcome(call)
    link.say("message", message(1, room))
    assert received(client) == (room, 1)


def test_a_room_joined_by_name_is_joined_again_and_misses_nothing(
    node: Node, scripted: Scripted
) -> None:
    client, link = opened(node, scripted, ROOM)
    join(client, link, OTHER)
    for heard in (1, 4):  # after each reconnect
        link = back(client, link, scripted, ROOM)
        link.reply(link.next("history"), per_room(tea=page()))
        asked = link.next("join")
        assert asked["data"] == {"room": OTHER}
        link.say("access-changed", {"rooms": [ROOM]})  # while it is on its way in
        link.say("message", message(heard + 2, OTHER))
        link.reply(asked, {"room": OTHER})
        asked = link.next("history")
        assert asked["data"] == {"rooms": [{"room": OTHER, "after": message(heard, OTHER)["id"]}]}
        link.reply(asked, per_room(pie=page(heard + 1, heard + 2, room=OTHER)))
        link.say("message", message(heard + 3, OTHER))
        assert [received(client) for _ in range(3)] == [(OTHER, heard + n) for n in (1, 2, 3)]
    client.result("close")


def test_a_room_that_was_left_or_is_refused_is_not_joined_again(
    node: Node, scripted: Scripted
) -> None:
    client, link = opened(node, scripted, ROOM)
    for room in (OTHER, THIRD):
        join(client, link, room)
    call = client.call("request", event="leave", data={"room": OTHER})
    link.reply(link.next("leave"), {"room": OTHER})
    client.outcome(call)
    link = back(client, link, scripted, ROOM)
    link.reply(link.next("history"), per_room(tea=page()))
    asked = link.next("join")
    assert asked["data"] == {"room": THIRD}, "the other one was left"
    link.refuse(asked, "forbidden")
    link.say("message", message(2))
    assert received(client) == (ROOM, 2), "the connection goes on"
    link = back(client, link, scripted, ROOM, OTHER)
    left = link.next("leave")
    assert left["data"] == {"room": OTHER}
    link.reply(left, {"room": OTHER})
    link.reply(link.next("history"), per_room(tea=page()))
    link.say("message", message(3))
    assert received(client) == (ROOM, 3)
    assert link.frames.empty(), "none of the two is joined"
    client.result("close")


def test_a_line_that_is_cut_during_the_join_loses_no_room(node: Node, scripted: Scripted) -> None:
    client, link = opened(node, scripted, ROOM)
    join(client, link, OTHER)

    def come_back() -> tuple[Link, Message]:
        again = back(client, link, scripted, ROOM)
        again.reply(again.next("history"), per_room(tea=page()))
        return again, again.next("join")

    link, _ = come_back()
    link, asked = come_back()
    link.reply(asked, {"room": OTHER})
    assert link.next("history")
    client.result("close")
