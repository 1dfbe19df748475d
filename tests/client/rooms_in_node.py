"""Rooms of usher.js in Node: at a server that says what a test wants, or a real one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from tests.support.node import JsClient, Link, Node, Scripted, scripted_server
from tests.support.raw import RawClient
from tests.support.raw import event as raw_event
from tests.support.server import Client, Usher

ROOM = "channel:tea"


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with closing(Node()) as running:
        yield running


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    with scripted_server() as running:
        yield running


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
