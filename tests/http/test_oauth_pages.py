"""A provider sign-in as a browser does it, and its error pages."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from tests.support.checks import rows
from tests.support.provider import Provider, provider
from tests.support.provider_faults import AUTHORIZE_FAULTS, ID_TOKEN_FAULTS, TOKEN_FAULTS
from tests.support.server import (
    Answer,
    Client,
    Usher,
    address,
    connect,
    receive,
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
    refused,
    settings_for,
    sign_in,
)

ALLOWED = "https://app.example"


@pytest.fixture(scope="module")
def shared_op() -> Iterator[Provider]:
    with provider() as running:
        yield running


@pytest.fixture(scope="module")
def server(database_kind: str, shared_op: Provider) -> Iterator[Usher]:
    with usher(database_kind, **settings_for(shared_op), ALLOWED_ORIGINS=ALLOWED) as running:
        yield running


@pytest.fixture
def op(shared_op: Provider) -> Iterator[Provider]:
    """The provider, with somebody new at it."""
    shared_op.user = {
        "sub": address(),
        "email": address(),
        "email_verified": True,
        "name": "Ada Lovelace",
    }
    yield shared_op
    shared_op.behave()


@pytest.fixture
def browser(server: Usher) -> Client:
    return Client(server, browser=True)


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


# ---- what does not come back as it went ------------------------------------------------------


def test_a_state_works_once(op: Provider, browser: Client) -> None:
    url, before = begin(browser), op.count("token")
    kept = dict(browser.cookies)
    way_back = back_from(url)
    assert browser.get(way_back).status == 302
    browser.cookies = kept
    refused(browser.get(way_back), 400, "stale")
    assert op.count("token") == before + 1


def test_a_state_of_another_browser_is_not_accepted(
    server: Usher, op: Provider, browser: Client
) -> None:
    mine, theirs = begin(browser), Client(server, browser=True)
    begin(theirs)
    before = op.count("token")
    refused(theirs.get(back_from(mine)), 400, "stale")
    assert op.count("token") == before
    assert theirs.get("/api/auth/me").status == 401


def test_a_changed_state_is_not_accepted(op: Provider, browser: Client) -> None:
    way_back = back_from(begin(browser))
    refused(browser.get(changed(way_back, state="x" * 43)), 400, "stale")
    refused(browser.get(changed(way_back, state=None)), 400, "stale")


def test_a_cookie_that_was_changed_is_not_accepted(op: Provider, browser: Client) -> None:
    way_back = back_from(begin(browser))
    (name,) = [name for name in browser.cookies if name.startswith("oauth_")]
    browser.cookies[name] = browser.cookies[name][:-6] + "AAAA=="
    refused(browser.get(way_back), 400, "stale")


def test_parameters_that_stand_twice_are_refused(op: Provider, browser: Client) -> None:
    way_back = back_from(begin(browser))
    for name in ("state", "code", "iss"):
        refused(browser.get(f"{way_back}&{name}=again"), 403, "untrusted")


REASONS = {
    "access_denied": (403, "denied"),
    "consent_required": (403, "denied"),
    "error_markup": (403, "refused"),
    "error_unknown": (403, "refused"),
    "interaction_required": (403, "interaction"),
    "invalid_scope": (503, "misconfigured"),
    "login_required": (403, "interaction"),
    "state_missing": (400, "stale"),
    "state_wrong": (400, "stale"),
    "code_wrong": (400, "stale"),
}


@pytest.mark.parametrize("fault", AUTHORIZE_FAULTS)
def test_a_wrong_answer_refuses_the_sign_in(op: Provider, browser: Client, fault: str) -> None:
    op.misbehave(authorize=fault)
    status, code = REASONS.get(fault, (403, "untrusted"))
    words = refused(come_back(browser, begin(browser)), status, code)
    assert "<" not in words
    assert browser.get("/api/auth/me").status == 401


def test_a_denial_without_a_state_is_reported_as_a_denial(browser: Client, op: Provider) -> None:
    words = refused(browser.get(f"{CALLBACK}?error=access_denied"), 403, "denied")
    assert "Mock did not share your account." in words


def test_a_provider_that_has_to_ask_first_is_gone_to_again_and_may_ask(
    op: Provider, browser: Client
) -> None:
    op.misbehave(authorize="login_required")
    answer = come_back(browser, begin(browser))
    refused(answer, 403, "interaction")
    assert f'href="{LOGIN}?prompt=login"' in answer.text.decode()


@pytest.mark.parametrize("fault", ID_TOKEN_FAULTS)
def test_an_invalid_id_token_refuses_the_sign_in(
    op: Provider, browser: Client, server: Usher, fault: str
) -> None:
    op.misbehave(id_token=fault, jwks="oct_key" if fault == "alg_hs256_oct" else ())
    words = refused(come_back(browser, begin(browser)), 403, "untrusted")
    assert "could not be verified" in words
    assert browser.get("/api/auth/me").status == 401
    assert not op.elsewhere.requests
    assert str(op.user["email"]) not in server.log


def test_made_up_codes_are_not_asked_about_for_ever(database_kind: str, op: Provider) -> None:
    with usher(database_kind, **settings_for(op), LIMIT_WRONG_SIGNINS=100) as server:
        browser = Client(server, browser=True)
        before = op.count("token")
        op.misbehave(authorize="code_wrong")
        for _ in range(100):
            refused(come_back(browser, begin(browser)), 400, "stale")
        answer = come_back(browser, begin(browser))
        refused(answer, 429, "too_many")
        assert 3400 < int(answer.headers["Retry-After"]) <= 3600
        assert op.count("token") == before + 100


def test_sign_ins_with_a_provider_count_as_those_of_the_user(
    database_kind: str, op: Provider
) -> None:
    with usher(database_kind, **settings_for(op), LIMIT_SIGNINS=3) as server:
        browser = Client(server, browser=True)
        for _ in range(3):
            assert come_back(browser, begin(browser)).status == 302
        answer = come_back(browser, begin(browser))
        refused(answer, 429, "too_often")
        assert 3500 < int(answer.headers["Retry-After"]) <= 3600
        assert browser.get("/api/auth/me").status == 200, "who is signed in stays so"
        assert len(rows(server, "SELECT 1 FROM login_sessions")) == 3
        op.user = {**op.user, "sub": address(), "email": address()}
        other = Client(server, browser=True)
        assert come_back(other, begin(other)).status == 302


def test_nor_do_other_wrong_answers_fill_the_database(database_kind: str, op: Provider) -> None:
    with usher(database_kind, **settings_for(op), LIMIT_WRONG_SIGNINS=100) as server:
        browser = Client(server, browser=True)
        # One row is of the check of health, which tries whether the database takes writes.
        wait_until(lambda: len(rows(server, "SELECT 1 FROM used_once")) == 1)
        op.misbehave(authorize="access_denied")
        for _ in range(3):
            refused(come_back(browser, begin(browser)), 403, "denied")
        assert len(rows(server, "SELECT 1 FROM used_once")) == 1
        op.misbehave(authorize="iss_wrong")
        for _ in range(100):
            refused(come_back(browser, begin(browser)), 403, "untrusted")
        refused(come_back(browser, begin(browser)), 429, "too_many")
        assert len(rows(server, "SELECT 1 FROM used_once")) == 101


TOKEN_REASONS = {
    "invalid_client": (503, "misconfigured"),
    "invalid_grant": (400, "stale"),
    "invalid_request": (503, "misconfigured"),
    "no_id_token": (403, "untrusted"),
    "refused_empty": (403, "refused"),
}
QUICK = [fault for fault in TOKEN_FAULTS if fault not in ("slow", "held", "drip", "drip_headers")]


@pytest.mark.parametrize("fault", QUICK)
def test_an_error_of_the_token_endpoint_refuses_the_sign_in(
    op: Provider, browser: Client, fault: str
) -> None:
    op.misbehave(token=fault)
    status, code = TOKEN_REASONS.get(fault, (503, "unavailable"))
    refused(come_back(browser, begin(browser)), status, code)
    assert browser.get("/api/auth/me").status == 401
    assert not op.elsewhere.requests


def test_a_key_that_was_changed_while_a_user_signs_in_is_found(
    op: Provider, browser: Client, server: Usher
) -> None:
    sign_in(server)
    url = begin(browser)
    op.misbehave(id_token="key_rotated", times=1)
    assert come_back(browser, url).status == 302


def test_a_key_that_was_changed_is_found_by_tokens_without_a_kid_too(
    op: Provider, server: Usher
) -> None:
    op.misbehave(id_token="kid_missing")
    sign_in(server)
    op.rotate()
    sign_in(server)


# ---- who may ---------------------------------------------------------------------------------


def test_an_address_that_is_only_claimed_does_not_open_the_account(
    server: Usher, op: Provider, browser: Client
) -> None:
    op.user |= {"email": address(), "email_verified": False}
    sign_up(server, email=op.user["email"])
    words = refused(come_back(browser, begin(browser)), 403, "no_account")
    assert "Linked accounts" in words
    assert op.user["email"] not in words


def test_a_user_without_an_address_gets_an_explanation(op: Provider, browser: Client) -> None:
    del op.user["email"]
    refused(come_back(browser, begin(browser)), 403, "no_email")


def test_one_comes_back_to_the_same_account_whatever_the_address_is_now(
    server: Usher, op: Provider
) -> None:
    first = sign_in(server)
    op.user["email"] = address()
    assert sign_in(server).user["id"] == first.user["id"]


def test_the_first_account_is_logged_also_for_a_provider(database_kind: str, op: Provider) -> None:
    with usher(database_kind, **settings_for(op)) as fresh:
        first = sign_in(fresh)
        assert first.user["role"] == "admin"
        said = f"user={first.user['id']} is the administrator: it is the first account of all"
        wait_until(lambda: said in fresh.log)
        sign_in(fresh)
        op.user = {"sub": address(), "email": address(), "email_verified": True, "name": "Bea"}
        assert sign_in(fresh).user["role"] == "user"
        assert fresh.log.count("is the administrator") == 1


def test_a_disabled_account_stays_out(database_kind: str, op: Provider) -> None:
    with usher(database_kind, **settings_for(op)) as fresh:
        admin = sign_up(fresh)
        person = sign_in(fresh)
        path = f"/api/admin/users/{person.user['id']}"
        assert admin.call("PATCH", path, {"disabled": True}).status == 200
        again = Client(fresh, browser=True)
        answer = come_back(again, begin(again))
        refused(answer, 403, "not_allowed")
        another_account = b'href="/oauth/mock/login?prompt=login"'
        assert another_account in answer.text


def test_sign_up_is_a_setting(database_kind: str, op: Provider) -> None:
    rules = {
        "EMAIL_DOMAINS": "heron.example",
        "ROLE_CLAIM": "groups",
        "ROLES": "ops:admin,all:user",
    }
    with usher(database_kind, **settings_for(op, **rules)) as server:
        sign_up(server)  # else the first one would be administrator anyway
        browser = Client(server, browser=True)
        refused(come_back(browser, begin(browser)), 403, "not_allowed")
        op.user |= {"email": "ada@heron.example", "groups": ["none of these"]}
        refused(come_back(browser, begin(browser)), 403, "not_allowed")
        op.user |= {"groups": ["all", "ops"]}
        assert sign_in(server).user["role"] == "admin"
        del op.user["groups"]
        assert sign_in(server).user["role"] == "admin"
        op.user |= {"groups": "all"}
        assert sign_in(server).user["role"] == "user"


def test_no_new_user_if_sign_up_is_off(database_kind: str, op: Provider) -> None:
    with usher(database_kind, **settings_for(op, SIGNUP="false")) as server:
        browser = Client(server, browser=True)
        refused(come_back(browser, begin(browser)), 403, "no_account")


def test_the_log_says_why_without_addresses_codes_or_tokens(
    server: Usher, op: Provider, browser: Client
) -> None:
    op.misbehave(id_token="nonce_wrong")
    way_back = back_from(begin(browser))
    refused(browser.get(way_back), 403, "untrusted")
    wait_until(lambda: "ID token: wrong nonce" in server.log)  # the log is behind the answer
    code = parse_qs(urlsplit(way_back).query)["code"][0]
    for secret in (code, op.user["email"], op.client_secret, *op.access_tokens, *op.id_tokens):
        assert secret not in server.log


def test_sign_ins_are_counted(server: Usher, op: Provider) -> None:
    sign_in(server)
    counted = Client(server).get("/metrics").text.decode()
    assert 'usher_oauth_sign_ins_total{outcome="signed_in",provider="mock"}' in counted


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
