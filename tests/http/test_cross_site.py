"""Pages of other sites: forged requests, and cross-origin calls."""

from __future__ import annotations

from typing import Any

import pytest

from tests.http.credentials import ALLOWED, PUBLIC, behind_https, credentials
from tests.support.checks import plain_refusal
from tests.support.server import (
    PASSWORD,
    Client,
    Usher,
    address,
    sign_up,
)

__all__ = ["behind_https"]

FOREIGN = "https://evil.example.org"
UNSAFE = [
    ("POST", "/api/auth/refresh", None),
    ("POST", "/api/auth/logout", None),
    ("POST", "/api/auth/password", {"current_password": PASSWORD, "new_password": "x"}),
    ("POST", "/api/ws/ticket", None),
    ("DELETE", "/api/sessions", None),
    ("DELETE", "/api/sessions/AAAA", None),
    ("PATCH", "/api/admin/users/AAAA", {"disabled": True}),
    ("DELETE", "/api/admin/users/AAAA", None),
    ("POST", "/api/admin/users/AAAA/disconnect", None),
]
SUSPECT: list[dict[str, str]] = [
    {},
    {"Origin": FOREIGN},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "{origin}.evil.example.org"},
    {"Origin": "{origin}/"},
    {"Origin": FOREIGN, "Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "none"},
    {"Referer": "{origin}/"},
]


@pytest.mark.parametrize(("method", "path", "body"), UNSAFE)
@pytest.mark.parametrize("headers", SUSPECT, ids=str)
def test_an_unsafe_call_by_cookie_needs_a_sign_of_the_own_page(
    server: Usher, method: str, path: str, body: Any, headers: dict[str, str]
) -> None:
    browser = forgeable(server)
    sent = {name: value.format(origin=server.origin) for name, value in headers.items()}
    before = dict(browser.cookies)
    plain_refusal(browser.call(method, path, body, sent), 403, "origin_refused")
    assert browser.cookies == before
    assert browser.get("/api/auth/me").status == 200


def forgeable(server: Usher) -> Client:
    """A browser's cookies, without the headers of its own page. Signed in once per server."""
    kept: dict[str, str] | None = server.__dict__.get("forgeable")
    if kept is None:
        kept = server.__dict__["forgeable"] = sign_up(server, browser=True).cookies
    return Client(server, cookies=dict(kept))


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "{origin}"},
        {"Sec-Fetch-Site": "same-origin"},
        {"Origin": "{origin}", "Sec-Fetch-Site": "same-origin"},
        {"Origin": "http://localhost:{port}"},
    ],
    ids=str,
)
def test_an_unsafe_call_by_cookie_from_the_own_page_is_accepted(
    server: Usher, headers: dict[str, str]
) -> None:
    browser = forgeable(server)
    sent = {n: v.format(origin=server.origin, port=server.port) for n, v in headers.items()}
    assert browser.call("POST", "/api/ws/ticket", headers=sent).status == 201


def test_a_safe_call_by_cookie_needs_no_sign_of_the_own_page(server: Usher) -> None:
    assert forgeable(server).get("/api/auth/me").status == 200
    assert forgeable(server).get("/api/sessions").status == 200


def test_a_call_by_bearer_token_needs_no_origin(server: Usher) -> None:
    assert sign_up(server).post("/api/ws/ticket").status == 201


@pytest.mark.parametrize("call", ["signup", "login"])
@pytest.mark.parametrize(
    "headers", [{"Origin": FOREIGN}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}], ids=str
)
def test_another_site_cannot_sign_a_browser_in(
    server: Usher, call: str, headers: dict[str, str]
) -> None:
    email = address()
    if call == "login":
        sign_up(server, email=email)
    body = credentials(email, name="Ada")
    answer = Client(server).call("POST", f"/api/auth/{call}", body, headers)
    plain_refusal(answer, 403, "origin_refused")
    assert answer.headers["Set-Cookie"] is None


def test_behind_a_public_url_only_that_is_the_own_origin(behind_https: Usher) -> None:
    browser = sign_up(behind_https, browser=True)
    for origin in (behind_https.url, "http://usher.example.org"):
        answer = browser.call("POST", "/api/ws/ticket", headers={"Origin": origin})
        plain_refusal(answer, 403, "origin_refused")
    answer = browser.call("POST", "/api/ws/ticket", headers={"Origin": PUBLIC})
    assert answer.status == 201


def test_a_page_of_an_allowed_origin_may_call_and_read(behind_https: Usher) -> None:
    browser = sign_up(behind_https, browser=True)
    answer = browser.call("POST", "/api/ws/ticket", headers={"Origin": ALLOWED})
    assert answer.status == 201
    assert answer.headers["Access-Control-Allow-Origin"] == ALLOWED
    assert answer.headers["Access-Control-Allow-Credentials"] == "true"
    assert "Origin" in answer.headers["Vary"]


def test_a_page_of_an_allowed_origin_may_read_refusals(behind_https: Usher) -> None:
    answer = Client(behind_https).call("GET", "/api/auth/me", headers={"Origin": ALLOWED})
    plain_refusal(answer, 401, "unauthenticated")
    assert answer.headers["Access-Control-Allow-Origin"] == ALLOWED
    assert "Origin" in answer.headers["Vary"]


def test_a_preflight_of_an_allowed_origin_is_answered(behind_https: Usher) -> None:
    asked = {
        "Origin": ALLOWED,
        "Access-Control-Request-Method": "PATCH",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    answer = Client(behind_https).call("OPTIONS", "/api/admin/users/AAAA", headers=asked)
    assert answer.status == 204
    assert answer.headers["Access-Control-Allow-Origin"] == ALLOWED
    assert answer.headers["Access-Control-Allow-Credentials"] == "true"
    methods = {m.strip() for m in answer.headers["Access-Control-Allow-Methods"].split(",")}
    assert {"GET", "POST", "PUT", "PATCH", "DELETE"} <= methods
    names = {n.strip().lower() for n in answer.headers["Access-Control-Allow-Headers"].split(",")}
    assert {"authorization", "content-type"} <= names


@pytest.mark.parametrize("origin", [FOREIGN, "null", "http://app.example.org", ALLOWED + ".evil"])
@pytest.mark.parametrize("method", ["OPTIONS", "GET", "POST"])
def test_a_page_of_a_foreign_origin_may_not_read(
    behind_https: Usher, method: str, origin: str
) -> None:
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    answer = Client(behind_https).call(method, "/api/auth/login", headers=asked)
    assert answer.headers["Access-Control-Allow-Origin"] is None
    assert answer.headers["Access-Control-Allow-Credentials"] is None
