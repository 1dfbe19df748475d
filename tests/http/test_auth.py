"""Signing in and out and tokens over HTTP, as the contract has them."""

from __future__ import annotations

import time
from http.cookies import SimpleCookie
from typing import Any

import jwt
import pytest

from tests.http.credentials import OTHER_PASSWORD, PUBLIC, behind_https, credentials
from tests.support.checks import plain_refusal
from tests.support.flood import cpu_seconds
from tests.support.server import Answer, Client, Usher, address, sign_up, usher

__all__ = ["behind_https"]


def cookies_of(answer: Answer) -> dict[str, dict[str, Any]]:
    """The cookies an answer sets: name to value and attributes."""
    found: dict[str, dict[str, Any]] = {}
    for header in answer.headers.get_all("Set-Cookie") or ():
        for name, morsel in SimpleCookie(header).items():
            assert name not in found, "set twice"
            found[name] = {"value": morsel.value, **{k: v for k, v in morsel.items() if v}}
    return found


# ---- a native client ------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["signup", "login", "refresh"])
def test_a_native_client_gets_its_tokens_in_json_and_no_cookie(server: Usher, call: str) -> None:
    email = address()
    answer = Client(server).post(
        "/api/auth/signup", credentials(email, name="Ada", client="native")
    )
    status = 201
    if call == "login":
        answer = Client(server).post("/api/auth/login", credentials(email, client="native"))
        status = 200
    if call == "refresh":
        body = {"refresh_token": answer.body["refresh_token"]}
        answer, status = Client(server).post("/api/auth/refresh", body), 200
    assert answer.status == status
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Set-Cookie"] is None
    members = {"user", "access_token", "token_type", "expires_in", "refresh_token"}
    # A sign-in makes the device known; a refresh is none.
    assert set(answer.body) == members | (set() if call == "refresh" else {"device"})
    assert answer.body["token_type"] == "Bearer"
    assert 890 < answer.body["expires_in"] <= 900
    assert answer.body["user"].keys() == {"id", "email", "name", "role"}
    assert answer.body["user"]["email"] == email


def test_the_access_token_says_what_the_contract_lists(server: Usher) -> None:
    client = sign_up(server)
    assert client.token is not None
    header = jwt.get_unverified_header(client.token)
    claims = jwt.decode(client.token, options={"verify_signature": False})
    assert header.keys() == {"alg", "typ", "kid"}
    assert (header["alg"], header["typ"]) == ("HS256", "at+jwt")
    assert claims.keys() == {"iss", "aud", "sub", "sid", "jti", "iat", "exp", "role"} | {
        "auth_time",
        "acr",
    }
    assert claims["iss"] == server.origin
    assert claims["sub"] == client.user["id"]
    assert claims["role"] == client.user["role"]
    assert claims["exp"] - claims["iat"] == pytest.approx(900, abs=0.01)


def test_the_public_url_is_the_issuer(behind_https: Usher) -> None:
    client = sign_up(behind_https)
    claims = jwt.decode(str(client.token), options={"verify_signature": False})
    assert claims["iss"] == PUBLIC


# ---- a browser ------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["signup", "login", "refresh"])
@pytest.mark.parametrize("named", [True, False], ids=["named", "by default"])
def test_a_browser_gets_its_tokens_only_as_cookies(server: Usher, call: str, named: bool) -> None:
    email, kind = address(), {"client": "browser"} if named else {}
    browser = Client(server, browser=True)
    answer = browser.post("/api/auth/signup", credentials(email, name="Ada", **kind))
    if call == "login":
        answer = browser.post("/api/auth/login", credentials(email, **kind))
    if call == "refresh":
        answer = browser.post("/api/auth/refresh")
    assert answer.status == (201 if call == "signup" else 200)
    assert set(answer.body) == {"user", "expires_in"}
    assert answer.headers["Cache-Control"] == "no-store"
    cookies = cookies_of(answer)
    device = cookies.pop("device", None)
    assert (device is None) == (call == "refresh")
    if device is not None:
        assert device.pop("value").encode() not in answer.text
        years = {"httponly": True, "samesite": "Strict", "path": "/api/auth", "max-age": "34560000"}
        assert device == years
    assert cookies.keys() == {"access_token", "refresh_token"}
    for cookie in cookies.values():
        assert cookie.pop("value").encode() not in answer.text
        assert 1_209_000 < int(cookie.pop("max-age")) <= 1_209_600
    assert cookies["access_token"] == {"httponly": True, "samesite": "Lax", "path": "/"}
    refresh_path = {"httponly": True, "samesite": "Strict", "path": "/api/auth"}
    assert cookies["refresh_token"] == refresh_path


def test_on_https_the_cookies_are_secure_and_prefixed(behind_https: Usher) -> None:
    answer = Client(behind_https, browser=True).post(
        "/api/auth/signup", credentials(address(), name="Ada")
    )
    cookies = cookies_of(answer)
    assert cookies.keys() == {"__Host-access_token", "__Secure-refresh_token", "__Secure-device"}
    assert all(cookie["secure"] and cookie["httponly"] for cookie in cookies.values())
    # RFC 6265bis section 4.1.3: a __Host- cookie has path "/" and no domain.
    access = cookies["__Host-access_token"]
    assert access["path"] == "/"
    assert "domain" not in access
    assert access["samesite"] == "Lax"
    assert cookies["__Secure-refresh_token"]["path"] == "/api/auth"
    assert cookies["__Secure-refresh_token"]["samesite"] == "Strict"


def test_on_https_the_whole_flow_works_with_the_prefixed_cookies(behind_https: Usher) -> None:
    browser = sign_up(behind_https, browser=True)
    assert browser.get("/api/auth/me").body == browser.user
    assert browser.post("/api/auth/refresh").status == 200
    assert browser.post("/api/ws/ticket").status == 201
    answer = browser.post("/api/auth/logout")
    assert answer.status == 204
    assert browser.cookies.keys() == {"__Secure-device"}  # the device stays known
    assert all(cookie["secure"] for cookie in cookies_of(answer).values())


def test_on_https_a_cookie_without_the_prefix_is_not_looked_at(behind_https: Usher) -> None:
    browser = sign_up(behind_https, browser=True)
    token = browser.cookies["__Host-access_token"]
    planted = Client(behind_https, browser=True, cookies={"access_token": token})
    plain_refusal(planted.get("/api/auth/me"), 401, "unauthenticated")


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_logout_takes_both_cookies_away_where_they_lie(
    server: Usher, behind_https: Usher, scheme: str
) -> None:
    browser = sign_up(behind_https if scheme == "https" else server, browser=True)
    names = {name for name in browser.cookies if not name.endswith("device")}
    cookies = cookies_of(browser.post("/api/auth/logout"))
    assert set(cookies) == names
    for name, cookie in cookies.items():
        assert cookie["value"] == ""
        expires = time.strptime(cookie["expires"], "%a, %d %b %Y %H:%M:%S GMT")
        assert time.mktime(expires) < time.time() - 86_400
        # A browser takes away only the cookie of the same path.
        assert cookie["path"] == ("/api/auth" if "refresh" in name else "/")


# ---- signing in -----------------------------------------------------------------------------


def test_unknown_account_wrong_password_and_disabled_account_look_the_same(
    database_kind: str,
) -> None:
    with usher(database_kind) as server:
        admin, known, disabled = sign_up(server), address(), address()
        sign_up(server, email=known)
        user = sign_up(server, email=disabled)
        patched = admin.call("PATCH", f"/api/admin/users/{user.user['id']}", {"disabled": True})
        assert patched.status == 200
        answers = [
            Client(server).post("/api/auth/login", body)
            for body in (
                credentials(address()),
                {"email": known, "password": OTHER_PASSWORD},
                credentials(disabled),
                credentials("not an address"),
                {"email": known, "password": ""},
                {"email": known, "password": "x" * 5000},
            )
        ]
    for answer in answers:
        plain_refusal(answer, 401, "unauthenticated")
    seen = {
        (a.text, tuple((k, v) for k, v in a.headers.items() if k not in ("Date", "Vary")))
        for a in answers
    }
    assert len(seen) == 1


def test_an_unknown_account_takes_as_long_as_a_wrong_password(server: Usher) -> None:
    email = address()
    sign_up(server, email=email)

    def took(address_: str) -> float:
        started = cpu_seconds(server)  # what else the machine does is not in it
        body = {"email": address_, "password": OTHER_PASSWORD}
        assert Client(server).post("/api/auth/login", body).status == 401
        return cpu_seconds(server) - started

    pairs = [(took(email), took(address())) for _ in range(12)]
    known, unknown = (sum(times) for times in zip(*pairs, strict=True))
    # Without the work of a hash the second takes a tenth of the first.
    assert 0.4 < unknown / known < 2.5


def test_a_user_is_told_the_claims_of_their_own_token_and_of_no_other(server: Usher) -> None:
    ada = sign_up(server, browser=True)
    token = ada.cookies["access_token"]
    told = ada.get("/api/auth/claims")
    assert told.body == jwt.decode(token, options={"verify_signature": False})
    assert token not in told.text.decode()
    plain_refusal(Client(server).get("/api/auth/claims"), 401, "unauthenticated")


def test_me_returns_the_user_of_the_token(server: Usher) -> None:
    email = address()
    client = sign_up(server, email=email)
    answer = client.get("/api/auth/me")
    assert answer.status == 200
    assert answer.body == client.user
    assert answer.body | {"id": "", "role": ""} == {
        "id": "",
        "email": email,
        "name": "Ada",
        "role": "",
    }
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    "value",
    ["", "Bearer", "Bearer ", "Bearer x", "Bearer a.b.c", "Basic YTpi", "{}", "bearer {} x"],
)
def test_everything_but_a_bearer_token_gets_the_same_refusal(server: Usher, value: str) -> None:
    token = sign_up(server).token
    answer = Client(server).call(
        "GET", "/api/auth/me", headers={"Authorization": value.format(token)}
    )
    plain_refusal(answer, 401, "unauthenticated")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_the_scheme_of_the_header_is_read_without_regard_to_case(server: Usher) -> None:
    client = sign_up(server)
    answer = Client(server).call(
        "GET", "/api/auth/me", headers={"Authorization": f"bEARER {client.token}"}
    )
    assert answer.body == client.user


def test_a_cookie_does_not_replace_an_invalid_header(server: Usher) -> None:
    browser = sign_up(server, browser=True)
    answer = browser.call("GET", "/api/auth/me", headers={"Authorization": "Bearer nothing"})
    plain_refusal(answer, 401, "unauthenticated")


def test_an_expired_token_says_that_it_can_be_refreshed(database_kind: str) -> None:
    with usher(database_kind, ACCESS_TOKEN_TTL_SECONDS=0.2) as server:
        native, browser = sign_up(server), sign_up(server, browser=True)
        time.sleep(0.25)  # only time expires a token
        plain_refusal(native.get("/api/auth/me"), 401, "token_expired")
        # Its cookie outlives it, so that a browser gets the same error.
        plain_refusal(browser.get("/api/auth/me"), 401, "token_expired")
        # An expired token may still end its session.
        assert native.post("/api/auth/logout").status == 204
        body = {"refresh_token": native.refresh_token}
        plain_refusal(Client(server).post("/api/auth/refresh", body), 401, "unauthenticated")
