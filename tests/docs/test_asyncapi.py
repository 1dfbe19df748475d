"""AsyncAPI compared with the events of the code, and with what real sockets send."""

from __future__ import annotations

import ast
import json
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # it has no types of its own
import pytest

from handlers.reference.asyncapi import PUBLISHED
from handlers.websocket.room_events import ROOM_EVENTS
from handlers.websocket.socket import EVENTS
from services.rooms.room_protocol import ROOM_SERVER_EVENTS, gap_event
from services.websocket.protocol import SERVER_EVENTS
from tests.docs.documents import ALL_SERVER_EVENTS, CLIENT_EVENTS, Json, fits
from tests.support.server import (
    ROOT,
    Usher,
    ask,
    bearer,
    connect,
    new_token,
    receive,
    sign_up,
    usher,
)
from tests.support.talk import Talker, talking

# ---- the document in itself ----------------------------------------------------------------


def test_what_the_socket_does_is_whole(asyncapi: Json) -> None:
    assert asyncapi["asyncapi"] == "3.0.0"
    messages = asyncapi["channels"]["socket"]["messages"]
    spoken = set()
    for does in asyncapi["operations"].values():
        assert does["action"] in ("receive", "send")
        listed = does["messages"] + does.get("reply", {}).get("messages", [])
        spoken |= {message["$ref"].rpartition("/")[2] for message in listed}
    assert spoken == set(messages)
    for message in asyncapi["components"]["messages"].values():
        jsonschema.Draft202012Validator.check_schema(message["payload"])


# ---- events against AsyncAPI ---------------------------------------------------------------


def operations(asyncapi: Json, action: str) -> set[str]:
    return {
        name.removeprefix("server.")
        for name, does in asyncapi["operations"].items()
        if does["action"] == action
    }


def test_events_and_asyncapi_are_the_same(asyncapi: Json) -> None:
    assert operations(asyncapi, "receive") == set(CLIENT_EVENTS)
    assert operations(asyncapi, "send") == {*ALL_SERVER_EVENTS, PUBLISHED}
    assert PUBLISHED not in ALL_SERVER_EVENTS
    summaries = [event.summary for event in CLIENT_EVENTS.values()]
    summaries += [event.summary for event in ALL_SERVER_EVENTS.values()]
    assert all(summary.endswith(".") for summary in summaries)


def sent_events() -> set[str]:
    """The names that the code gives to `encode_event`, read from its source."""
    names = set()
    for path in (*(ROOT / "handlers").rglob("*.py"), *(ROOT / "services").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("encode_event"):
                name = node.args[0].value if isinstance(node.args[0], ast.Constant) else None
                assert isinstance(name, str), f"{path}: a name made at run time"
                names.add(name)
    return names


def test_every_event_that_the_code_sends_is_described() -> None:
    # A message's text is put together around the bytes that lie in the room's log.
    assert sent_events() | {"reply", "message"} == set(ALL_SERVER_EVENTS)


async def conversation(server: Usher) -> tuple[list[Json], dict[str, list[Json]]]:
    """Events of the server, and replies by event, good and bad, until the token ends."""
    ada = sign_up(server)
    replies: dict[str, list[Json]] = {name: [] for name in EVENTS}
    async with connect(server) as socket:
        replies["user-join"].append(await ask(socket, "user-join", {"auth": {"token": ada.token}}))
        for data in ({"token": new_token(ada)}, {"token": "x"}, {"token": 1}):
            replies["token-refresh"].append(await ask(socket, "token-refresh", data))
        replies["heartbeat"].append(await ask(socket, "heartbeat"))
        replies["user-join"].append(await ask(socket, "user-join", {"auth": {"token": "x"}}))
        unknown = await ask(socket, "no-such-event")
    events = [unknown]
    async with connect(server, subprotocols=bearer(new_token(ada))) as socket:
        while not events or events[-1]["event"] != "closing":
            events.append(await receive(socket))
    return events, replies


@pytest.mark.gen_test
async def test_a_real_socket_conforms_to_the_document(asyncapi: Json) -> None:
    messages = asyncapi["components"]["messages"]
    with usher("sqlite", ACCESS_TOKEN_TTL_SECONDS=5) as server:
        events, replies = await conversation(server)
    assert {event["event"] for event in events} == set(SERVER_EVENTS)
    for event in events:
        fits(event, messages[f"server.{event['event']}"]["payload"], asyncapi)
    for name in ("user-join", "token-refresh"):
        assert {reply["ok"] for reply in replies[name]} == {True, False}
    for name, answers in replies.items():
        for reply in answers:
            fits(reply, messages[f"{name}.reply"]["payload"], asyncapi)
            fits(reply, messages["server.reply"]["payload"], asyncapi)


async def room_talk(owner: Talker, guest: Talker) -> dict[str, list[Json]]:
    """Every event of rooms, as it is taken and as it is refused. The replies by event."""
    channel = owner.client.post("/api/channels", {"name": "Herons"}).body["id"]
    room, seat = f"channel:{channel}", f"/api/channels/{channel}/members/{guest.id}"
    in_room, foreign = {"room": room}, {"room": f"user:{owner.id}"}
    asked: list[tuple[Talker, str, Any]] = [
        (guest, name, foreign)
        for name in ROOM_EVENTS
        if name not in ("join-channels", "usage", "watch-sessions")
    ]
    asked += [(guest, "usage", {"model": ""}), (guest, "history", 1)]
    assert owner.client.call("PUT", seat, {"right": "write"}).status == 200
    await guest.next("access-changed", lambda data: room in data["rooms"])
    # A user who joins and leaves between two notices is not announced.
    await owner.next("presence", lambda data: guest.member in data["joined"])
    asked += [(guest, name, in_room) for name in ("leave", "join", "presence", "typing")]
    asked += [(guest, "join-channels", None), (guest, "usage", {"model": "small"})]
    asked += [(guest, "watch-sessions", None)]
    asked += [
        (guest, "message", {**in_room, "data": {"n": 1}}),
        (guest, "message", {**in_room, "data": None}),
    ]
    asked += [(guest, "history", in_room), (guest, "history", {**in_room, "after": "gone"})]
    replies: dict[str, list[Json]] = {}
    for talker, name, data in asked:
        replies.setdefault(name, []).append(await talker.ask(name, data))
    published = {**in_room, "event": "build-done", "data": None}
    assert owner.client.post("/api/publish", published).status == 204
    assert owner.client.call("DELETE", seat).status == 204
    await owner.next("presence", lambda data: data["left"] == [guest.member])
    await owner.frame("build-done")
    await guest.next("access-changed", lambda data: room not in data["rooms"])
    return replies


@pytest.mark.gen_test
async def test_rooms_conform_to_the_document(database_kind: str, asyncapi: Json) -> None:
    messages = asyncapi["components"]["messages"]
    with usher(database_kind) as server:
        owner, guest = sign_up(server), sign_up(server)
        async with talking(server, owner) as first, talking(server, guest) as second:
            replies = await room_talk(first, second)
            async with talking(server, guest):
                await second.next("sessions-changed")
            events = first.events + second.events
    # The one that is missing takes another Redis: tests/flows/test_redis_replaced.py.
    reported = {"joined", "build-done", *ROOM_SERVER_EVENTS} - {"gap"}
    assert {event["event"] for event in events} == reported
    for event in (*events, json.loads(gap_event("channel:herons"))):
        name = event["event"] if event["event"] in ALL_SERVER_EVENTS else PUBLISHED
        fits(event, messages[f"server.{name}"]["payload"], asyncapi)
    assert set(replies) == set(ROOM_EVENTS)
    for name, answers in replies.items():
        good = {True} if name in ("join-channels", "watch-sessions") else {True, False}
        assert {reply["ok"] for reply in answers} == good, name
        for reply in answers:
            fits(reply, messages[f"{name}.reply"]["payload"], asyncapi)
    read = [reply["data"] for reply in replies["history"] if reply["ok"]]
    assert [len(data["messages"]) for data in read] == [2, 0]
    assert [data["complete"] for data in read] == [True, False]
