"""Accounts created by a backend, and the links with which their users set a password."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.checks import plain_refusal, problem
from tests.support.raw import assert_quiet
from tests.support.server import (
    PASSWORD,
    Answer,
    Client,
    Usher,
    address,
    bearer,
    connect,
    event,
    log_in,
    sign_up,
    usher,
    wait_until,
)

Installation = tuple[Usher, Client]
USERS, RESET = "/api/admin/users", "/api/auth/password/reset"


@pytest.fixture(scope="module")
def installation(database_kind: str) -> Iterator[Installation]:
    """An Usher and its first administrator."""
    with usher(database_kind) as server:
        yield server, sign_up(server)
        assert_quiet(server.log)


def key(installation: Installation, *scopes: str) -> Client:
    made = installation[1].post("/api/admin/api-keys", {"name": "people", "scopes": scopes})
    return Client(installation[0], token=made.body["key"])


def opened(caller: Client, email: str) -> dict[str, Any]:
    answer = caller.post(USERS, {"email": email, "name": "Grace"})
    assert answer.status == 201, answer
    assert answer.headers["Cache-Control"] == "no-store"
    body: dict[str, Any] = answer.body
    return body


def token_of(server: Usher, url: str) -> str:
    page, _, token = url.partition("#token=")
    assert page == f"{server.pages}/set-password"
    return token


def reset(server: Usher, token: str, password: str = PASSWORD, **headers: str) -> Answer:
    return Client(server).post(RESET, {"token": token, "new_password": password}, **headers)


def audit(admin: Client, kind: str, subject: str) -> list[dict[str, Any]]:
    return list(admin.get(f"/api/admin/audit?kind={kind}&subject={subject}").body["items"])


@pytest.mark.gen_test
async def test_a_key_opens_an_account_and_its_user_sets_passwords_by_links(
    installation: Installation,
) -> None:
    server, admin = installation
    backend, email = key(installation, "users"), address()
    made = opened(backend, f" {email.upper()} ")
    assert (made["user"]["email"], made["user"]["role"]) == (email, "user")
    assert made["user"]["disabled"] is False
    (found,) = backend.get(f"{USERS}?email={email}").body["items"]
    assert found == made["user"]
    token = token_of(server, made["set_password_url"])
    done = reset(server, token)
    assert (done.status, done.text) == (204, b"")
    assert done.headers["Set-Cookie"] is None, "signs nobody in"
    grace = log_in(server, email)
    assert grace.user["id"] == made["user"]["id"]
    async with connect(server, subprotocols=bearer(grace.token)) as socket:
        await event(socket, "joined")
        plain_refusal(reset(server, token), 403, "link_refused")
        assert grace.get("/api/auth/me").status == 200
    wait_until(lambda: bool(audit(admin, "password.reset", grace.user["id"])))
    (row,) = audit(admin, "user.created", grace.user["id"])
    assert row["actor"].startswith("key:")
    assert token not in server.log
    assert email not in server.log


def test_only_administrators_may_create_accounts_too(installation: Installation) -> None:
    server, admin = installation
    assert opened(admin, address())["user"]["role"] == "user"
    body = {"email": address(), "name": "Grace"}
    plain_refusal(sign_up(server).post(USERS, body), 403, "forbidden")
    plain_refusal(key(installation, "read", "channels").post(USERS, body), 403, "forbidden")
    plain_refusal(Client(server).post(USERS, body), 401, "unauthenticated")
    problem(admin.post(USERS, {**body, "email": "x"}), 400, "bad_request")
    problem(admin.post(USERS, {**body, "name": ""}), 400, "bad_request")
    plain_refusal(admin.post(USERS, {**body, "role": "admin"}), 403, "forbidden")
    problem(admin.post(USERS, {**body, "role": "root"}), 400, "bad_request")
    assert admin.get(f"{USERS}?email={body['email']}").body["items"] == []
    assert admin.post(USERS, {**body, "role": "user"}).body["user"]["role"] == "user"


def test_an_address_that_is_accepted_is_said_to_be(installation: Installation) -> None:
    server, admin = installation
    backend, email = key(installation, "users"), address()
    sign_up(server, email=email)
    for taken in (email, email.upper(), admin.user["email"]):
        plain_refusal(backend.post(USERS, {"email": taken, "name": "X"}), 409, "email_taken")


def test_whatever_is_wrong_with_a_link_the_refusal_is_the_same(installation: Installation) -> None:
    server, admin = installation
    used, disabled, deleted = [opened(admin, address()) for _ in range(3)]
    tokens = [token_of(server, each["set_password_url"]) for each in (used, disabled, deleted)]
    assert reset(server, tokens[0]).status == 204
    users = [f"{USERS}/{each['user']['id']}" for each in (used, disabled, deleted)]
    assert admin.call("PATCH", users[1], {"disabled": True}).status == 200
    assert admin.call("DELETE", users[2]).status == 204
    forged = tokens[0][:-1] + ("A" if tokens[0][-1] != "A" else "B")
    refusals = [reset(server, token) for token in (*tokens, forged, "", "x" * 10_000, "é\u0000")]
    for refusal in refusals:
        plain_refusal(refusal, 403, "link_refused")
        assert refusal.headers["WWW-Authenticate"] is None
    assert len({refusal.text for refusal in refusals}) == 1
    # A password is weak only where the link is good: else that would tell.
    plain_refusal(reset(server, tokens[0], "a"), 403, "link_refused")
    problem(Client(server).post(RESET, {"token": tokens[0]}), 400, "bad_request")


def test_a_weak_password_is_explained_and_the_link_stays_valid(installation: Installation) -> None:
    server, admin = installation
    token = token_of(server, opened(admin, address())["set_password_url"])
    refused = problem(reset(server, token, "password123"), 400, "weak_password")
    assert refused["suggestions"]
    assert reset(server, token).status == 204


def test_a_page_of_another_site_sets_no_password(installation: Installation) -> None:
    server, admin = installation
    token = token_of(server, opened(admin, address())["set_password_url"])
    for header in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        plain_refusal(reset(server, token, **header), 403, "origin_refused")
    assert reset(server, token).status == 204


def test_an_account_opened_by_a_key_is_changed_by_it_until_it_is_an_administrators(
    installation: Installation,
) -> None:
    server, admin = installation
    backend = key(installation, "users")
    made = opened(backend, address())
    path = f"{USERS}/{made['user']['id']}"
    assert backend.call("PATCH", path, {"disabled": True}).body["disabled"] is True
    assert backend.call("PATCH", path, {"disabled": False}).body["disabled"] is False
    token = token_of(server, made["set_password_url"])
    plain_refusal(reset(server, token), 403, "link_refused")
    plain_refusal(backend.call("PATCH", path, {"role": "admin"}), 403, "forbidden")
    assert admin.call("PATCH", path, {"role": "admin"}).status == 200
    plain_refusal(backend.call("PATCH", path, {"disabled": True}), 403, "forbidden")


def test_invalid_links_have_an_hourly_limit_and_a_valid_one_is_accepted() -> None:
    with usher("sqlite", LIMIT_WRONG_SIGNINS=3) as server:
        admin = sign_up(server)
        token = token_of(server, opened(admin, address())["set_password_url"])
        statuses = [reset(server, "x").status for _ in range(5)]
        assert statuses == [403, 403, 403, 429, 429]
        refused = reset(server, "x")
        assert 3500 < int(refused.headers["Retry-After"]) <= 3600
        assert reset(server, token).status == 204
        assert reset(server, token).status == 429


def test_the_page_has_the_strict_policy_and_is_not_cached(installation: Installation) -> None:
    answer = Client(installation[0]).get("/set-password")
    assert answer.status == 200
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert Client(installation[0]).call("HEAD", "/set-password").text == b""
