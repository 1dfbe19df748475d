"""What backends publish into rooms: who gets it, what is kept, and what is sent twice."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from handlers.http.backends import OWN_EVENTS
from tests.http.installation import Installation, environment, publish
from tests.support.checks import plain_refusal, problem
from tests.support.nodes import channel
from tests.support.server import Client
from tests.support.talk import talking

__all__ = ["environment"]

CONTRACTS_OWN = [
    *("user-join", "token-refresh", "heartbeat", "join-channels", "join", "leave", "typing"),
    *("presence", "usage", "history", "token-expiring", "access-changed", "closing", "reply"),
    "joined",
]
JSON = {"Content-Type": "application/json"}


# ---- pushing -------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_members_get_what_is_pushed_as_given_with_the_room_beside(
    environment: Installation,
) -> None:
    ada, bob, other_user = environment.user(), environment.user(), environment.user()
    room = channel(ada, bob, right="read")
    data = {"a": [1, 2.5, None, "ü"], "nested": {"b": True}}
    async with (
        talking(environment.server, ada) as a,
        talking(environment.server, bob) as b,
        talking(environment.server, other_user) as s,
    ):
        for number, caller in enumerate((environment.admin, environment.key("publish"))):
            assert publish(caller, room, f"alarm.{number}", data).status == 204
            for talker in (a, b):
                frame = await talker.frame(f"alarm.{number}")
                assert frame == {"event": f"alarm.{number}", "room": room, "data": data}
        await s.settle()
        assert [frame for frame in s.events if frame["event"].startswith("alarm")] == []
        history = await a.ok("history", {"room": room})
        assert history["messages"] == [], "it is not kept"


@pytest.mark.gen_test
async def test_all_sockets_of_a_user_get_what_is_pushed_to_their_room(
    environment: Installation,
) -> None:
    ada, bob = environment.user(), environment.user()
    room = f"user:{ada.user['id']}"
    async with (
        talking(environment.server, ada) as one,
        talking(environment.server, ada) as other,
        talking(environment.server, bob) as b,
    ):
        assert publish(environment.key("publish"), room, "message", {"text": "hello"}).status == 204
        for talker in (one, other):
            assert await talker.frame("message") == {
                "event": "message",
                "room": room,
                "data": {"text": "hello"},
            }
        await b.settle()
        assert [frame for frame in b.events if frame["event"] == "message"] == []


@pytest.mark.gen_test
async def test_data_that_is_left_out_is_null_and_any_other_is_passed_on(
    environment: Installation,
) -> None:
    ada, key = environment.user(), environment.key("publish")
    room = f"user:{ada.user['id']}"
    async with talking(environment.server, ada) as talker:
        assert key.post("/api/publish", {"room": room, "event": "e"}).status == 204
        assert (await talker.frame("e"))["data"] is None
        others: list[Any] = [0, "", False, [], {}, "x" * 20_000, 10**30]
        for data in others:
            assert publish(key, room, "e", data).status == 204
            assert (await talker.frame("e"))["data"] == data


@pytest.mark.gen_test(timeout=60)
async def test_what_is_not_utf8_reaches_no_member(environment: Installation) -> None:
    """Before: 204, and the browsers of every member closed with 1007."""
    ada, key = environment.user(), environment.key("publish")
    room = channel(ada)
    async with talking(environment.server, ada) as talker:
        body = b'{"room":"%b","event":"e","data":"\xff"}' % room.encode()
        problem(key.call("POST", "/api/publish", body, JSON), 400, "bad_request")
        assert publish(key, room, "good").status == 204
        await talker.next("good")


@pytest.mark.parametrize("event", CONTRACTS_OWN)
def test_the_contracts_own_events_are_not_a_backends_to_say(
    environment: Installation, event: str
) -> None:
    for caller in (environment.admin, environment.key("publish")):
        problem(publish(caller, "user:nobody", event), 400, "bad_request")


def test_the_contracts_own_events_are_all_known_and_message_is_free() -> None:
    assert set(CONTRACTS_OWN) <= OWN_EVENTS
    assert "message" not in OWN_EVENTS


@pytest.mark.parametrize(
    "event", ["", " ", "a b", "-a", "a" * 65, "a\n", "ü", 'a"b', "closing\u0000", 1, None, ["a"]]
)
def test_the_name_of_an_event_is_plain(environment: Installation, event: Any) -> None:
    body = {"room": "user:nobody", "event": event}
    problem(environment.admin.post("/api/publish", body), 400, "bad_request")


@pytest.mark.parametrize(
    "room", ["", "nodes", "herons", "User:x", ":x", "user", "channel", "x" * 129, 1, None]
)
def test_nothing_is_pushed_into_what_is_no_room_of_clients(
    environment: Installation, room: Any
) -> None:
    body = {"room": room, "event": "alarm"}
    problem(environment.admin.post("/api/publish", body), 400, "bad_request")


def test_only_api_keys_may_publish(environment: Installation) -> None:
    body = {"room": "user:nobody", "event": "alarm"}
    plain_refusal(Client(environment.server).post("/api/publish", body), 401, "unauthenticated")
    user = environment.user()
    plain_refusal(user.post("/api/publish", body), 403, "forbidden")
    own = {"room": f"user:{user.user['id']}", "event": "alarm"}
    plain_refusal(user.post("/api/publish", own), 403, "forbidden")
    problem(environment.admin.post("/api/publish", b"{"), 400, "bad_request")
    problem(environment.admin.post("/api/publish", b" " * 200_000), 413, "too_large")


@pytest.mark.gen_test
async def test_a_pushed_event_cannot_break_out_of_its_frame(environment: Installation) -> None:
    ada = environment.user()
    room = f"user:{ada.user['id']}"
    raw = b'{"room":"%b","event":"e","data":"}{\\"event\\":\\"closing\\""}' % room.encode()
    async with talking(environment.server, ada) as talker:
        assert environment.admin.post("/api/publish", raw).status == 204
        assert (await talker.frame("e"))["data"] == '}{"event":"closing"'
        await talker.settle()
        assert talker.is_open


@pytest.mark.parametrize("room", ["user:nobody", "user:", "channel:none", "channel:", "user: x"])
def test_a_room_that_does_not_exist_is_404(environment: Installation, room: str) -> None:
    for keep in (False, True):
        body = {"room": room, "event": "alarm", "keep": keep}
        plain_refusal(environment.admin.post("/api/publish", body), 404, "not_found")


@pytest.mark.gen_test
async def test_several_rooms_at_once_and_of_one_unknown_nothing_is_sent(
    environment: Installation,
) -> None:
    ada, bob, key = environment.user(), environment.user(), environment.key("publish")
    tea = channel(ada, bob)
    rooms = [f"user:{ada.user['id']}", tea]
    async with talking(environment.server, ada) as a, talking(environment.server, bob) as b:
        unknown = {"rooms": [*rooms, "channel:none"], "event": "lost", "data": 1}
        plain_refusal(key.post("/api/publish", unknown), 404, "not_found")
        body = {"rooms": [*rooms, tea], "event": "alarm", "data": 1}
        assert key.post("/api/publish", body).status == 204
        got = [await a.frame("alarm"), await a.frame("alarm")]
        assert sorted(frame["room"] for frame in got) == sorted(rooms)
        assert (await b.frame("alarm"))["room"] == tea
        for talker in (a, b):
            await talker.settle()
            names = [frame["event"] for frame in talker.events]
            assert "lost" not in names
            assert names.count("alarm") == (2 if talker is a else 1), "a room named twice is one"


@pytest.mark.parametrize(
    ("body", "member"),
    [
        ({}, "room"),
        ({"room": "user:x", "rooms": ["user:x"]}, "room"),
        ({"rooms": []}, "rooms"),
        ({"rooms": "user:x"}, "rooms"),
        ({"rooms": ["user:x", "nodes"]}, "rooms"),
        ({"rooms": ["user:x", 1]}, "rooms"),
        ({"rooms": [f"user:{number}" for number in range(101)]}, "rooms"),
        ({"room": None}, "room"),
        ({"room": "nodes"}, "room"),
        ({"room": "user:x", "keep": "yes"}, "keep"),
    ],
)
def test_the_refusal_of_an_invalid_publication_names_the_member(
    environment: Installation, body: dict[str, Any], member: str
) -> None:
    answer = environment.admin.post("/api/publish", {"event": "alarm", **body})
    assert member in problem(answer, 400, "bad_request")["detail"]


# ---- kept ----------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_what_is_kept_is_in_history_in_one_order_with_messages(
    environment: Installation,
) -> None:
    ada, key = environment.user(), environment.key("publish")
    room = channel(ada)
    data = {"a": [1, "ü", None]}
    async with talking(environment.server, ada) as talker:
        first = await talker.ok("message", {"room": room, "data": "before"})
        body = {"room": room, "event": "build-done", "data": data, "keep": True}
        assert key.post("/api/publish", body).status == 204
        live = await talker.frame("build-done")
        assert set(live) == {"event", "id", "room", "data", "sent_at"}
        passing = {**body, "event": "passing", "keep": False}
        assert key.post("/api/publish", passing).status == 204
        last = await talker.ok("message", {"room": room, "data": "after"})
        messages = (await talker.ok("history", {"room": room}))["messages"]
        assert [one["id"] for one in messages] == [first["id"], live["id"], last["id"]]
        assert messages[1] == {
            "id": live["id"],
            "room": room,
            "event": "build-done",
            "data": data,
            "sent_at": live["sent_at"],
        }
        assert abs(live["sent_at"] - time.time()) < 60
        assert set(messages[0]) == {"id", "room", "from", "data", "sent_at"}
        behind = (await talker.ok("history", {"room": room, "after": first["id"]}))["messages"]
        assert behind == messages[1:]


@pytest.mark.gen_test
async def test_a_returning_user_gets_the_kept_events(environment: Installation) -> None:
    ada, key = environment.user(), environment.key("publish")
    room = f"user:{ada.user['id']}"
    for number in range(3):
        body = {"room": room, "event": f"e.{number}", "data": number, "keep": True}
        assert key.post("/api/publish", body).status == 204
    async with talking(environment.server, ada) as talker:
        messages = (await talker.ok("history", {"room": room}))["messages"]
        assert [(one["event"], one["data"]) for one in messages] == [
            ("e.0", 0),
            ("e.1", 1),
            ("e.2", 2),
        ]


@pytest.mark.gen_test
async def test_what_is_too_large_for_history_is_refused_and_not_sent(
    environment: Installation,
) -> None:
    ada, key = environment.user(), environment.key("publish")
    room = channel(ada)
    async with talking(environment.server, ada) as talker:
        large = {"room": room, "event": "e", "data": "x" * 62_000, "keep": True}
        problem(key.post("/api/publish", large), 413, "too_large")
        fits = {**large, "data": "x" * 61_000}
        assert key.post("/api/publish", fits).status == 204
        assert len((await talker.frame("e"))["data"]) == 61_000
        assert len((await talker.ok("history", {"room": room}))["messages"]) == 1


# ---- sent again ----------------------------------------------------------------------------


def again(caller: Client, body: dict[str, Any], key: str) -> Any:
    return caller.call("POST", "/api/publish", body, {"Idempotency-Key": key})


@pytest.mark.gen_test
async def test_fifty_at_once_with_one_key_publish_once(environment: Installation) -> None:
    ada, key = environment.user(), environment.key("publish")
    room = channel(ada)
    body = {"room": room, "event": "paid", "data": 1, "keep": True}
    async with talking(environment.server, ada) as talker:
        with ThreadPoolExecutor(50) as pool:
            loop = asyncio.get_running_loop()
            answers = await asyncio.gather(
                *(loop.run_in_executor(pool, again, key, body, "order-1") for _ in range(50))
            )
        assert [answer.status for answer in answers] == [204] * 50
        assert again(key, body, "order-1").status == 204
        assert again(key, body, "order-2").status == 204
        history = await talker.ok("history", {"room": room})
        assert len(history["messages"]) == 2


@pytest.mark.gen_test
async def test_a_key_stands_for_one_request_of_one_caller(environment: Installation) -> None:
    ada, one, other = environment.user(), environment.key("publish"), environment.key("publish")
    room = channel(ada)
    body = {"room": room, "event": "paid", "data": 1, "keep": True}
    async with talking(environment.server, ada) as talker:
        assert again(one, body, "k").status == 204
        problem(again(one, {**body, "data": 2}, "k"), 422, "idempotency_key_reused")
        for caller in (other, environment.admin):
            assert again(caller, body, "k").status == 204
        assert len((await talker.ok("history", {"room": room}))["messages"]) == 3


@pytest.mark.gen_test
async def test_a_request_that_was_refused_may_be_sent_again(environment: Installation) -> None:
    ada, key = environment.user(), environment.key("publish")
    body = {"room": "channel:none", "event": "paid", "keep": True}
    for _ in range(2):
        plain_refusal(again(key, body, "later"), 404, "not_found")
    body["room"] = channel(ada)
    assert again(key, body, "later").status == 204


@pytest.mark.parametrize("key", ["", "x" * 256, "\u00fc", "a\tb"])
def test_an_idempotency_key_is_plain_text(environment: Installation, key: str) -> None:
    body = {"room": environment.room, "event": "x"}
    answer = again(environment.admin, body, key.encode().decode("latin-1"))
    assert "Idempotency-Key" in problem(answer, 400, "bad_request")["detail"]
