"""A provider sign-in as a browser does it: there and back, by a redirect or a form."""

from __future__ import annotations

from urllib.parse import parse_qs, quote, urlsplit

import pytest

from tests.http.provider_pages import ALLOWED, browser, op, server, shared_op
from tests.support.provider import Provider, provider
from tests.support.server import Answer, Client, Usher, connect, receive, sign_up, usher
from tests.support.sign_in import (
    CALLBACK,
    LOGIN,
    back_from,
    begin,
    come_back,
    refused,
    settings_for,
    sign_in,
)

__all__ = ["browser", "op", "server", "shared_op"]


def test_where_addresses_are_confirmed_first_the_provider_has_to_verify_it(
    database_kind: str, op: Provider
) -> None:
    settings = settings_for(op)
    with usher(database_kind, **settings, EMAIL_VERIFICATION="required") as strict:
        op.user["email_verified"] = False
        browser = Client(strict, browser=True)
        page = refused(come_back(browser, begin(browser)), 403, "email_unverified")
        assert "confirmed first" in page
        op.user["email_verified"] = True
        sign_in(strict)


# ---- there -----------------------------------------------------------------------------------


def test_the_request_has_what_the_protocol_asks_for(
    server: Usher, op: Provider, browser: Client
) -> None:
    url = begin(browser)
    query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    assert url.startswith(op.url("authorize") + "?")
    assert query["redirect_uri"] == f"{server.url}{CALLBACK}"
    assert query["response_type"] == "code"
    assert query["client_id"] == op.client_id
    assert query["code_challenge_method"] == "S256"
    assert len(query["code_challenge"]) == 43
    assert len(query["state"]) >= 43
    assert len(query["nonce"]) >= 43
    assert query["scope"] == "openid email profile"


def test_every_sign_in_has_values_of_its_own(op: Provider, browser: Client) -> None:
    first, second = (parse_qs(urlsplit(begin(browser)).query) for _ in range(2))
    for name in ("state", "nonce", "code_challenge"):
        assert first[name] != second[name]


def test_what_is_in_progress_lies_in_the_browser_and_shows_nothing(
    op: Provider, browser: Client
) -> None:
    answer = browser.get(LOGIN)
    state = parse_qs(urlsplit(answer.headers["Location"]).query)["state"][0]
    [cookie] = answer.headers.get_all("Set-Cookie") or [""]
    assert state not in cookie
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Max-Age=600" in cookie


def test_a_browser_keeps_no_more_than_five_attempts(op: Provider, browser: Client) -> None:
    for _ in range(8):
        begin(browser)
    assert len([name for name in browser.cookies if name.startswith("oauth_")]) == 5


def test_prompt_login_asks_for_a_fresh_sign_in(op: Provider, browser: Client) -> None:
    assert "prompt=login" in begin(browser, f"{LOGIN}?prompt=login")
    assert "prompt" not in begin(browser, f"{LOGIN}?prompt=none")


def test_another_loopback_name_redirects_to_the_registered_one(
    server: Usher, op: Provider, browser: Client
) -> None:
    host = {"Host": f"localhost:{server.port}"}
    answer = browser.call("GET", f"{LOGIN}?next=/x", headers=host)
    assert answer.headers["Location"] == f"{server.url}{LOGIN}?next=/x"
    assert not browser.cookies


@pytest.mark.parametrize("fault", ["http_500", "not_json", "issuer_other", "endpoints_file"])
def test_a_provider_that_is_down_breaks_its_own_button_only(database_kind: str, fault: str) -> None:
    with (
        provider(discovery=fault) as op,
        usher(database_kind, **settings_for(op, TITLE="Mockery")) as server,
    ):
        browser = Client(server, browser=True)
        words = refused(browser.get(LOGIN), 503, "unavailable")
        assert "Mockery is not responding." in words
        assert browser.get("/api/oauth/providers").body["items"][0]["title"] == "Mockery"
        assert browser.get("/readyz").status == 200
        sign_up(server, browser=True)
        op.behave()
        begin(browser)


def test_an_unknown_provider_is_not_found(browser: Client) -> None:
    refused(browser.get("/oauth/nobody/login"), 404, "no_such")
    for query in ("", "?error=access_denied"):
        refused(browser.get(f"/oauth/nobody/callback{query}"), 404, "no_such")


# ---- and back --------------------------------------------------------------------------------


def test_the_callback_ends_on_the_app_signed_in(
    server: Usher, op: Provider, browser: Client
) -> None:
    answer = come_back(browser, begin(browser))
    assert (answer.status, answer.headers["Location"]) == (302, "/")
    assert answer.headers["Cache-Control"] == "no-store"
    cookies = {c.partition("=")[0]: c for c in answer.headers.get_all("Set-Cookie") or ()}
    assert "SameSite=Lax" in cookies["access_token"]
    assert "SameSite=Strict" in cookies["refresh_token"]
    assert "Path=/api/auth" in cookies["refresh_token"]
    me = browser.get("/api/auth/me").body
    assert (me["email"], me["name"]) == (op.user["email"], "Ada Lovelace")
    (session,) = browser.get("/api/sessions").body["items"]
    assert session["method"] == "oauth:mock"
    assert browser.post("/api/auth/refresh").status == 200
    assert not [name for name in browser.cookies if name.startswith("oauth_")]


@pytest.mark.gen_test
async def test_the_socket_identifies_a_user_of_a_provider(server: Usher, op: Provider) -> None:
    browser = sign_in(server)
    async with connect(server, f"?ticket={browser.ticket()}") as socket:
        joined = (await receive(socket))["data"]
        assert joined["user"] == {
            "id": browser.user["id"],
            "name": "Ada Lovelace",
            "role": browser.user["role"],
        }


def test_on_https_every_cookie_has_its_prefix(database_kind: str, op: Provider) -> None:
    with usher(database_kind, **settings_for(op), PUBLIC_URL="https://usher.example") as server:
        browser = Client(server, browser=True)
        url = begin(browser)
        [name] = browser.cookies
        assert name.startswith("__Host-oauth_")
        answer = come_back(browser, url)
        names = {c.partition("=")[0] for c in answer.headers.get_all("Set-Cookie") or ()}
        assert {"__Host-access_token", "__Secure-refresh_token"} <= names
        assert all("Secure" in c for c in answer.headers.get_all("Set-Cookie") or ())


@pytest.mark.parametrize(
    "target",
    ["/", "/#rooms", "/static/?a=b&c=d", f"{ALLOWED}/x", ALLOWED, f"{ALLOWED}?a=//b"],
)
def test_next_is_a_place_here_or_at_an_allowed_origin(
    op: Provider, browser: Client, target: str
) -> None:
    answer = come_back(browser, begin(browser, f"{LOGIN}?next={quote(target, safe='')}"))
    assert answer.headers["Location"] == target


@pytest.mark.parametrize(
    "target",
    [
        "//evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "https://evil.example",
        "https:evil.example",
        "https://app.example.evil.example",
        "https://app.example@evil.example",
        "https://app.example:443@evil.example/",
        "https://app.example\\@evil.example",
        "http://app.example",
        "/\t/evil.example",
        "/\n/evil.example",
        " //evil.example",
        "javascript:alert(1)",
        "javascript://app.example/%0aalert(1)",
        "https://app.example?\r\nX-Evil: 1",
        "https://app.example:1:2",
        "data:text/html,x",
        "app.example",
        "",
        "/a b",
        "/é",
        "/" + "a" * 2000,
    ],
)
def test_next_is_no_open_redirect(op: Provider, browser: Client, target: str) -> None:
    refused(browser.get(f"{LOGIN}?next={quote(target, safe='')}"), 400, "no_such")


# ---- an answer that is posted --------------------------------------------------------------


def posted(browser: Client, path: str, body: str, **headers: str) -> Answer:
    """What a provider's page posts: from another site, and without the cookies of ours."""
    unauthenticated = Client(browser.server)
    form = {"Content-Type": "application/x-www-form-urlencoded", "Origin": "https://idp.example"}
    return unauthenticated.call("POST", path, body.encode(), {**form, **headers})


def test_an_answer_that_is_posted_signs_in_as_one_that_is_navigated_with(
    op: Provider, browser: Client
) -> None:
    way_back = urlsplit(back_from(begin(browser)))
    answer = posted(browser, way_back.path, f"{way_back.query}&user=%7B%7D&session_state=x")
    assert answer.status == 303
    location = answer.headers["Location"]
    assert (urlsplit(location).path, urlsplit(location).netloc) == (CALLBACK, "")
    assert parse_qs(urlsplit(location).query) == parse_qs(way_back.query)
    done = browser.get(location)
    assert (done.status, done.headers["Location"]) == (302, "/")
    assert browser.get("/api/auth/me").body["email"] == op.user["email"]


def test_it_is_valid_only_in_the_browser_that_started_it(op: Provider, browser: Client) -> None:
    way_back = urlsplit(back_from(begin(browser)))
    answer = posted(browser, way_back.path, way_back.query)
    refused(Client(browser.server, browser=True).get(answer.headers["Location"]), 400, "stale")


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        ("state=a&state=b", "application/x-www-form-urlencoded"),
        ("code=" + "c" * 5000, "application/x-www-form-urlencoded"),
    ],
)
def test_repeated_or_oversized_posts_are_not_redirected(
    op: Provider, browser: Client, body: str, media_type: str
) -> None:
    answer = posted(browser, CALLBACK, body, **{"Content-Type": media_type})
    refused(answer, 403, "untrusted")
    assert "Location" not in answer.headers


@pytest.mark.parametrize("body", ["", "code=%0d%0aSet-Cookie:x=1&state=%3C", "a=b&" * 60, "\x00"])
def test_whatever_is_posted_ends_on_the_own_address(
    op: Provider, browser: Client, body: str
) -> None:
    answer = posted(browser, CALLBACK, body)
    assert answer.status == 303
    assert answer.headers["Location"].startswith(f"{CALLBACK}?")
    assert "Set-Cookie" not in answer.headers
    assert browser.get(answer.headers["Location"]).status in (400, 403)


def test_a_refusal_that_is_posted_is_reported_too(op: Provider, browser: Client) -> None:
    answer = posted(browser, CALLBACK, "error=access_denied")
    refused(browser.get(answer.headers["Location"]), 403, "denied")
