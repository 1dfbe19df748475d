"""static/usher.js far from a real server: the number of round trips of a reconnect."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

import pytest

from tests.support.far_away import far_away
from tests.support.node import JsClient, Node
from tests.support.nodes import channel
from tests.support.raw import RawClient, by_subprotocol, joined
from tests.support.raw import event as raw_event
from tests.support.server import PATIENCE, Client, Usher, sign_up, usher

ROUND_TRIP = 0.12
BURST = 200
"""What one socket may say at once, by the default MESSAGE_RATE."""


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with closing(Node()) as running:
        yield running


class RoundTrips:
    """Counts round trips that follow on each other, by what a client sent and heard.

    A question is one further than the last answer that was there when it was asked, so those that
    do not wait for each other are of one round trip.
    """

    def __init__(self, client: JsClient) -> None:
        self.client = client
        self.done = 0
        self.questions = 0
        self.received: list[tuple[str, str]] = []
        """Messages as the page received them: room and data."""
        self._asked: dict[int, int] = {}

    def until(self, wanted: Callable[[], object], kind: str = "event", name: str = "") -> int:
        """Read on until something holds, or the client is in a state. Returns when, in ms."""
        while True:
            reported = self.client.messages.get(timeout=PATIENCE)
            detail = reported["detail"]
            if reported["kind"] == "frame":
                self._count(detail["frame"])
            if reported["kind"] == "event" and detail["event"] == "message":
                self.received.append((detail["data"]["room"], detail["data"]["data"]))
            assert reported["kind"] != "gap", reported
            if reported["kind"] == kind and (not name or detail["name"] == name) and wanted():
                return int(reported["at"])

    def _count(self, frame: Any) -> None:
        if frame["event"] == "history":
            self.questions += 1
            self._asked[frame["id"]] = self.done + 1
        elif frame["event"] == "reply":
            self.done = max(self.done, self._asked.get(frame["id"], 0))


def say(speaker: RawClient, rooms: Sequence[str], data: str) -> None:
    """One message in each room, all at once."""
    frames = [raw_event("message", n, {"room": r, "data": data}) for n, r in enumerate(rooms)]
    speaker.send(b"".join(frames))
    left = len(rooms)
    while left:
        frame = speaker.event()
        left -= frame["event"] == "reply"
        assert frame.get("ok", True), frame


def say_in_all(server: Usher, client: Client, rooms: Sequence[str], data: str) -> None:
    """Over as many sockets as the default MESSAGE_RATE asks for."""
    for start in range(0, len(rooms), BURST):
        with joined(server, [], f"/ws?ticket={client.ticket()}") as speaker:
            say(speaker, rooms[start : start + BURST], data)


@pytest.mark.parametrize("count", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_distant_client_catches_up_in_a_few_round_trips(
    database_kind: str,
    node: Node,
    count: int,
    record_property: Callable[[str, object], None],
) -> None:
    """No room waits for another: what is said now is shown within two round trips of the join."""
    with usher(database_kind) as server, far_away(server.port, ROUND_TRIP) as port:
        ann = sign_up(server)
        rooms = [channel(ann) for _ in range(count)]
        js = node.client(f"http://127.0.0.1:{port}", ann.token or "")
        assert len(js.result("connect")["rooms"]) == count + 1
        with joined(server, by_subprotocol(ann.token)):
            assert js.state("closed")["code"] == 4409
        say_in_all(server, ann, rooms, "missed")
        with joined(server, [], f"/ws?ticket={ann.ticket()}") as speaker:
            trips = RoundTrips(js)
            js.call("connect")
            begun = trips.until(lambda: True, "state", "joined")
            say(speaker, rooms[-1:], "live")
            shown = trips.until(lambda: (rooms[-1], "live") in trips.received) - begun
            assert trips.done <= 2, f"shown after {trips.done} round trips, {shown} ms"
            whole = trips.until(lambda: len(trips.received) == count + 1) - begun
        record_property("milliseconds", {"live": shown, "all": whole})
        assert trips.done <= 4
        assert trips.questions <= 20, "the rate of a socket is far from reached"
        assert sorted(trips.received) == sorted(
            [(room, "missed") for room in rooms] + [(rooms[-1], "live")]
        )
        js.result("close")
