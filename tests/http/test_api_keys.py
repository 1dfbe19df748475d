"""API keys over HTTP: how they are made, listed and revoked, and what each of them opens."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest

from tests.http.installation import SCOPES, Installation, environment, publish
from tests.support.checks import plain_refusal, problem, rows
from tests.support.server import Client

__all__ = ["environment"]


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
