"""Sign-ins with a provider that end on a page that says why not, over HTTP."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest

from tests.http.provider_pages import browser, op, server, shared_op
from tests.support.checks import rows
from tests.support.provider import Provider
from tests.support.provider_faults import AUTHORIZE_FAULTS, ID_TOKEN_FAULTS, TOKEN_FAULTS
from tests.support.server import Client, Usher, address, sign_up, usher, wait_until
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

__all__ = ["browser", "op", "server", "shared_op"]

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
