"""static/usher.js in Node: what a page that was away hears afterwards, in order and once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from tests.support.node import JsClient, Link, Node, Scripted, scripted_server
from tests.support.nodes import channel, let_in, nodes, put_out
from tests.support.raw import RawClient, by_subprotocol, joined
from tests.support.raw import event as raw_event
from tests.support.server import Client, Usher, sign_up, usher, wait_until

ROOM = "channel:tea"


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with closing(Node()) as running:
        yield running


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    with scripted_server() as running:
        yield running


# ---- a server that says what a test wants ---------------------------------------------------


def let_join(link: Link, *rooms: str, user: str = "u1") -> Link:
    who = {"id": user, "name": "Ada", "role": "user"}
    data = {"session_id": "s", "user": who, "rooms": rooms, "expires_at": time.time() + 900}
    link.say("joined", data)
    return link


def message(number: int, room: str = ROOM) -> dict[str, Any]:
    """A message whose id is in the far future: nothing is older than the join."""
    someone = {"id": "u2", "name": "Bob"}
    sent_at = 4_000_000_000.0
    message_id = f"4000000000000-{number}"
    return {"id": message_id, "room": room, "from": someone, "data": number, "sent_at": sent_at}


def opened(node: Node, scripted: Scripted, *rooms: str) -> tuple[JsClient, Link]:
    """A client in rooms. It has heard message 1 of each."""
    client = node.client(scripted.url)
    client.call("connect")
    link = let_join(scripted.accept(), *rooms)
    client.state("joined")
    client.next("frame", lambda passed: passed["frame"]["event"] == "reply")  # knows the clock
    for room in rooms:
        link.say("message", message(1, room))
        assert heard(client) == (room, 1)
    return client, link


def back(client: JsClient, link: Link, scripted: Scripted, *rooms: str) -> Link:
    """The line is cut and the client comes back."""
    link.drop()
    client.state("waiting")
    return let_join(scripted.accept(), *rooms)


def heard(client: JsClient) -> tuple[str, Any]:
    """The next message that the page is told: its room and what it says."""
    told = client.next("event", lambda frame: frame["event"] == "message")["detail"]["data"]
    return told["room"], told["data"]


def page(*numbers: int, room: str = ROOM, complete: bool = True, more: bool = False) -> Any:
    messages = [message(number, room) for number in numbers]
    return {"messages": messages, "complete": complete, "more": more}


def test_what_was_missed_comes_before_what_is_new_and_once(node: Node, scripted: Scripted) -> None:
    client, link = opened(node, scripted, ROOM)
    link = back(client, link, scripted, ROOM)
    link.say("message", message(4))  # said live while the log is being read, and in the log too
    asked = link.next("history")
    assert asked["data"] == {"room": ROOM, "after": message(1)["id"]}
    link.say("message", message(5))
    link.reply(asked, page(2, 3, 4))
    link.say("message", message(6))
    assert [heard(client) for _ in range(5)] == [(ROOM, number) for number in range(2, 7)]
    client.result("close")


def test_a_long_absence_is_read_page_by_page(node: Node, scripted: Scripted) -> None:
    client, link = opened(node, scripted, ROOM)
    link = back(client, link, scripted, ROOM)
    link.reply(link.next("history"), page(2, 3, more=True))
    asked = link.next("history")
    assert asked["data"]["after"] == message(3)["id"]
    link.reply(asked, page(4))
    assert [heard(client)[1] for _ in range(3)] == [2, 3, 4]
    client.result("close")


def test_every_room_is_read_for_itself_and_none_holds_up_another(
    node: Node, scripted: Scripted
) -> None:
    other = "channel:coffee"
    client, link = opened(node, scripted, ROOM, other)
    link = back(client, link, scripted, ROOM, other)
    asked = link.next("history")
    first, second = (ROOM, other) if asked["data"]["room"] == ROOM else (other, ROOM)
    link.refuse(asked, "forbidden")
    asked = link.next("history")
    assert asked["data"]["room"] == second
    link.say("message", message(2, first))
    assert heard(client) == (first, 2)
    link.reply(asked, page(2, room=second))
    assert heard(client) == (second, 2)
    client.result("close")


def test_a_room_that_is_new_is_not_asked_for(node: Node, scripted: Scripted) -> None:
    client, link = opened(node, scripted, ROOM)
    link = back(client, link, scripted, "channel:new")
    link.say("message", message(7, "channel:new"))
    assert heard(client) == ("channel:new", 7)
    client.result("close")
    assert [frame["event"] for frame in list(link.frames.queue)] in ([], ["history"])


def test_a_window_that_was_left_is_told_as_a_gap(node: Node, scripted: Scripted) -> None:
    client, link = opened(node, scripted, ROOM)
    link = back(client, link, scripted, ROOM)
    link.reply(link.next("history"), page(8, 9, complete=False))
    assert client.next("gap")["detail"] == {"room": ROOM}
    assert [heard(client)[1] for _ in range(2)] == [8, 9]
    client.result("close")


def test_a_reconnect_while_the_log_is_read_loses_nothing(node: Node, scripted: Scripted) -> None:
    client, link = opened(node, scripted, ROOM)
    link = back(client, link, scripted, ROOM)
    link.next("history")
    link = back(client, link, scripted, ROOM)
    asked = link.next("history")
    assert asked["data"]["after"] == message(1)["id"]
    link.reply(asked, page(2, 3))
    assert [heard(client)[1] for _ in range(2)] == [2, 3]
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
    link.reply(asked, page(2, 3, 4, 5))
    assert asked["data"]["after"] == message(1)["id"], "2 to 4 would be lost"
    assert [heard(client)[1] for _ in range(4)] == [2, 3, 4, 5]
    client.result("close")


def test_a_room_that_was_entered_later_is_caught_up_on_as_well(
    node: Node, scripted: Scripted
) -> None:
    client, link = opened(node, scripted, ROOM)
    link.say("access-changed", {"rooms": [ROOM, "channel:let-in"]})
    link.say("message", message(1, "channel:joined"))  # after a `join` of the page's own
    assert heard(client) == ("channel:joined", 1)
    link = back(client, link, scripted, "channel:let-in", "channel:joined")
    known = {"channel:let-in": {}, "channel:joined": {"after": message(1)["id"]}}
    for _ in known:
        asked = link.next("history")
        room = asked["data"]["room"]
        assert asked["data"] == {"room": room, **known[room]}
        link.reply(asked, page(2, room=room))
    assert sorted(heard(client) for _ in known) == [(room, 2) for room in sorted(known)]
    client.result("close")


def test_a_log_that_cannot_be_read_now_is_told_as_a_gap(node: Node, scripted: Scripted) -> None:
    client, link = opened(node, scripted, ROOM)
    link = back(client, link, scripted, ROOM)
    link.say("message", message(5))
    link.refuse(link.next("history"), "unavailable")
    assert client.next("gap")["detail"] == {"room": ROOM}
    assert heard(client) == (ROOM, 5)
    client.result("close")


def test_another_user_is_told_nothing_of_the_one_before(node: Node, scripted: Scripted) -> None:
    client, link = opened(node, scripted, ROOM)
    link.drop()
    client.state("waiting")
    link = let_join(scripted.accept(), ROOM, user="u9")
    link.say("message", message(3))
    assert heard(client) == (ROOM, 3)
    client.result("close")
    assert link.frames.qsize() == 0


# ---- real servers ---------------------------------------------------------------------------


def listening(node: Node, server: Usher, client: Client) -> JsClient:
    assert client.token is not None
    js = node.client(server.url, client.token, backoffMs=20, maxBackoffMs=200)
    js.result("connect")
    return js


def say(speaker: RawClient, room: str, *numbers: int) -> None:
    for number in numbers:
        speaker.send(raw_event("message", number, {"room": room, "data": number}))
        while speaker.event().get("id") != number:
            pass


def take_away(js: JsClient, server: Usher, client: Client) -> None:
    """The socket is replaced by another with the same token, which then goes."""
    with joined(server, by_subprotocol(client.token)):
        assert js.state("closed")["code"] == 4409


def test_a_page_that_was_away_hears_everything_once_from_a_real_server(
    database_kind: str, node: Node
) -> None:
    with usher(database_kind) as server:
        sign_up(server)
        ann, bob = sign_up(server), sign_up(server)
        room = channel(ann, bob)
        js = listening(node, server, bob)
        with joined(server, by_subprotocol(ann.token)) as speaker:
            say(speaker, room, 1)
            assert heard(js) == (room, 1)
            take_away(js, server, bob)
            say(speaker, room, *range(2, 160))
            js.call("connect")
            say(speaker, room, *range(160, 200))
            assert [heard(js)[1] for _ in range(2, 200)] == list(range(2, 200))
            _nothing_from_without_the_right(js, server, speaker, room, ann, bob)
        js.result("close")


def _nothing_from_without_the_right(
    js: JsClient, server: Usher, speaker: RawClient, room: str, ann: Client, bob: Client
) -> None:
    take_away(js, server, bob)
    put_out(ann, room, bob)
    say(speaker, room, 1000)
    let_in(ann, room, bob)
    say(speaker, room, 1001)
    js.result("connect")
    assert heard(js)[1] == 1001


def test_a_real_window_that_was_left_is_told_as_a_gap(database_kind: str, node: Node) -> None:
    with usher(database_kind, HISTORY_MESSAGES=10) as server:
        ann = sign_up(server)
        room = channel(ann)
        js = listening(node, server, ann)
        with joined(server, [], f"/ws?ticket={ann.ticket()}") as speaker:
            say(speaker, room, 1)
            assert heard(js) == (room, 1)
            take_away(js, server, ann)
            say(speaker, room, *range(2, 300))
            js.call("connect")
            assert js.next("gap")["detail"] == {"room": room}
            numbers = [heard(js)[1]]
            while numbers[-1] != 299:
                numbers.append(heard(js)[1])
            assert numbers == list(range(numbers[0], 300))
        js.result("close")


def test_a_page_whose_node_is_killed_goes_on_when_it_is_back(
    database_kind: str, node: Node
) -> None:
    with nodes(database_kind) as both:
        ann = sign_up(both[0])
        room = channel(ann)
        js = listening(node, both[1], ann)
        with joined(both[0], [], f"/ws?ticket={ann.ticket()}") as speaker:
            say(speaker, room, 1)
            assert heard(js) == (room, 1)
            both[1].environment["USHER_PORT"] = str(both[1].port)
            both[1].process.kill()
            say(speaker, room, 2, 3)
            assert js.state("waiting")["retry"] == "backoff"
            both[1].restart()
            say(speaker, room, 4)
            assert [heard(js) for _ in range(3)] == [(room, 2), (room, 3), (room, 4)]
        wait_until(lambda: both.listeners(room) == 1)
        js.result("close")
