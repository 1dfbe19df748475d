"""Native sign-in over HTTP (RFC 8252, RFC 7636): by the bundled page and by a provider."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import quote, urlencode

import jwt
import pytest

from tests.support.checks import plain_refusal, problem, rows
from tests.support.native import LOOPBACK, App
from tests.support.one_provider import op, shared_op
from tests.support.provider import Provider
from tests.support.server import (
    Client,
    Usher,
    bearer,
    close_code,
    connect,
    event,
    log_in,
    sign_up,
    usher,
    wait_until,
)
from tests.support.sign_in import (
    CALLBACK,
    LOGIN,
    back_from,
    begin,
    changed,
    come_back,
    log_out_there,
    refused,
    settings_for,
)

__all__ = ["op", "shared_op"]

ALLOWED = "https://app.example"
SCHEME = "com.example.app:/callback"


@pytest.fixture(scope="module")
def server(shared_op: Provider) -> Iterator[Usher]:
    """On SQLite only: tests/native/test_codes.py has the rows, on both."""
    chosen = settings_for(shared_op)
    with usher("sqlite", **chosen, ALLOWED_ORIGINS=ALLOWED, NATIVE_REDIRECT_URIS=SCHEME) as running:
        sign_up(running)
        yield running


@pytest.fixture
def app(server: Usher) -> App:
    return App(server)


@pytest.fixture
def browser(server: Usher) -> Client:
    """A browser in which somebody new is signed in."""
    return sign_up(server, browser=True)


@pytest.fixture
def unauthenticated(server: Usher) -> Client:
    """A browser in which nobody is."""
    return Client(server, browser=True)


def jwt_sid(token: str) -> str:
    return str(jwt.decode(token, options={"verify_signature": False})["sid"])


# ---- the code and what it is good for --------------------------------------------------------


def test_a_code_is_exchanged_for_what_a_native_login_gives(app: App, browser: Client) -> None:
    answer = app.exchange(app.code_from(browser))
    assert answer.status == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers.get_all("Set-Cookie") is None
    members = {"user", "access_token", "token_type", "expires_in", "refresh_token", "device"}
    assert set(answer.body) == members
    assert answer.body["user"] == browser.user
    client = Client(app.server, answer.body["access_token"], answer.body["refresh_token"])
    assert client.get("/api/auth/me").body == browser.user
    items = {item["current"]: item for item in client.get("/api/sessions").body["items"]}
    assert items[True]["client"] == "native"
    assert items[True]["device"].startswith("Python-urllib")
    assert items[False]["client"] == "browser"
    refreshed = client.post("/api/auth/refresh", {"refresh_token": client.refresh_token})
    assert refreshed.status == 200


def test_the_device_that_came_by_a_code_is_known_from_then_on(
    app: App, browser: Client, server: Usher
) -> None:
    device = app.exchange(app.code_from(browser)).body["device"]
    body = {"email": browser.user["email"], "password": "wrong", "device": device}
    assert Client(server).post("/api/auth/login", body).status == 401


@pytest.mark.parametrize("uri", [SCHEME, "http://[::1]:1/x?app=1", "http://127.0.0.1:8080"])
def test_the_response_is_sent_to_the_redirect_uri(server: Usher, browser: Client, uri: str) -> None:
    app = App(server, uri)
    location = browser.post("/api/auth/native-code", app.query).body["location"]
    assert location.startswith(uri)
    assert "iss=http%3A%2F%2F127.0.0.1" in location


@pytest.mark.gen_test
async def test_used_twice_the_session_ends_with_its_sockets(app: App, browser: Client) -> None:
    code = app.code_from(browser)
    token = app.exchange(code).body["access_token"]
    async with connect(app.server, subprotocols=bearer(token)) as socket:
        await event(socket, "joined")
        problem(app.exchange(code), 401, "unauthenticated")
        assert await close_code(socket) == 4410
    assert Client(app.server, token).get("/api/auth/me").status == 401
    assert browser.get("/api/auth/me").status == 200, "the browser's own goes on"


def test_a_refusal_does_not_say_what_was_wrong(app: App, browser: Client) -> None:
    other = App(app.server)
    refusals = [
        app.exchange("usher_nc_made_up"),
        app.exchange(app.code_from(browser), code_verifier=other.verifier),
        app.exchange(app.code_from(browser), redirect_uri=LOOPBACK + "2"),
    ]
    code = app.code_from(browser)
    app.exchange(code)
    refusals.append(app.exchange(code))
    assert {answer.status for answer in refusals} == {401}
    assert len({answer.text for answer in refusals}) == 1
    assert refusals[0].body["error"] == "invalid_grant"


@pytest.mark.parametrize(
    "body", [{}, {"code": "x"}, {"code": 1, "code_verifier": "x", "redirect_uri": "x"}, []]
)
def test_an_exchange_needs_its_members(server: Usher, body: object) -> None:
    answer = Client(server).post("/api/auth/exchange", body)
    problem(answer, 400, "bad_request")


def test_no_code_lies_in_the_log_or_the_database(app: App, browser: Client) -> None:
    code = app.code_from(browser)
    session = jwt_sid(app.exchange(code).body["access_token"])
    wait_until(lambda: re.search(f"session.exchanged.*session={session}", app.server.log))
    assert code not in app.server.log
    assert code not in repr(rows(app.server, "SELECT * FROM native_codes"))


# ---- who may ask for one ---------------------------------------------------------------------


def test_a_page_of_another_origin_gets_none_though_it_may_use_the_cookies(
    app: App, browser: Client
) -> None:
    for headers in (
        {"Origin": ALLOWED},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": ALLOWED, "Sec-Fetch-Site": "same-origin"},
    ):
        answer = browser.post("/api/auth/native-code", app.query, **headers)
        plain_refusal(answer, 403, "origin_refused")
    assert browser.call("GET", "/api/auth/me", headers={"Origin": ALLOWED}).status == 200


def test_a_request_without_a_sign_of_its_page_gets_none(app: App, browser: Client) -> None:
    program = Client(app.server, cookies=browser.cookies)
    plain_refusal(program.post("/api/auth/native-code", app.query), 403, "origin_refused")
    same = {"Sec-Fetch-Site": "same-origin"}
    assert program.post("/api/auth/native-code", app.query, **same).status == 200


def test_a_bearer_token_does_not_become_a_session_that_outlives_it(
    app: App, browser: Client, server: Usher
) -> None:
    own = {"Origin": server.origin}
    native = log_in(server, browser.user["email"])
    plain_refusal(native.post("/api/auth/native-code", app.query, **own), 403, "forbidden")
    leaked = Client(server, browser=True, cookies={"access_token": str(native.token)})
    plain_refusal(leaked.post("/api/auth/native-code", app.query), 401, "unauthenticated")
    leaked.cookies["refresh_token"] = browser.cookies["refresh_token"]
    plain_refusal(leaked.post("/api/auth/native-code", app.query), 401, "unauthenticated")


def test_without_a_sign_in_there_is_none(app: App, unauthenticated: Client) -> None:
    plain_refusal(unauthenticated.post("/api/auth/native-code", app.query), 401, "unauthenticated")


@pytest.mark.parametrize(
    "change",
    [
        {"redirect_uri": "https://evil.example/"},
        {"redirect_uri": "http://localhost:1/"},
        {"code_challenge": "x"},
        {"code_challenge_method": "plain"},
        {"state": "x" * 300},
    ],
)
def test_an_invalid_request_of_the_page_is_bad_request(
    app: App, browser: Client, change: dict[str, str]
) -> None:
    answer = browser.post("/api/auth/native-code", {**app.query, **change})
    problem(answer, 400, "bad_request")
    assert answer.body["detail"].startswith(next(iter(change)))


# ---- by a provider ---------------------------------------------------------------------------


def test_a_sign_in_by_a_provider_ends_at_the_app(
    app: App, op: Provider, unauthenticated: Client
) -> None:
    answer = come_back(unauthenticated, begin(unauthenticated, app.at(LOGIN)))
    assert answer.status == 302
    assert answer.headers["Cache-Control"] == "no-store"
    said = app.said(answer.headers["Location"])
    assert set(said) == {"code"}
    assert unauthenticated.cookies == {}, "the browser itself is not signed in"
    came = app.exchange(said["code"])
    assert came.status == 200
    assert came.body["user"]["email"] == op.user["email"]
    client = Client(app.server, came.body["access_token"])
    [session] = client.get("/api/sessions").body["items"]
    assert (session["method"], session["client"]) == ("oauth:mock", "native")
    assert session["device"].startswith("Python-urllib")
    assert log_out_there(app.server, op.logout_token()).status == 200
    assert client.get("/api/auth/me").status == 401


def test_the_session_has_no_tokens_before_the_code_is_exchanged(
    app: App, op: Provider, unauthenticated: Client
) -> None:
    come_back(unauthenticated, begin(unauthenticated, app.at(LOGIN)))
    [(user,)] = rows(app.server, "SELECT id FROM users WHERE email = ?", op.user["email"])
    mine = "SELECT id, expires_at - created_at FROM login_sessions WHERE user_id = ?"
    [(session, seconds)] = rows(app.server, mine, user)
    assert seconds < 70
    tokens = "SELECT hash FROM refresh_tokens WHERE session_id = ?"
    assert rows(app.server, tokens, session) == []


def test_a_refusal_of_the_provider_is_reported_to_the_app(
    app: App, op: Provider, unauthenticated: Client
) -> None:
    way = changed(
        back_from(begin(unauthenticated, app.at(LOGIN))), code=None, error="access_denied"
    )
    answer = unauthenticated.get(way)
    assert answer.status == 302
    said = app.said(answer.headers["Location"])
    assert said == {"error": "access_denied", "error_description": "denied"}


def test_a_denial_without_a_state_is_reported_to_the_app_too(
    app: App, op: Provider, unauthenticated: Client
) -> None:
    begin(unauthenticated, app.at(LOGIN))
    denied = f"{CALLBACK}?error=access_denied"
    assert app.said(unauthenticated.get(denied).headers["Location"])["error"] == "access_denied"
    begin(unauthenticated, f"{LOGIN}?next=/x")
    refused(unauthenticated.get(denied), 403, "denied")  # of two, it is the one begun last


def test_a_no_leads_back_to_where_the_sign_in_was_to_end(
    op: Provider, unauthenticated: Client
) -> None:
    begin(unauthenticated, f"{LOGIN}?next={ALLOWED}/board")
    page = unauthenticated.get(f"{CALLBACK}?error=access_denied").text.decode()
    assert f'href="{LOGIN}?next={quote(ALLOWED, safe="")}%2Fboard"' in page
    assert f'href="/sign-in?next={quote(ALLOWED, safe="")}%2Fboard"' in page


def test_a_disabled_account_is_reported_to_the_app(
    app: App, op: Provider, unauthenticated: Client, server: Usher
) -> None:
    come_back(unauthenticated, begin(unauthenticated))
    rows(server, "UPDATE users SET disabled_at = 1 WHERE email = ?", op.user["email"])
    answer = come_back(unauthenticated, begin(unauthenticated, app.at(LOGIN)))
    said = app.said(answer.headers["Location"])
    assert said == {"error": "access_denied", "error_description": "not_allowed"}


def test_a_repeated_callback_is_reported_to_the_app(
    app: App, op: Provider, unauthenticated: Client
) -> None:
    way = back_from(begin(unauthenticated, app.at(LOGIN)))
    kept = dict(unauthenticated.cookies)
    assert "code" in app.said(unauthenticated.get(way).headers["Location"])
    unauthenticated.cookies |= kept
    said = app.said(unauthenticated.get(way).headers["Location"])
    assert said == {"error": "access_denied", "error_description": "stale"}


def test_a_provider_timeout_is_reported_to_the_app(
    app: App, op: Provider, unauthenticated: Client
) -> None:
    way = back_from(begin(unauthenticated, app.at(LOGIN)))
    op.misbehave(token="http_500")
    said = app.said(unauthenticated.get(way).headers["Location"])
    assert said == {"error": "temporarily_unavailable", "error_description": "unavailable"}


def test_a_response_for_another_browser_is_sent_to_no_app(
    app: App, op: Provider, unauthenticated: Client
) -> None:
    way = back_from(begin(unauthenticated, app.at(LOGIN)))
    refused(Client(app.server, browser=True).get(way), 400, "stale")
    refused(unauthenticated.get(changed(way, state="another")), 400, "stale")


def test_errors_in_the_request_are_reported_to_the_app(app: App, unauthenticated: Client) -> None:
    for change in ({"code_challenge": "x"}, {"code_challenge_method": "plain"}):
        answer = unauthenticated.get(app.at(LOGIN, **change))
        assert answer.status == 302
        assert app.said(answer.headers["Location"])["error"] == "invalid_request"
    answer = unauthenticated.get(app.at("/oauth/nobody/login"))
    assert app.said(answer.headers["Location"])["error"] == "invalid_request"
    twice = f"{app.at(LOGIN)}&{urlencode({'code_challenge': 'x'})}"
    assert app.said(unauthenticated.get(twice).headers["Location"])["error"] == "invalid_request"


@pytest.mark.parametrize(
    "uri",
    ["", "https://evil.example/", "http://localhost:1/", "//evil.example", "com.example.other:/"],
)
def test_nothing_is_sent_to_a_redirect_uri_that_is_not_accepted(
    app: App, unauthenticated: Client, uri: str
) -> None:
    for path in (LOGIN, "/sign-in"):
        words = refused(unauthenticated.get(app.at(path, redirect_uri=uri)), 400, "no_app")
        assert "evil" not in words


def test_bytes_that_are_no_text_are_no_request(app: App, unauthenticated: Client) -> None:
    for path in (LOGIN, "/sign-in"):
        refused(unauthenticated.get(f"{path}?client=native&redirect_uri=%ff"), 400, "no_app")
        answer = unauthenticated.get(app.at(path, state="_").replace("state=_", "state=%ff"))
        assert "error=invalid_request" in answer.headers["Location"]
    assert unauthenticated.get("/sign-in?client=%ff").status == 200


def test_a_link_on_another_site_leads_to_the_page_that_says_which_app_asks(
    app: App, op: Provider, unauthenticated: Client
) -> None:
    for site in ("cross-site", "same-site"):
        answer = unauthenticated.call("GET", app.at(LOGIN), headers={"Sec-Fetch-Site": site})
        assert (answer.status, answer.headers["Location"]) == (302, app.at("/sign-in"))
    for site in ("none", "same-origin"):
        answer = unauthenticated.call("GET", app.at(LOGIN), headers={"Sec-Fetch-Site": site})
        assert answer.headers["Location"].startswith(op.url("authorize"))


def test_a_browser_that_signs_in_for_itself_is_signed_in_as_before(
    op: Provider, unauthenticated: Client
) -> None:
    answer = come_back(unauthenticated, begin(unauthenticated))
    assert answer.headers["Location"] == "/"
    assert "access_token" in unauthenticated.cookies
    refused(unauthenticated.get(f"{CALLBACK}?error=access_denied"), 403, "denied")
