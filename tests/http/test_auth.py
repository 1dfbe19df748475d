"""Signing up, in and out, tokens and passwords over HTTP, as the contract has them."""

from __future__ import annotations

import asyncio
import http.client
import json
import time
from collections.abc import Iterator
from http.cookies import SimpleCookie
from typing import Any

import jwt
import pytest

from tests.support.checks import plain_refusal, problem
from tests.support.flood import cpu_seconds
from tests.support.server import (
    PASSWORD,
    Answer,
    Client,
    Usher,
    address,
    log_in,
    new_token,
    sign_up,
    usher,
)

OTHER_PASSWORD = "nine slow barges 41"
ALLOWED = "https://app.example.org"
PUBLIC = "https://usher.example.org"


@pytest.fixture(scope="module")
def behind_https(database_kind: str) -> Iterator[Usher]:
    """An Usher that browsers reach by https, with one more origin allowed."""
    with usher(database_kind, PUBLIC_URL=PUBLIC, ALLOWED_ORIGINS=ALLOWED) as server:
        yield server


def cookies_of(answer: Answer) -> dict[str, dict[str, Any]]:
    """The cookies an answer sets: name to value and attributes."""
    found: dict[str, dict[str, Any]] = {}
    for header in answer.headers.get_all("Set-Cookie") or ():
        for name, morsel in SimpleCookie(header).items():
            assert name not in found, "set twice"
            found[name] = {"value": morsel.value, **{k: v for k, v in morsel.items() if v}}
    return found


def credentials(email: str, **more: Any) -> dict[str, Any]:
    return {"email": email, "password": PASSWORD, **more}


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


# ---- signing up -----------------------------------------------------------------------------


def test_the_very_first_account_is_admin_and_later_ones_are_users(database_kind: str) -> None:
    with usher(database_kind) as server:
        first, second = sign_up(server), sign_up(server)
        assert first.user["role"] == "admin"
        assert second.user["role"] == "user"
        assert first.get("/api/auth/me").body["role"] == "admin"
        assert second.get("/api/auth/me").body["role"] == "user"


@pytest.mark.parametrize("change", [str, str.upper, str.title, " {} ".format])
def test_an_address_has_one_account_however_it_is_spelt(server: Usher, change: Any) -> None:
    email = address()
    sign_up(server, email=email)
    body = credentials(change(email), name="Eve", client="native")
    plain_refusal(Client(server).post("/api/auth/signup", body), 409, "signup_refused")
    assert log_in(server, change(email)).user["email"] == email


@pytest.mark.parametrize("password", ["short 7", "password1", "12345678", "qwertyuiop", "Ada Ada"])
def test_a_weak_password_is_refused_with_advice(server: Usher, password: str) -> None:
    body = {"email": address(), "password": password, "name": "Ada", "client": "native"}
    answer = Client(server).post("/api/auth/signup", body)
    reported = problem(answer, 400, "weak_password")
    assert reported["suggestions"]
    assert all(isinstance(text, str) and text for text in reported["suggestions"])
    assert password.encode() not in answer.text


def test_the_own_address_is_no_password(server: Usher) -> None:
    email = address()
    body = {"email": email, "password": email, "name": "Ada"}
    problem(Client(server).post("/api/auth/signup", body), 400, "weak_password")


@pytest.mark.parametrize(
    "password", [OTHER_PASSWORD * 50, "ключ под старым 海 камнем", " 5 mild otters "]
)
def test_long_and_unusual_passwords_are_accepted_as_they_are(server: Usher, password: str) -> None:
    email = address()
    body = {"email": email, "password": password, "name": "Ada", "client": "native"}
    assert Client(server).post("/api/auth/signup", body).status == 201
    log_in(server, email, password=password)
    body = {"email": email, "password": password[:-1] + "!", "client": "native"}
    plain_refusal(Client(server).post("/api/auth/login", body), 401, "unauthenticated")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("email", ""),
        ("email", "nobody"),
        ("email", "a b@example.org"),
        ("email", "a@b@example.org"),
        ("email", "x" * 250 + "@example.org"),
        ("name", ""),
        ("name", "   "),
        ("name", "x" * 101),
        ("name", "Ada\nEve"),
        ("name", "Ada\u202eevE"),
    ],
)
def test_an_invalid_address_or_name_is_a_bad_request(server: Usher, field: str, value: str) -> None:
    body = credentials(address(), name="Ada") | {field: value}
    reported = problem(Client(server).post("/api/auth/signup", body), 400, "bad_request")
    assert reported["field"] == field
    assert reported["detail"].startswith(f"{field}: ")


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


# ---- changing the password ------------------------------------------------------------------


def test_a_new_password_counts_and_the_old_one_does_not(server: Usher) -> None:
    email = address()
    client = sign_up(server, email=email)
    body = {"current_password": PASSWORD, "new_password": OTHER_PASSWORD}
    answer = client.post("/api/auth/password", body)
    assert (answer.status, answer.text) == (204, b"")
    log_in(server, email, password=OTHER_PASSWORD)
    plain_refusal(
        Client(server).post("/api/auth/login", credentials(email)), 401, "unauthenticated"
    )


def test_a_new_password_ends_every_other_session_and_not_this_one(server: Usher) -> None:
    email = address()
    client = sign_up(server, email=email)
    others = [log_in(server, email), log_in(server, email, browser=True)]
    body = {"current_password": PASSWORD, "new_password": OTHER_PASSWORD}
    assert client.post("/api/auth/password", body).status == 204
    for other in others:
        plain_refusal(other.get("/api/auth/me"), 401, "unauthenticated")
    assert client.get("/api/auth/me").status == 200
    assert Client(server, token=new_token(client)).get("/api/auth/me").status == 200


def test_a_new_password_needs_the_current_one(server: Usher) -> None:
    email = address()
    client, other = sign_up(server, email=email), log_in(server, email)
    body = {"current_password": OTHER_PASSWORD, "new_password": "three quick swans 9"}
    plain_refusal(client.post("/api/auth/password", body), 403, "wrong_password")
    assert other.get("/api/auth/me").status == 200
    log_in(server, email)


def test_a_weak_new_password_is_refused_and_changes_nothing(server: Usher) -> None:
    email = address()
    client, other = sign_up(server, email=email), log_in(server, email)
    body = {"current_password": PASSWORD, "new_password": "password1"}
    problem(client.post("/api/auth/password", body), 400, "weak_password")
    assert other.get("/api/auth/me").status == 200
    log_in(server, email)


def test_a_new_password_needs_a_credential(server: Usher) -> None:
    body = {"current_password": PASSWORD, "new_password": OTHER_PASSWORD}
    plain_refusal(Client(server).post("/api/auth/password", body), 401, "unauthenticated")


# ---- what is not a good request -------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nonsense",
        b"\xff\xfe",
        b"[]",
        b"null",
        b'"text"',
        b"{}",
        b'{"email": "a@example.org"}',
        b'{"email": 1, "password": "x"}',
        b'{"email": "a@example.org", "password": null}',
        b'{"email": "a@example.org", "password": ["x"]}',
        b'{"email": "a@example.org", "password": "x", "client": "toaster"}',
        b'{"email": "a@example.org", "password": "x", "client": null}',
        b'{"email": "a@example.org", "password": "\\ud800x"} x',
        b"[" * 30_000,
        b'{"email":' * 7_000,
    ],
    ids=lambda body: body[:40].decode("latin-1"),
)
def test_invalid_json_is_a_bad_request(server: Usher, body: bytes) -> None:
    problem(Client(server).call("POST", "/api/auth/login", body), 400, "bad_request")


def test_an_error_does_not_repeat_the_request(server: Usher) -> None:
    body = b'{"email": {"x": "secret@example.org"}, "password": "hunter2hunter2"}'
    answer = Client(server).call("POST", "/api/auth/login", body)
    problem(answer, 400, "bad_request")
    assert b"secret" not in answer.text
    assert b"hunter2" not in answer.text


def test_members_that_a_call_does_not_know_are_passed_over(server: Usher) -> None:
    body = credentials(address(), name="Ada", client="native", remember=True, role="admin")
    sign_up(server)  # so that nobody here is the first
    answer = Client(server).post("/api/auth/signup", body)
    assert answer.status == 201
    assert answer.body["user"]["role"] == "user"


def test_the_caller_is_checked_before_the_body(server: Usher) -> None:
    answer = Client(server).call("POST", "/api/auth/password", b"nonsense")
    plain_refusal(answer, 401, "unauthenticated")


def test_a_huge_body_is_refused_by_its_announcement(server: Usher) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.putrequest("POST", "/api/auth/login")
        connection.putheader("Content-Length", str(10**9))
        connection.endheaders()
        answered = connection.getresponse()
        assert answered.status == 413
        assert answered.headers["Content-Type"] == "application/problem+json"
        assert json.loads(answered.read())["code"] == "too_large"
    finally:
        connection.close()


def test_a_huge_body_without_an_announcement_is_not_read_to_its_end(server: Usher) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    chunk = b"x" * 16_384
    sent = 0
    try:
        connection.putrequest("POST", "/api/auth/login")
        connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders()
        while sent < 64 * 1024 * 1024:
            connection.send(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            sent += len(chunk)
    except (BrokenPipeError, ConnectionResetError):
        pass
    finally:
        connection.close()
    assert sent < 64 * 1024 * 1024
    assert Client(server).get("/healthz").status == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/auth/login"),
        ("DELETE", "/api/auth/refresh"),
        ("PUT", "/api/auth/password"),
        ("GET", "/api/ws/ticket"),
        ("POST", "/api/sessions"),
        ("BREW", "/api/auth/me"),
        ("POST", "/healthz"),
    ],
)
def test_another_method_is_refused_with_those_that_are_accepted(
    server: Usher, method: str, path: str
) -> None:
    answer = Client(server).call(method, path)
    plain_refusal(answer, 405, "method_not_allowed")
    allowed = answer.headers["Allow"].split(", ")
    assert method not in allowed
    assert Client(server).call(allowed[0], path).status != 405
    assert ("HEAD" in allowed) == ("GET" in allowed)


def test_head_is_get_without_a_body(server: Usher) -> None:
    client = sign_up(server)
    got, head = client.get("/api/auth/me"), client.call("HEAD", "/api/auth/me")
    assert (head.status, head.text) == (200, b"")
    assert head.headers["Content-Length"] == str(len(got.text))
    assert Client(server).call("HEAD", "/api/auth/me").status == 401


@pytest.mark.parametrize(
    "path",
    [
        "/nope",
        "/api",
        "/api/",
        "/api/auth",
        "/api/auth/me/",
        "/API/AUTH/ME",
        "//api/auth/me",
        "/api/auth/me%00",
        "/api/sessions/" + "x" * 65,
        "/api/sessions/a%2fb",
        "/ws/",
        "/.env",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_an_unknown_route_is_not_found(server: Usher, method: str, path: str) -> None:
    plain_refusal(Client(server).call(method, path), 404, "not_found")


def test_a_thousand_invalid_requests_on_one_connection_affect_no_other(server: Usher) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        for number in range(1000):
            connection.request("POST", "/api/auth/login", b"{" * (number % 50))
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 400
    finally:
        connection.close()


@pytest.mark.gen_test
async def test_answers_are_json_in_the_encoding_of_json(server: Usher) -> None:
    body = credentials(address(), name="Ада 海 🦉", client="native")
    answer = await asyncio.to_thread(Client(server).post, "/api/auth/signup", body)
    assert answer.body["user"]["name"] == "Ада 海 🦉"
    assert json.loads(answer.text.decode("utf-8")) == answer.body
