"""What backends and administrators call, on a real server: keys, pushing, models, logging out."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from handlers.http.backends import OWN_EVENTS
from tests.support.checks import plain_refusal, problem, rows
from tests.support.nodes import channel
from tests.support.raw import assert_quiet, expired
from tests.support.server import Client, Usher, address, sign_up, usher
from tests.support.talk import talking

CONTRACTS_OWN = [
    *("user-join", "token-refresh", "heartbeat", "join-channels", "join", "leave", "typing"),
    *("presence", "usage", "history", "token-expiring", "access-changed", "closing", "reply"),
    "joined",
]
JSON = {"Content-Type": "application/json"}
SCOPES = ["publish", "disconnect", "read"]


class Installation:
    """A server with its administrator."""

    def __init__(self, server: Usher) -> None:
        self.server, self.admin = server, sign_up(server)
        assert self.admin.user["role"] == "admin"
        self.room = f"user:{self.admin.user['id']}"

    def user(self) -> Client:
        return sign_up(self.server)

    def key(self, *scopes: str, name: str = "billing") -> Client:
        """A backend with a new key; `user` holds what the answer said."""
        body = {"name": name, "scopes": scopes or SCOPES}
        answer = self.admin.post("/api/admin/api-keys", body)
        assert answer.status == 201, answer
        return Client(self.server, token=answer.body["key"], user=answer.body)

    def listed(self) -> dict[str, Any]:
        """The keys as they are listed, by id."""
        items = self.admin.get("/api/admin/api-keys").body["items"]
        return {item["id"]: item for item in items}


@pytest.fixture(scope="module")
def environment(database_kind: str) -> Iterator[Installation]:
    with usher(database_kind) as server:
        yield Installation(server)
        assert_quiet(server.log)


def publish(caller: Client, room: str, event: str = "alarm", data: Any = None) -> Any:
    return caller.post("/api/publish", {"room": room, "event": event, "data": data})


# ---- keys ----------------------------------------------------------------------------------


def test_a_key_is_shown_once_and_listed_without_it(environment: Installation) -> None:
    before = time.time()
    answer = environment.admin.post("/api/admin/api-keys", {"name": " Billing ", "scopes": SCOPES})
    assert answer.status == 201
    assert answer.headers["Cache-Control"] == "no-store"
    shown = answer.body
    assert set(shown) == {
        *("id", "name", "scopes", "created_at", "expires_at", "created_by", "key"),
    }
    assert (shown["expires_at"], shown["created_by"]) == (None, environment.admin.user["id"])
    assert (shown["name"], sorted(shown["scopes"])) == ("Billing", sorted(SCOPES))
    assert before - 5 < shown["created_at"] < time.time() + 5
    listed = environment.admin.get("/api/admin/api-keys")
    assert shown["key"] not in listed.text.decode()
    assert environment.listed()[shown["id"]] == {
        **{name: value for name, value in shown.items() if name != "key"},
        "last_used_at": None,
    }


def test_a_key_is_stored_nowhere_but_as_a_hash(environment: Installation) -> None:
    key = environment.key()
    assert key.token is not None
    assert publish(key, environment.room).status == 204
    secret = key.token.removeprefix("usher_key_").encode()
    for path in Path(environment.server.data_dir).rglob("*"):
        if path.is_file():
            assert secret not in path.read_bytes(), path
    assert secret.decode() not in environment.server.log
    (kept,) = rows(environment.server, "SELECT hash FROM api_keys WHERE id=?", key.user["id"])
    assert re.fullmatch(r"[0-9a-f]{64}", kept[0])


def test_a_key_is_listed_with_its_last_use(environment: Installation) -> None:
    key = environment.key()
    assert environment.listed()[key.user["id"]]["last_used_at"] is None
    before = time.time()
    assert publish(key, environment.room).status == 204
    used = environment.listed()[key.user["id"]]["last_used_at"]
    assert before - 1 <= used <= time.time() + 1


def test_a_revoked_key_is_refused_at_once(environment: Installation) -> None:
    key, stays = environment.key(), environment.key()
    path = f"/api/admin/api-keys/{key.user['id']}"
    assert publish(key, environment.room).status == 204
    assert environment.admin.call("DELETE", path).status == 204
    plain_refusal(publish(key, environment.room), 401, "unauthenticated")
    assert key.user["id"] not in environment.listed()
    assert publish(stays, environment.room).status == 204
    problem(environment.admin.call("DELETE", path), 404, "not_found")
    problem(environment.admin.call("DELETE", "/api/admin/api-keys/none"), 404, "not_found")


def test_keys_are_the_administrators_business(environment: Installation) -> None:
    key, user = environment.key(), environment.user()
    for caller, status, code in (
        (Client(environment.server), 401, "unauthenticated"),
        (user, 403, "forbidden"),
        (key, 401, "unauthenticated"),
    ):
        for method, path in (
            ("GET", "/api/admin/api-keys"),
            ("POST", "/api/admin/api-keys"),
            ("DELETE", f"/api/admin/api-keys/{key.user['id']}"),
        ):
            body = {"name": "x", "scopes": ["read"]} if method == "POST" else None
            plain_refusal(caller.call(method, path, body), status, code)
    assert key.user["id"] in environment.listed()


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": "x"},
        {"scopes": ["read"]},
        {"name": "x", "scopes": []},
        {"name": "x", "scopes": ["admin"]},
        {"name": "x", "scopes": "read"},
        {"name": "", "scopes": ["read"]},
        {"name": "x" * 101, "scopes": ["read"]},
        {"name": "a\u0000b", "scopes": ["read"]},
        {"name": "x", "scopes": ["read"], "expires_at": 1},
        {"name": "x", "scopes": ["read"], "expires_at": "tomorrow"},
        {"name": "x", "scopes": ["read"], "expires_at": -1e300},
    ],
)
def test_a_key_needs_a_name_and_scopes_that_there_are(environment: Installation, body: Any) -> None:
    before = environment.listed()
    problem(environment.admin.post("/api/admin/api-keys", body), 400, "bad_request")
    assert environment.listed() == before


def test_a_scope_opens_its_own_calls_only(environment: Installation) -> None:
    user = environment.user()
    calls = {
        "publish": ("POST", "/api/publish", {"room": environment.room, "event": "x"}),
        "disconnect": ("POST", f"/api/admin/users/{user.user['id']}/disconnect", None),
    }
    for scope in SCOPES:
        key = environment.key(scope)
        for needed, (method, path, body) in calls.items():
            answer = key.call(method, path, body)
            if scope == needed:
                assert answer.status == 204, (scope, needed)
            else:
                plain_refusal(answer, 403, "forbidden")


def test_a_key_is_no_user(environment: Installation) -> None:
    key = environment.key()
    for method, path in (
        ("GET", "/api/auth/me"),
        ("POST", "/api/auth/logout"),
        ("POST", "/api/ws/ticket"),
        ("GET", "/api/sessions"),
        ("DELETE", f"/api/admin/users/{environment.admin.user['id']}"),
    ):
        plain_refusal(key.call(method, path), 401, "unauthenticated")
    for method, path in (
        ("GET", "/api/channels"),
        ("PATCH", f"/api/admin/users/{environment.admin.user['id']}"),
        ("POST", "/api/introspect"),
    ):
        plain_refusal(key.call(method, path), 403, "forbidden")


@pytest.mark.parametrize(
    "token", ["usher_key_", "usher_key_x", "usher_key_" + "x" * 5000, "usher_"]
)
def test_what_is_no_key_is_refused_silently_more(environment: Installation, token: str) -> None:
    plain_refusal(
        publish(Client(environment.server, token=token), "user:x"), 401, "unauthenticated"
    )


def test_a_key_works_in_the_header_only(environment: Installation) -> None:
    key = environment.key()
    body = {"room": "user:nobody", "event": "x"}
    for headers in (
        {"X-Api-Key": str(key.token)},
        {"Authorization": f"Basic {key.token}"},
    ):
        answer = Client(environment.server).call("POST", "/api/publish", body, headers)
        plain_refusal(answer, 401, "unauthenticated")
    answer = Client(environment.server).post(f"/api/publish?key={key.token}", body)
    plain_refusal(answer, 401, "unauthenticated")


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


# ---- channels and users --------------------------------------------------------------------


def test_a_key_makes_changes_and_deletes_channels_and_members(environment: Installation) -> None:
    key, ada, bob = environment.key("channels"), environment.user(), environment.user()
    made = key.post("/api/channels", {"name": "tea"})
    assert made.status == 201
    assert made.body["owner_id"] == environment.admin.user["id"], "it belongs to the key's maker"
    path = f"/api/channels/{made.body['id']}"
    seat = f"{path}/members/{ada.user['id']}"
    plain_refusal(ada.get(path), 404, "not_found")
    assert key.call("PUT", seat, {"right": "write"}).status == 200
    assert ada.get(path).body["right"] == "write"
    assert key.call("PATCH", path, {"name": "coffee"}).body["name"] == "coffee"
    assert [m["id"] for m in key.get(path).body["members"]] == [ada.user["id"]]
    assert made.body["id"] in [one["id"] for one in key.get("/api/channels").body["items"]]
    assert key.call("DELETE", seat).status == 204
    plain_refusal(ada.get(path), 404, "not_found")
    assert key.call("DELETE", path).status == 204
    plain_refusal(key.get(path), 404, "not_found")
    # Another's private channel, too: it stands for the installation.
    other = channel(bob).removeprefix("channel:")
    assert key.call("PUT", f"/api/channels/{other}/members/{ada.user['id']}", {}).status == 200
    (member,) = bob.get(f"/api/channels/{other}").body["members"]
    assert member["id"] == ada.user["id"]
    owner = f"/api/channels/{other}/members/{bob.user['id']}"
    problem(key.call("DELETE", owner), 409, "owner_stays")


def test_channels_are_for_their_scope(environment: Installation) -> None:
    key = environment.key("publish", "disconnect", "read", "introspect", "users")
    for method, path, body in (
        ("GET", "/api/channels", None),
        ("POST", "/api/channels", {"name": "x"}),
        ("DELETE", "/api/channels/x", None),
        ("PUT", "/api/channels/x/members/y", {}),
    ):
        plain_refusal(key.call(method, path, body), 403, "forbidden")


def test_a_key_finds_a_user_by_address_only(environment: Installation) -> None:
    key = environment.key("users")
    email = address()
    ada = sign_up(environment.server, email=email)
    for asked in (email, email.upper()):
        found = key.get(f"/api/admin/users?email={quote(asked)}").body["items"]
        assert [one["id"] for one in found] == [ada.user["id"]]
    assert key.get(f"/api/admin/users?email={address()}").body == {"items": []}
    problem(key.get("/api/admin/users?email=x"), 400, "bad_request")
    plain_refusal(key.get("/api/admin/users"), 403, "forbidden")
    assert environment.key("read").get("/api/admin/users").status == 200
    plain_refusal(
        environment.key("publish").get(f"/api/admin/users?email={email}"), 403, "forbidden"
    )


def test_a_key_disables_users_and_never_touches_or_makes_administrators(
    environment: Installation,
) -> None:
    key, ada = environment.key("users"), environment.user()
    path = f"/api/admin/users/{ada.user['id']}"
    plain_refusal(key.call("PATCH", path, {"role": "admin"}), 403, "forbidden")
    assert key.call("PATCH", path, {"disabled": True}).body["disabled"] is True
    assert ada.get("/api/auth/me").status == 401
    assert key.call("PATCH", path, {"disabled": False, "role": "user"}).status == 200
    assert environment.admin.call("PATCH", path, {"role": "admin"}).status == 200
    for change in ({"disabled": True}, {"role": "user"}, {"disabled": False}):
        plain_refusal(key.call("PATCH", path, change), 403, "forbidden")
    problem(key.call("PATCH", "/api/admin/users/none", {"disabled": True}), 404, "not_found")
    plain_refusal(environment.key("read").call("PATCH", path, {"disabled": True}), 403, "forbidden")


# ---- models --------------------------------------------------------------------------------


@pytest.fixture
def models(environment: Installation) -> Iterator[Installation]:
    """The registry, empty before and after."""
    yield environment
    for item in environment.admin.get("/api/models").body["items"]:
        environment.admin.call("DELETE", "/api/models/" + quote(item["id"], safe=""))


def test_models_are_registered_renamed_listed_and_struck_off(models: Installation) -> None:
    for caller in (models.admin, models.key("publish")):
        put = caller.call("PUT", "/api/models/gpt-4", {"title": "GPT"})
        assert (put.status, put.body) == (200, {"id": "gpt-4", "title": "GPT"})
        caller.call("PUT", "/api/models/gpt-4", {"title": "GPT 4"})
        caller.call("PUT", "/api/models/claude", {"title": "Claude"})
        listed = models.user().get("/api/models")
        assert (listed.status, listed.body) == (
            200,
            {"items": [{"id": "claude", "title": "Claude"}, {"id": "gpt-4", "title": "GPT 4"}]},
        )
        for name in ("gpt-4", "claude"):
            assert caller.call("DELETE", f"/api/models/{name}").status == 204
        problem(caller.call("DELETE", "/api/models/gpt-4"), 404, "not_found")


def test_a_caller_without_the_right_may_only_read_models(models: Installation) -> None:
    user, nobody = models.user(), Client(models.server)
    for key in (models.key("read"), models.key("disconnect")):
        put = key.call("PUT", "/api/models/x", {"title": "X"})
        plain_refusal(put, 403, "forbidden")
    plain_refusal(user.call("PUT", "/api/models/x", {"title": "X"}), 403, "forbidden")
    plain_refusal(user.call("DELETE", "/api/models/x"), 403, "forbidden")
    plain_refusal(nobody.get("/api/models"), 401, "unauthenticated")
    assert user.get("/api/models").body == {"items": []}


@pytest.mark.parametrize("body", [{}, {"title": ""}, {"title": 1}, {"title": "x" * 201}, b"x"])
def test_a_model_needs_a_title(models: Installation, body: Any) -> None:
    problem(models.admin.call("PUT", "/api/models/x", body), 400, "bad_request")
    assert models.admin.get("/api/models").body == {"items": []}


@pytest.mark.parametrize("name", ["a b", "ü", "x" * 128, "openai:gpt-4o", "a%b", "a.b+c", "'\"<>"])
def test_a_model_may_have_any_name_that_can_be_seen(models: Installation, name: str) -> None:
    path = "/api/models/" + quote(name, safe="")
    assert models.admin.call("PUT", path, {"title": "T"}).body == {"id": name, "title": "T"}
    assert models.admin.get("/api/models").body["items"] == [{"id": name, "title": "T"}]
    assert models.admin.call("DELETE", path).status == 204


@pytest.mark.parametrize("path", ["%00", "%0a", "%ff", "a%00", "x" * 129, "%20", "%e2%80%ae"])
def test_what_cannot_be_seen_is_no_name_of_a_model(models: Installation, path: str) -> None:
    answer = models.admin.call("PUT", "/api/models/" + path, {"title": "T"})
    assert answer.status in (400, 404), answer
    assert models.admin.call("DELETE", "/api/models/" + path).status in (400, 404)
    assert models.admin.get("/api/models").body == {"items": []}


@pytest.mark.gen_test
async def test_usage_may_name_what_is_registered_from_that_moment_on(models: Installation) -> None:
    async with talking(models.server, models.user()) as talker:
        assert (await talker.ok("usage", {"model": "anything"}))["models"] == ["anything"]
        models.admin.call("PUT", "/api/models/gpt", {"title": "GPT"})
        assert await talker.refused("usage", {"model": "anything else"}) == "bad_request"
        assert "gpt" in (await talker.ok("usage", {"model": "gpt"}))["models"]
        models.admin.call("DELETE", "/api/models/gpt")
        assert "free" in (await talker.ok("usage", {"model": "free"}))["models"]


# ---- disconnecting -------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_backend_may_sign_a_user_out_everywhere(environment: Installation) -> None:
    user, other = environment.user(), environment.user()
    path = f"/api/admin/users/{user.user['id']}/disconnect"
    async with talking(environment.server, user) as a, talking(environment.server, other) as b:
        assert environment.key("disconnect").post(path).status == 204
        assert await a.code() == 4410
        await b.settle()
        assert b.is_open
    assert user.get("/api/auth/me").status == 401
    refresh = {"refresh_token": user.refresh_token}
    assert Client(environment.server).post("/api/auth/refresh", refresh).status == 401
    unknown = "/api/admin/users/nobody/disconnect"
    problem(environment.key("disconnect").post(unknown), 404, "not_found")


# ---- logging out and knowing that it is done -----------------------------------------------


@pytest.mark.gen_test
async def test_a_logout_that_waits_says_what_was_closed(environment: Installation) -> None:
    user = environment.user()
    async with talking(environment.server, user) as one, talking(environment.server, user) as other:
        began = time.monotonic()
        answer = user.post("/api/auth/logout?wait=true")
        assert time.monotonic() - began < 2.0
        assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-store")
        (node,) = answer.body["nodes"]
        assert answer.body == {"closed": 2, "pending": 0, "nodes": [node]}
        assert (node["closed"], node["pending"]) == (2, 0)
        assert [await one.code(), await other.code()] == [4410, 4410]
    assert user.get("/api/auth/me").status == 401


@pytest.mark.parametrize("query", ["", "?wait=false", "?wait=", "?wait=1", "?other=true"])
def test_a_logout_that_does_not_wait_says_nothing(environment: Installation, query: str) -> None:
    user = environment.user()
    answer = user.post("/api/auth/logout" + query)
    assert (answer.status, answer.text) == (204, b"")
    assert user.get("/api/auth/me").status == 401


def test_a_logout_that_waits_takes_the_cookies_away(environment: Installation) -> None:
    browser = sign_up(environment.server, browser=True)
    assert set(browser.cookies) == {"access_token", "refresh_token", "device"}
    answer = browser.post("/api/auth/logout?wait=true")
    assert (answer.status, answer.body["closed"]) == (200, 0)
    assert browser.cookies.keys() == {"device"}


def test_a_logout_of_an_ended_session_succeeds_and_one_without_a_user_fails(
    environment: Installation,
) -> None:
    plain_refusal(
        Client(environment.server).post("/api/auth/logout?wait=true"), 401, "unauthenticated"
    )
    user = environment.user()
    assert user.post("/api/auth/logout?wait=true").status == 200
    plain_refusal(user.post("/api/auth/logout?wait=true"), 401, "unauthenticated")


def test_an_expired_token_may_still_log_out_and_wait(database_kind: str) -> None:
    secret = "a secret of this test and of nobody else"
    with usher(database_kind, JWT_SECRETS=secret) as server:
        user = sign_up(server)
        user.token = expired(user.token)
        answer = user.post("/api/auth/logout?wait=true")
        assert (answer.status, answer.body["pending"]) == (200, 0)
        again = user.post("/api/auth/logout?wait=true")
        assert (again.status, again.body) == (200, {"closed": 0, "pending": 0, "nodes": []})
        refresh = {"refresh_token": user.refresh_token}
        assert Client(server).post("/api/auth/refresh", refresh).status == 401
