"""Linked accounts, and logout at the provider, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support.checks import plain_refusal, problem, rows
from tests.support.one_provider import op, shared_op
from tests.support.provider import Provider, provider
from tests.support.server import (
    PASSWORD,
    Client,
    Usher,
    address,
    bearer,
    close_code,
    connect,
    log_in,
    receive,
    sign_up,
    usher,
    wait_until,
)
from tests.support.sign_in import begin, come_back, refused, settings_for, sid_of, sign_in

__all__ = ["op", "shared_op"]

ACCOUNTS = "/api/oauth/accounts"
LINK = f"{ACCOUNTS}/mock/link"


@pytest.fixture(scope="module")
def server(database_kind: str, shared_op: Provider) -> Iterator[Usher]:
    with usher(database_kind, **settings_for(shared_op, TITLE="Mockery")) as running:
        yield running


def link(browser: Client, **body: Any) -> str:
    """The first step: where the browser has to go."""
    answer = browser.post(LINK, {"current_password": PASSWORD, **body})
    assert answer.status == 200, answer
    return str(answer.body["location"])


def linked(browser: Client) -> list[Any]:
    answer = browser.get(ACCOUNTS)
    assert answer.status == 200
    items: list[Any] = answer.body["items"]
    return items


# ---- providers -------------------------------------------------------------------------------


def test_anyone_may_ask_which_providers_there_are(server: Usher) -> None:
    assert Client(server).get("/api/oauth/providers").body == {
        "items": [{"name": "mock", "title": "Mockery", "login_url": "/oauth/mock/login"}]
    }


def test_without_providers_the_list_is_empty(database_kind: str) -> None:
    with usher(database_kind) as bare:
        assert Client(bare).get("/api/oauth/providers").body == {"items": []}


# ---- linking ---------------------------------------------------------------------------------


def test_a_linked_account_can_sign_in(server: Usher, op: Provider) -> None:
    browser = sign_up(server, browser=True)
    answer = come_back(browser, link(browser, next="/#here"))
    assert (answer.status, answer.headers["Location"]) == (302, "/#here")
    (account,) = linked(browser)
    assert (account["provider"], account["title"]) == ("mock", "Mockery")
    assert browser.get(ACCOUNTS).body["has_password"] is True
    assert account["email"] == op.user["email"]
    assert sign_in(server).user["id"] == browser.user["id"]


def test_linking_leaves_the_login_session_as_it_is(server: Usher, op: Provider) -> None:
    browser = sign_up(server, browser=True)
    sid = sid_of(browser)
    come_back(browser, link(browser))
    assert sid_of(browser) == sid
    (session,) = browser.get("/api/sessions").body["items"]
    assert session["method"] == "password"


def age(browser: Client) -> None:
    """The browser's sign-in was an hour ago, and its token says so."""
    older = "UPDATE login_sessions SET auth_time = auth_time - 3600 WHERE id = ?"
    rows(browser.server, older, sid_of(browser))
    assert browser.post("/api/auth/refresh", {}).status == 200


def test_linking_asks_for_a_step_up_or_the_password(server: Usher, op: Provider) -> None:
    browser = sign_up(server, browser=True)
    assert browser.post(LINK, {}).status == 200, "a sign-in just made is one"
    age(browser)
    problem(browser.post(LINK, {}), 401, "step_up_needed")
    assert browser.post(LINK, {"current_password": PASSWORD}).status == 200
    answer = browser.post(LINK, {"current_password": "not this one"})
    plain_refusal(answer, 403, "wrong_password")
    assert not op.at("authorize") or not linked(browser)


def test_an_account_without_a_password_needs_a_sign_in_of_just_now(
    server: Usher, op: Provider
) -> None:
    browser = sign_in(server)
    assert browser.get(ACCOUNTS).body["has_password"] is False
    assert browser.post(LINK, {}).status == 200
    age(browser)
    refused = problem(browser.post(LINK, {}), 401, "step_up_needed")
    assert "methods" not in refused, "nothing but another sign-in proves it"
    problem(browser.call("DELETE", f"{ACCOUNTS}/mock"), 401, "step_up_needed")


def test_linking_needs_a_page_of_our_own(server: Usher, op: Provider) -> None:
    browser = sign_up(server, browser=True)
    answer = browser.post(LINK, {"current_password": PASSWORD}, Origin="https://evil.example")
    problem(answer, 403, "origin_refused")


def test_where_linking_ends_is_no_open_redirect(server: Usher, op: Provider) -> None:
    browser = sign_up(server, browser=True)
    body = {"current_password": PASSWORD, "next": "//evil.example"}
    problem(browser.post(LINK, body), 400, "bad_request")


def test_linking_at_the_other_name_of_this_machine_says_where_it_works(
    server: Usher, op: Provider
) -> None:
    """The provider leads back to 127.0.0.1, where the browser has no cookie of localhost."""
    browser = sign_up(server, browser=True)
    body = {"current_password": PASSWORD}
    host = {"Host": f"localhost:{server.port}"}
    answer = browser.call("POST", "/api/oauth/accounts/mock/link", body, host)
    assert server.url in problem(answer, 400, "bad_request")["detail"]


def test_linking_a_provider_that_is_not_there_is_not_found(server: Usher) -> None:
    browser = sign_up(server, browser=True)
    plain_refusal(browser.post(f"{ACCOUNTS}/nobody/link", {}), 404, "not_found")


def test_a_provider_that_is_down_can_not_be_linked_now(database_kind: str) -> None:
    with (
        provider(discovery="http_500") as op,
        usher(database_kind, **settings_for(op)) as server,
    ):
        browser = sign_up(server, browser=True)
        answer = browser.post(LINK, {"current_password": PASSWORD})
        plain_refusal(answer, 503, "provider_unavailable")


def test_another_users_account_there_can_not_be_linked(server: Usher, op: Provider) -> None:
    first, second = (sign_up(server, browser=True) for _ in range(2))
    come_back(first, link(first))
    refused(come_back(second, link(second)), 409, "linked_elsewhere")
    assert not linked(second)


def test_a_second_account_of_one_provider_is_refused(server: Usher, op: Provider) -> None:
    browser = sign_up(server, browser=True)
    come_back(browser, link(browser))
    op.user = {**op.user, "sub": address()}
    refused(come_back(browser, link(browser)), 409, "linked_elsewhere")
    assert len(linked(browser)) == 1


def test_a_user_who_signed_out_meanwhile_links_no_account(server: Usher, op: Provider) -> None:
    browser = sign_up(server, browser=True)
    url = link(browser)
    assert browser.post("/api/auth/logout").status == 204
    refused(come_back(browser, url), 403, "signed_out")
    again = log_in(server, _email(browser), browser=True)
    assert not linked(again)


def test_what_was_begun_with_an_old_password_links_nothing(server: Usher, op: Provider) -> None:
    browser = sign_up(server, browser=True)
    url = link(browser)
    new = {"current_password": PASSWORD, "new_password": f"{PASSWORD}, again"}
    assert browser.post("/api/auth/password", new).status == 204
    refused(come_back(browser, url), 403, "signed_out")
    assert not linked(browser)


def test_a_changed_user_links_no_account(server: Usher, op: Provider) -> None:
    browser, other = (sign_up(server, browser=True) for _ in range(2))
    url = link(browser)
    browser.cookies["access_token"] = other.cookies["access_token"]
    refused(come_back(browser, url), 403, "signed_out")
    assert not linked(other)


def _email(browser: Client) -> str:
    return str(browser.user["email"])


# ---- unlinking -------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_unlinking_ends_what_came_of_the_account_and_gives_its_tokens_back(
    server: Usher, op: Provider
) -> None:
    owner = sign_up(server, browser=True)
    come_back(owner, link(owner))
    came = sign_in(server)
    before = len(op.revoked)
    async with (
        connect(server, f"?ticket={came.ticket()}") as theirs,
        connect(server, f"?ticket={owner.ticket()}") as mine,
    ):
        for socket in (theirs, mine):
            assert (await receive(socket))["event"] == "joined"
        assert owner.call("DELETE", f"{ACCOUNTS}/mock").status == 204
        assert await close_code(theirs) == 4410
        await mine.ping()
    assert came.get("/api/auth/me").status == 401
    assert owner.get("/api/auth/me").status == 200
    assert not linked(owner)
    wait_until(lambda: len(op.revoked) == before + 2)
    assert rows(server, "SELECT 1 FROM oauth_tokens WHERE user_id = ?", owner.user["id"]) == []


def test_the_last_sign_in_method_cannot_be_removed(server: Usher, op: Provider) -> None:
    browser = sign_in(server)
    plain_refusal(browser.call("DELETE", f"{ACCOUNTS}/mock"), 409, "last_way_in")
    assert browser.get("/api/auth/me").status == 200


def test_unlinking_the_account_of_the_session_signs_out(server: Usher, op: Provider) -> None:
    owner = sign_up(server, browser=True)
    come_back(owner, link(owner))
    came = sign_in(server)
    answer = came.call("DELETE", f"{ACCOUNTS}/mock")
    assert answer.status == 204
    assert "access_token" not in came.cookies


def test_unlinking_what_is_not_linked_is_not_found(server: Usher) -> None:
    browser = sign_up(server, browser=True)
    plain_refusal(browser.call("DELETE", f"{ACCOUNTS}/mock"), 404, "not_found")


def test_deleting_an_account_gives_its_tokens_back(database_kind: str, op: Provider) -> None:
    with usher(database_kind, **settings_for(op)) as fresh:
        admin, person = sign_up(fresh), sign_in(fresh)
        before = len(op.revoked)
        path = f"/api/admin/users/{person.user['id']}"
        assert admin.call("DELETE", path).status == 204
        wait_until(lambda: len(op.revoked) == before + 1)
        for table in ("identities", "oauth_tokens"):
            assert rows(fresh, f"SELECT 1 FROM {table}") == []


# ---- a first password ------------------------------------------------------------------------


def test_a_provider_user_may_set_a_password_and_then_unlink(server: Usher, op: Provider) -> None:
    browser = sign_in(server)
    path = "/api/auth/password"
    assert problem(browser.post(path, {"new_password": "short"}), 400, "weak_password")
    assert browser.post(path, {"new_password": PASSWORD}).status == 204
    assert browser.get("/api/auth/me").status == 200
    assert browser.get(ACCOUNTS).body["has_password"] is True
    assert log_in(server, _email(browser)).user["id"] == browser.user["id"]
    plain_refusal(browser.post(path, {"new_password": PASSWORD}), 403, "reauthentication_needed")
    assert browser.call("DELETE", f"{ACCOUNTS}/mock").status == 204


def test_a_first_password_needs_a_sign_in_of_just_now(server: Usher, op: Provider) -> None:
    browser = sign_in(server)
    age(browser)
    answer = browser.post("/api/auth/password", {"new_password": PASSWORD})
    problem(answer, 401, "step_up_needed")
    assert browser.get(ACCOUNTS).body["has_password"] is False


# ---- signing out there too -------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_logout_at_the_provider_returns_its_url(server: Usher, op: Provider) -> None:
    browser = sign_in(server)
    async with connect(server, f"?ticket={browser.ticket()}") as socket:
        assert (await receive(socket))["event"] == "joined"
        answer = browser.post("/api/oauth/logout")
        assert answer.status == 200
        assert await close_code(socket) == 4410
    assert "access_token" not in browser.cookies
    url = urlsplit(answer.body["location"])
    query = {name: values[0] for name, values in parse_qs(url.query).items()}
    assert answer.body["location"].startswith(op.url("end_session"))
    assert query == {
        "client_id": op.client_id,
        "id_token_hint": op.id_tokens[-1],
        "post_logout_redirect_uri": f"{server.url}/",
    }


def test_an_old_token_of_an_ended_session_learns_nothing(database_kind: str) -> None:
    with (
        provider() as op,
        usher(database_kind, **settings_for(op), ACCESS_TOKEN_TTL_SECONDS=1) as server,
    ):
        browser = sign_in(server)
        thief = Client(server, browser=True, cookies=dict(browser.cookies))
        assert browser.post("/api/auth/logout").status == 204
        wait_until(lambda: thief.get("/api/auth/me").body["code"] == "token_expired")
        answer = thief.post("/api/oauth/logout")
        assert (answer.status, answer.body) == (200, {"location": None})


def test_a_session_by_password_has_no_provider_logout(server: Usher) -> None:
    browser = sign_up(server, browser=True)
    answer = browser.post("/api/oauth/logout")
    assert (answer.status, answer.body) == (200, {"location": None})
    assert browser.get("/api/auth/me").status == 401


def test_a_provider_that_is_down_prevents_no_sign_out(database_kind: str) -> None:
    with (
        provider(discovery_cache="max-age=1") as op,
        usher(database_kind, **settings_for(op)) as server,
    ):
        browser = sign_in(server)
        op.misbehave(discovery="http_500")
        answer = browser.post("/api/oauth/logout")
        assert answer.status == 200
        assert browser.get("/api/auth/me").status == 401


# ---- native clients --------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_native_client_sees_and_unlinks_its_accounts_too(
    server: Usher, op: Provider
) -> None:
    browser = sign_up(server, browser=True)
    come_back(browser, link(browser))
    native = log_in(server, _email(browser))
    async with connect(server, subprotocols=bearer(native.token)) as socket:
        assert (await receive(socket))["event"] == "joined"
        assert [a["provider"] for a in linked(native)] == ["mock"]
        assert native.call("DELETE", f"{ACCOUNTS}/mock").status == 204
        await socket.ping()


def test_linked_accounts_require_a_sign_in(server: Usher) -> None:
    for method, path in (("GET", ACCOUNTS), ("POST", LINK), ("DELETE", f"{ACCOUNTS}/mock")):
        plain_refusal(Client(server).call(method, path), 401, "unauthenticated")


def test_an_unlinked_account_can_be_linked_again(server: Usher, op: Provider) -> None:
    browser = sign_up(server, browser=True)
    for _ in range(2):
        come_back(browser, link(browser))
        assert browser.call("DELETE", f"{ACCOUNTS}/mock").status == 204
    assert not linked(browser)
    unauthenticated = Client(server, browser=True)
    come_back(unauthenticated, begin(unauthenticated))
    assert unauthenticated.get("/api/auth/me").body["id"] != browser.user["id"]
