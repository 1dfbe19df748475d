"""static/usher.js in Node: messages of real servers are delivered in order and once."""

from __future__ import annotations

import pytest

from tests.client.rooms_in_node import listening, node, received, say
from tests.support.node import JsClient, Node
from tests.support.nodes import channel, let_in, nodes, put_out
from tests.support.raw import RawClient, by_subprotocol, joined
from tests.support.server import Client, Usher, sign_up, usher, wait_until

__all__ = ["node"]


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
