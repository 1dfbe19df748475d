"""What backends and administrators call, on a real server: channels, users, models, logging out."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from tests.http.installation import Installation, environment
from tests.support.checks import plain_refusal, problem
from tests.support.nodes import channel
from tests.support.raw import expired
from tests.support.server import Client, address, sign_up, usher
from tests.support.talk import talking

__all__ = ["environment"]

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
