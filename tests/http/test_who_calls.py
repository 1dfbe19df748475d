"""Introspection, verification for proxies, app tokens and their keys, on a real server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, unquote, urlencode

import jwt
import pytest

from tests.support.checks import plain_refusal, problem
from tests.support.raw import SECRET, assert_quiet, expired
from tests.support.server import (
    PASSWORD,
    Answer,
    Client,
    Usher,
    address,
    sign_up,
    usher,
    wait_until,
)

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class Installation:
    """A server that trusts the proxy next to it, with its administrator."""

    def __init__(self, server: Usher) -> None:
        self.server, self.admin = server, sign_up(server)
        self.key = self.backend("introspect")

    def backend(self, *scopes: str) -> Client:
        body = {"name": "backend", "scopes": scopes}
        answer = self.admin.post("/api/admin/api-keys", body)
        assert answer.status == 201, answer
        return Client(self.server, token=answer.body["key"], user=answer.body)

    def introspect(self, token: str | None, caller: Client | None = None) -> Answer:
        body = urlencode({"token": token or ""}).encode()
        return (caller or self.key).call("POST", "/api/introspect", body, FORM)


@pytest.fixture(scope="module")
def installation(database_kind: str) -> Iterator[Installation]:
    settings = {
        "APP_AUDIENCES": "shop,files",
        "TRUSTED_PROXIES": "127.0.0.1",
        "JWT_SECRETS": SECRET,
    }
    with usher(database_kind, **settings) as server:
        yield Installation(server)
        assert_quiet(server.log)


# ---- introspection -------------------------------------------------------------------------


def test_a_backend_learns_whose_token_it_is(installation: Installation) -> None:
    ada = sign_up(installation.server)
    answer = installation.introspect(ada.token)
    assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-store")
    reported = answer.body
    assert set(reported) == {
        *("active", "sub", "sid", "role", "name", "exp", "iat", "iss", "aud", "token_type"),
        *("auth_time", "acr"),
    }
    assert reported["active"] is True
    assert (reported["sub"], reported["name"], reported["role"]) == (ada.user["id"], "Ada", "user")
    assert (reported["token_type"], reported["acr"], reported["iss"]) == (
        "Bearer",
        "1",
        installation.server.origin,
    )
    assert reported["iat"] - 1 <= reported["auth_time"] <= reported["iat"] < reported["exp"]
    (session,) = ada.get("/api/sessions").body["items"]
    assert reported["sid"] == session["id"]


def test_of_anything_else_it_learns_nothing(installation: Installation) -> None:
    ada = sign_up(installation.server)
    ticket = ada.ticket()
    assert ada.token is not None
    for other in (
        ticket,
        ada.refresh_token,
        ada.token[:-1],
        "x",
        installation.key.token,
        "a.b.c",
        "\0",
    ):
        answer = installation.introspect(other)
        assert (answer.status, answer.body) == (200, {"active": False}), other
    assert installation.introspect(expired(ada.token)).body == {"active": False}


def test_a_refresh_keeps_the_time_of_the_sign_in(installation: Installation) -> None:
    ada = sign_up(installation.server)
    first = installation.introspect(ada.token).body
    refreshed = ada.post("/api/auth/refresh", {"refresh_token": ada.refresh_token}).body
    second = installation.introspect(refreshed["access_token"]).body
    assert second["auth_time"] == first["auth_time"]
    assert second["iat"] > first["iat"]


def test_after_a_logout_it_is_not_active(installation: Installation) -> None:
    ada = sign_up(installation.server)
    app = ada.post("/api/auth/app-token", {"audience": "shop"}).body["token"]
    assert ada.post("/api/auth/logout").status == 204
    for token in (ada.token, app):
        assert installation.introspect(token).body == {"active": False}
    plain_refusal(ada.post("/api/auth/app-token", {"audience": "shop"}), 401, "unauthenticated")


def test_introspection_is_for_its_scope(installation: Installation) -> None:
    ada = sign_up(installation.server)
    others = installation.backend("publish", "disconnect", "read", "channels", "users")
    plain_refusal(installation.introspect(ada.token, others), 403, "forbidden")
    plain_refusal(installation.introspect(ada.token, ada), 403, "forbidden")
    plain_refusal(
        installation.introspect(ada.token, Client(installation.server)), 401, "unauthenticated"
    )
    bad = Client(installation.server, token=f"{installation.key.token}x")
    plain_refusal(installation.introspect(ada.token, bad), 401, "unauthenticated")
    assert installation.introspect(ada.token, installation.admin).body["active"] is True


@pytest.mark.parametrize("body", [b"", b"token=", b"token=a&token=b", b'{"token":"a"}', b"\xff"])
def test_a_question_has_one_token(installation: Installation, body: bytes) -> None:
    for _ in range(2):
        answer = installation.key.call("POST", "/api/introspect", body, FORM)
        assert "token" in problem(answer, 400, "bad_request")["detail"]


def test_a_key_that_is_deleted_asks_nothing_more(installation: Installation) -> None:
    ada, key = sign_up(installation.server), installation.backend("introspect")
    assert installation.introspect(ada.token, key).body["active"] is True
    path = f"/api/admin/api-keys/{key.user['id']}"
    assert installation.admin.call("DELETE", path).status == 204
    plain_refusal(installation.introspect(ada.token, key), 401, "unauthenticated")


# ---- verify --------------------------------------------------------------------------------


def verify(client: Client, method: str = "GET", **headers: str) -> Answer:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if method != "GET":
        sent["X-Forwarded-Method"] = method
    return client.call("GET", "/api/auth/verify", None, sent)


def test_a_proxy_learns_whose_request_it_holds(installation: Installation) -> None:
    email = address()
    for browser in (False, True):
        path = "/api/auth/login" if browser else "/api/auth/signup"
        body = {"email": email, "password": PASSWORD, "name": "Zoë %&\u4e2d"}
        client = Client(installation.server, browser=browser)
        answer = client.post(path, body | {"client": "browser" if browser else "native"})
        client.token = answer.body.get("access_token")
        user = answer.body["user"]
        reported = verify(client)
        assert (reported.status, reported.text) == (200, b"")
        assert reported.headers["X-Usher-User-Id"] == user["id"]
        assert reported.headers["X-Usher-User-Name"] == quote("Zoë %&\u4e2d", safe="")
        assert unquote(reported.headers["X-Usher-User-Name"]) == user["name"]
        assert reported.headers["X-Usher-Role"] == "user"
        sessions = client.get("/api/sessions").body["items"]
        assert reported.headers["X-Usher-Session-Id"] in [one["id"] for one in sessions]
        assert reported.headers["Cache-Control"] == "no-store"


def test_without_a_credential_or_with_an_app_token_it_is_401(installation: Installation) -> None:
    ada = sign_up(installation.server)
    app = ada.post("/api/auth/app-token", {"audience": "shop"}).body["token"]
    for token in (None, "x", app, ada.refresh_token, installation.key.token, ada.ticket()):
        answer = verify(Client(installation.server, token=token))
        plain_refusal(answer, 401, "unauthenticated")
        assert "X-Usher-User-Id" not in answer.headers
    ada.post("/api/auth/logout")
    plain_refusal(verify(ada), 401, "unauthenticated")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "post", "GET, POST", "?"])
def test_an_unsafe_request_with_a_cookie_has_to_be_a_page_of_their_own(
    installation: Installation, method: str
) -> None:
    ada = sign_up(installation.server, browser=True)
    assert verify(ada, method).status == 200, "with its own Origin"
    ada.browser = False
    assert verify(ada, method, Sec_Fetch_Site="same-origin").status == 200
    plain_refusal(verify(ada, method), 403, "origin_refused")
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "https://evil.example", "Sec_Fetch_Site": "same-origin"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ):
        plain_refusal(verify(ada, method, **headers), 403, "origin_refused")


def test_a_safe_request_with_a_cookie_may_come_from_anywhere(installation: Installation) -> None:
    ada = sign_up(installation.server, browser=True)
    ada.browser = False
    for method in ("GET", "HEAD", "OPTIONS", "get"):
        assert verify(ada, X_Forwarded_Method=method).status == 200
        assert verify(ada, X_Forwarded_Method=method, Origin="https://a.example").status == 200


def test_a_handshake_with_a_cookie_counts_as_unsafe(installation: Installation) -> None:
    ada = sign_up(installation.server, browser=True)
    key = "dGhlIHNhbXBsZSBub25jZQ=="
    assert verify(ada, Sec_WebSocket_Key=key).status == 200
    ada.browser = False
    plain_refusal(verify(ada, Sec_WebSocket_Key=key), 403, "origin_refused")
    answer = verify(ada, Sec_WebSocket_Key=key, Origin="https://evil.example")
    plain_refusal(answer, 403, "origin_refused")


def test_a_bearer_token_needs_no_origin(installation: Installation) -> None:
    ada = sign_up(installation.server)
    assert verify(ada, "POST").status == 200


def test_the_method_counts_from_trusted_proxies_only(database_kind: str) -> None:
    with usher(database_kind) as server:
        ada = sign_up(server, browser=True)
        ada.browser = False
        assert verify(ada, "POST").status == 200
        said = "X-Forwarded-Method is not counted: it comes from 127.0.0.1"
        wait_until(lambda: said in server.log)
        plain_refusal(ada.call("POST", "/api/auth/logout"), 403, "origin_refused")


# ---- app tokens ----------------------------------------------------------------------------


def test_an_app_token_is_checked_offline_with_the_published_keys(
    installation: Installation,
) -> None:
    ada = sign_up(installation.server)
    answer = ada.post("/api/auth/app-token", {"audience": "shop"})
    assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-store")
    assert set(answer.body) == {"token", "expires_in"}
    assert answer.body["expires_in"] == 300
    keys = jwt.PyJWKClient(f"{installation.server.url}/.well-known/jwks.json")
    token = answer.body["token"]
    key = keys.get_signing_key_from_jwt(token)
    reported = jwt.decode(token, key, ["ES256"], audience="shop", issuer=installation.server.origin)
    assert (reported["sub"], reported["name"], reported["role"]) == (ada.user["id"], "Ada", "user")
    assert reported["exp"] - reported["iat"] == 300
    introspected = installation.introspect(token).body
    assert {name: reported[name] for name in introspected if name in reported} == {
        name: value for name, value in introspected.items() if name in reported
    }
    assert introspected["active"] is True


def test_the_keys_may_be_kept_for_a_while_and_are_public(installation: Installation) -> None:
    answer = Client(installation.server).get("/.well-known/jwks.json")
    assert answer.status == 200
    assert answer.headers["Cache-Control"] == "public, max-age=300"
    (key,) = answer.body["keys"]
    assert set(key) == {"kty", "crv", "x", "y", "kid", "use", "alg"}
    assert (key["kty"], key["crv"], key["use"], key["alg"]) == ("EC", "P-256", "sig", "ES256")


@pytest.mark.parametrize("body", [{}, {"audience": "other"}, {"audience": 1}, {"audience": ""}])
def test_an_app_token_is_for_an_audience_that_is_set(installation: Installation, body: Any) -> None:
    ada = sign_up(installation.server)
    answer = ada.post("/api/auth/app-token", body)
    assert "audience" in problem(answer, 400, "bad_request")["detail"]


def test_an_app_token_opens_nothing_of_ushers_own(installation: Installation) -> None:
    ada = sign_up(installation.server)
    app = ada.post("/api/auth/app-token", {"audience": "files"}).body["token"]
    caller = Client(installation.server, token=app)
    for method, path in (
        ("GET", "/api/auth/me"),
        ("POST", "/api/ws/ticket"),
        ("POST", "/api/auth/app-token"),
        ("POST", "/api/auth/logout"),
        ("GET", "/api/channels"),
    ):
        plain_refusal(caller.call(method, path), 401, "unauthenticated")


def test_an_app_token_by_cookie_needs_a_page_of_their_own(installation: Installation) -> None:
    ada = sign_up(installation.server, browser=True)
    assert ada.post("/api/auth/app-token", {"audience": "shop"}).status == 200
    ada.browser = False
    plain_refusal(ada.post("/api/auth/app-token", {"audience": "shop"}), 403, "origin_refused")
