"""static/usher.js in Node: missed messages are delivered in order and once."""

from __future__ import annotations

import json
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
        assert received(client) == (room, 1)
    return client, link


def back(client: JsClient, link: Link, scripted: Scripted, *rooms: str) -> Link:
    """The line is cut and the client comes back."""
    link.drop()
    client.state("waiting")
    return let_join(scripted.accept(), *rooms)


def received(client: JsClient) -> tuple[str, Any]:
    """The next message that the page receives: its room and data."""
    reported = client.next("event", lambda frame: frame["event"] == "message")["detail"]["data"]
    return reported["room"], reported["data"]


def page(*numbers: int, room: str = ROOM, complete: bool = True, more: bool = False) -> Any:
    messages = [message(number, room) for number in numbers]
    return {"messages": messages, "complete": complete, "more": more}


def per_room(**pages: Any) -> Any:
    """The answer to a `history` of several rooms."""
    return {"rooms": [{"room": f"channel:{name}", **page} for name, page in pages.items()]}


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


# ---- which rooms -----------------------------------------------------------------------------


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


def test_a_backends_message_with_an_id_of_its_own_hides_none_that_is_said(
    database_kind: str, node: Node
) -> None:
    with usher(database_kind) as server:
        admin, ann, bob = sign_up(server), sign_up(server), sign_up(server)
        room = channel(ann, bob)
        js = listening(node, server, bob)
        with joined(server, by_subprotocol(ann.token)) as speaker:
            for number in range(3):
                data = {"id": "9999999999999-0", "room": room, "data": number}
                body = {"room": room, "event": "message", "data": data}
                assert admin.post("/api/publish", body).status == 204
            assert [received(js) for _ in range(3)] == [(room, number) for number in range(3)]
            say(speaker, room, 7)
            assert received(js) == (room, 7)
        js.result("close")


def test_a_room_that_the_page_left_stays_left_over_a_real_reconnect(
    database_kind: str, node: Node
) -> None:
    with usher(database_kind) as server:
        ann = sign_up(server)
        room, other = channel(ann), channel(ann)
        js = listening(node, server, ann)
        js.result("request", event="leave", data={"room": room})
        with joined(server, [], f"/ws?ticket={ann.ticket()}") as speaker:
            take_away(js, server, ann)
            js.result("connect")
            js.result("request", event="heartbeat")  # answered behind the `leave`
            say(speaker, room, 1)
            say(speaker, other, 2)
            assert received(js) == (other, 2)
            assert room not in js.result("session")["rooms"]
        js.result("close")


def take_away(js: JsClient, server: Usher, client: Client) -> None:
    """The socket is replaced by another with the same token, which then goes."""
    with joined(server, by_subprotocol(client.token)):
        assert js.state("closed")["code"] == 4409


def test_a_page_that_reconnects_receives_every_message_once_from_a_real_server(
    database_kind: str, node: Node
) -> None:
    with usher(database_kind, MESSAGE_RATE=1000) as server:
        sign_up(server)
        ann, bob = sign_up(server), sign_up(server)
        room = channel(ann, bob)
        js = listening(node, server, bob)
        with joined(server, by_subprotocol(ann.token)) as speaker:
            say(speaker, room, 1)
            assert received(js) == (room, 1)
            take_away(js, server, bob)
            say(speaker, room, *range(2, 160))
            js.call("connect")
            say(speaker, room, *range(160, 200))
            assert [received(js)[1] for _ in range(2, 200)] == list(range(2, 200))
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
    assert received(js)[1] == 1001


def test_a_real_log_that_no_longer_has_the_last_message_is_reported_as_a_gap(
    database_kind: str, node: Node
) -> None:
    with usher(database_kind, HISTORY_MESSAGES=10, MESSAGE_RATE=1000) as server:
        ann = sign_up(server)
        room = channel(ann)
        js = listening(node, server, ann)
        with joined(server, [], f"/ws?ticket={ann.ticket()}") as speaker:
            say(speaker, room, 1)
            assert received(js) == (room, 1)
            take_away(js, server, ann)
            say(speaker, room, *range(2, 300))
            js.call("connect")
            assert js.next("gap")["detail"] == {"room": room}
            numbers = [received(js)[1]]
            while numbers[-1] != 299:
                numbers.append(received(js)[1])
            assert numbers == list(range(numbers[0], 300))
        js.result("close")


@pytest.mark.slow
def test_a_page_whose_node_is_killed_continues_when_it_is_back(
    database_kind: str, node: Node
) -> None:
    with nodes(database_kind) as both:
        ann = sign_up(both[0])
        room = channel(ann)
        js = listening(node, both[1], ann)
        with joined(both[0], [], f"/ws?ticket={ann.ticket()}") as speaker:
            say(speaker, room, 1)
            assert received(js) == (room, 1)
            both[1].environment["USHER_PORT"] = str(both[1].port)
            both[1].process.kill()
            say(speaker, room, 2, 3)
            assert js.state("waiting")["retry"] == "backoff"
            both[1].restart()
            say(speaker, room, 4)
            assert [received(js) for _ in range(3)] == [(room, 2), (room, 3), (room, 4)]
        wait_until(lambda: both.listeners(room) == 1)
        js.result("close")
