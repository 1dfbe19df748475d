"""The encoded events of rooms: accepted ones, and those built piece by piece."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.rooms import room_protocol as rooms
from services.rooms.room_names import channel_room
from services.websocket.protocol import Author, Member

ADA = Member("u1", "Ada")
AUTHOR = Author("u1", "Ada")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)  # fmt: skip
TEXT = st.text(st.characters(codec="utf-8"))


def taken(kind: Any, text: str) -> Any:
    return msgspec.json.decode(text.encode(), type=kind)


# ---- what is built -------------------------------------------------------------------------


@given(room=TEXT, name=TEXT, data=JSON, sent_at=st.floats(0, 1e11))
def test_a_message_built_from_its_parts_is_the_message(
    room: str, name: str, data: Any, sent_at: float
) -> None:
    text = json.dumps(data).encode()
    body = rooms.message_body(room, Member("u1", name), rooms.raw(text), sent_at)
    event = json.loads(rooms.message_event("12-3", body))
    assert event["event"] == "message"
    message = event["data"]
    assert list(message) == ["id", "room", "from", "data", "sent_at"]
    assert (message["id"], message["room"], message["sent_at"]) == ("12-3", room, sent_at)
    assert message["from"] == {"id": "u1", "name": name}
    assert message["data"] == data
    assert json.loads(rooms.message_with_id("12-3", body)) == message


@pytest.mark.parametrize(
    "text",
    ["null", "1e400", "1.0", "123456789012345678901234567890", '{"a":1,"a":2}', '"\\ud83d\\ude00"',
     "[ 1 , 2 ]", '"\\/"'],
)  # fmt: skip
def test_data_is_passed_on_as_it_was_written(text: str) -> None:
    body = rooms.message_body("channel:c", ADA, rooms.raw(text.encode()), 1.0)
    assert f'"data":{text}'.encode() in rooms.message_event("1-0", body)
    assert rooms.published("e", "channel:c", rooms.raw(text.encode())).endswith(
        f'"data":{text}}}'.encode()
    )


@given(event=TEXT, room=TEXT, data=JSON)
def test_what_a_backend_pushes_is_as_given_with_the_room_beside(
    event: str, room: str, data: Any
) -> None:
    text = rooms.published(event, room, rooms.raw(json.dumps(data).encode()))
    assert json.loads(text) == {"event": event, "room": room, "data": data}


def test_a_message_fits_its_own_description() -> None:
    body = rooms.message_body("channel:c", ADA, rooms.raw(b'{"a":1}'), 2.5)
    message = msgspec.json.decode(rooms.message_with_id("1-0", body), type=rooms.Message)
    assert message == rooms.Message("1-0", "channel:c", AUTHOR, {"a": 1}, 2.5)


def test_the_sender_is_called_from() -> None:
    for event in (rooms.Typing("channel:c", ADA), rooms.Message("1-0", "c", AUTHOR, None, 0.0)):
        assert json.loads(msgspec.json.encode(event))["from"] == {"id": "u1", "name": "Ada"}


# ---- what is taken -------------------------------------------------------------------------


def test_a_message_may_say_null_but_not_nothing() -> None:
    with pytest.raises(msgspec.ValidationError):
        taken(rooms.Say, '{"room":"channel:c"}')
    assert bytes(taken(rooms.Say, '{"room":"channel:c","data":null}').data) == b"null"
    assert (
        bytes(taken(rooms.Say, '{"room":"channel:c","data":{"a":[1 ,2]}}').data) == b'{"a":[1 ,2]}'
    )


@pytest.mark.parametrize("text", ["{}", '{"room":""}', '{"room":1}', '{"room":null}', "[]", "1"])
def test_what_names_no_room_is_not_accepted(text: str) -> None:
    # `history` may have `rooms` instead: what has neither is refused by its event.
    asks = () if text == "{}" else (rooms.AskHistory,)
    for kind in (rooms.InRoom, rooms.Say, *asks):
        with pytest.raises(msgspec.ValidationError):
            taken(kind, text)


@pytest.mark.parametrize(
    ("kind", "field", "most"),
    [(rooms.InRoom, "room", 128), (rooms.UseModel, "model", 128), (rooms.AskHistory, "after", 64)],
)
def test_names_are_bounded_in_characters(kind: Any, field: str, most: int) -> None:
    rest = {"room": "channel:c"} if kind is rooms.AskHistory else {}
    for length, good in ((1, True), (most, True), (most + 1, False), (0, False)):
        text = json.dumps({**rest, field: "ü" * length})
        if good:
            assert getattr(taken(kind, text), field) == "ü" * length
        else:
            with pytest.raises(msgspec.ValidationError):
                taken(kind, text)


def test_history_may_be_asked_for_from_the_beginning() -> None:
    for text in ('{"room":"channel:c"}', '{"room":"channel:c","after":null}'):
        assert taken(rooms.AskHistory, text).after is None


def test_the_room_of_any_channel_has_a_name_that_is_accepted() -> None:
    room = channel_room("x" * 22)
    assert taken(rooms.InRoom, json.dumps({"room": room})).room == room
    assert len(room) < rooms.MAX_ROOM_NAME


def test_what_is_not_known_is_passed_over() -> None:
    assert taken(rooms.InRoom, '{"room":"channel:c","token":"x"}') == rooms.InRoom("channel:c")


# ---- what is described ---------------------------------------------------------------------


def test_the_events_of_rooms_are_those_of_the_contract() -> None:
    contract = {"message", "typing", "presence", "access-changed"}
    decided = {"gap", "sessions-changed"}  # in CHANGELOG.md
    assert set(rooms.ROOM_SERVER_EVENTS) == contract | decided
    for event in rooms.ROOM_SERVER_EVENTS.values():
        assert event.summary.endswith(".")


def test_of_many_models_as_many_are_told_as_fit_and_ones_own() -> None:
    models = ["b", "\x01" * 10, "a", "own"]
    assert rooms.models_that_fit(models, "own", 1000) == sorted(models)
    assert rooms.models_that_fit(models, "own", 6 + 4 + 4) == ["b", "own"]
    assert rooms.models_that_fit(models, "own", 6) == ["own"]
    assert rooms.models_that_fit([f"m{n}" for n in range(9999)], "own", 60)[-1] == "own"
