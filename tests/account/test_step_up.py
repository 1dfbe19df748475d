"""Calls that require a recent authentication, over HTTP (RFC 9470)."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor

import jwt
import pyotp
import pytest

from handlers.operations import Operation
from handlers.routes import API_ROUTES
from services.errors import StepUpNeeded
from tests.support.checks import problem, rows
from tests.support.databases import kinds, slow
from tests.support.server import (
    PASSWORD,
    Answer,
    Client,
    Usher,
    log_in,
    new_token,
    sign_up,
    usher,
    wait_until,
)

database_kind = kinds("sqlite", slow("postgresql"))

LONG_AGO = 10_000
"""Seconds; more than STEP_UP_SECONDS."""
READ_ONLY = ("/api/admin/providers/{provider}/check",)
"""Called with POST because a provider is asked each time; nothing is changed."""
CHANGES = {
    (method, path): getattr(handler, method).operation
    for path, handler in API_ROUTES
    for method in ("post", "put", "patch", "delete")
    if isinstance(getattr(getattr(handler, method), "operation", None), Operation)
    and path not in READ_ONLY
}


def said(client: Client) -> dict[str, object]:
    """The claims of a client's access token."""
    token = client.token or client.cookies["access_token"]
    claims: dict[str, object] = jwt.decode(token, options={"verify_signature": False})
    return claims


def age(client: Client, seconds: float = LONG_AGO) -> None:
    """Let time pass since a client authenticated."""
    query = "UPDATE login_sessions SET auth_time = auth_time - ? WHERE id = ?"
    rows(client.server, query, float(seconds), said(client)["sid"])
    if client.browser:
        assert client.post("/api/auth/refresh", {}).status == 200
    else:
        new_token(client)


def step_up(client: Client, **proof: str) -> Answer:
    answer = client.post("/api/auth/step-up", proof)
    if answer.status == 200 and not client.browser:
        client.token = answer.body["access_token"]
        client.refresh_token = answer.body["refresh_token"]
    return answer


def admin_of(server: Usher) -> Client:
    """An administrator of a server that has one already, or not yet."""
    client = sign_up(server)
    rows(server, "UPDATE users SET role = 'admin' WHERE id = ?", client.user["id"])
    return log_in(server, client.user["email"])


def disable(admin: Client, who: Client) -> Answer:
    return admin.call("PATCH", f"/api/admin/users/{who.user['id']}", {"disabled": True})


def test_an_administrators_change_needs_a_fresh_sign_in(server: Usher) -> None:
    admin, other = admin_of(server), sign_up(server)
    age(admin)
    refused = disable(admin, other)
    assert problem(refused, 401, "step_up_needed")["methods"] == ["password"]
    challenge = refused.headers["WWW-Authenticate"]
    assert challenge.startswith('Bearer error="insufficient_user_authentication", ')
    assert 'max_age=900, acr_values="1"' in challenge
    assert admin.get("/api/admin/users").status == 200, "to look needs none"
    assert step_up(admin, password=PASSWORD).status == 200
    assert disable(admin, other).status == 200


def test_a_sign_in_just_made_is_a_step_up(server: Usher) -> None:
    admin, other = admin_of(server), sign_up(server)
    age(admin)
    again = log_in(server, admin.user["email"])
    assert disable(again, other).status == 200
    assert disable(admin, other).status == 401, "it raises no other session of the same user"


@pytest.mark.parametrize("browser", [False, True])
def test_a_step_up_answers_as_a_refresh_and_the_session_stays(server: Usher, browser: bool) -> None:
    client = sign_up(server, browser=browser)
    age(client)
    before = said(client)
    answer = step_up(client, password=PASSWORD)
    assert answer.status == 200
    assert answer.headers["Cache-Control"] == "no-store"
    if browser:
        assert answer.body.keys() == {"user", "expires_in"}
        names = {h.partition("=")[0] for h in answer.headers.get_all("Set-Cookie") or ()}
        assert names == {"access_token", "refresh_token"}
    else:
        assert answer.body.keys() == {
            *("user", "access_token", "token_type", "expires_in", "refresh_token")
        }
        assert answer.headers["Set-Cookie"] is None
    after = said(client)
    assert (after["sid"], after["acr"]) == (before["sid"], "1")
    assert after["jti"] != before["jti"]
    assert float(str(after["auth_time"])) > float(str(before["auth_time"])) + LONG_AGO - 1
    assert client.get("/api/auth/me").status == 200


def test_a_refresh_keeps_the_time_of_the_proof_and_does_not_renew_it(server: Usher) -> None:
    client = sign_up(server)
    age(client)
    assert step_up(client, password=PASSWORD).status == 200
    proven = said(client)["auth_time"]
    for _ in range(3):
        new_token(client)
        assert said(client)["auth_time"] == proven


def test_the_refresh_token_of_before_continues_where_the_answer_was_lost(server: Usher) -> None:
    client = sign_up(server)
    kept = client.refresh_token
    assert step_up(client, password=PASSWORD).status == 200
    client.refresh_token = kept
    new_token(client)
    new_token(client)
    assert client.get("/api/auth/me").status == 200


def test_an_old_token_stays_old_after_a_step_up(server: Usher) -> None:
    admin, other = admin_of(server), sign_up(server)
    age(admin)
    old = admin.token
    assert step_up(admin, password=PASSWORD).status == 200
    admin.token = old
    problem(disable(admin, other), 401, "step_up_needed")


def test_backends_see_the_new_authentication(server: Usher) -> None:
    admin = admin_of(server)
    body = {"name": "backend", "scopes": ["introspect", "users"]}
    key = admin.post("/api/admin/api-keys", body).body["key"]
    age(admin)
    assert step_up(admin, password=PASSWORD).status == 200
    backend = Client(server)
    backend.token = key
    form = f"token={admin.token}".encode()
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    response = backend.call("POST", "/api/introspect", form, headers).body
    assert response["auth_time"] == said(admin)["auth_time"]
    assert response["acr"] == "1"
    # The key itself proves nothing of the kind, and needs not.
    assert disable(backend, sign_up(server)).status == 200


@pytest.mark.parametrize("proof", [{}, {"code": "123456"}, {"password": None}])
def test_an_unsuitable_proof_gets_the_suitable_methods(
    server: Usher, proof: dict[str, str]
) -> None:
    client = sign_up(server)
    refused = client.post("/api/auth/step-up", proof)
    assert problem(refused, 401, "step_up_needed")["methods"] == ["password"]


def test_a_wrong_password_is_refused_audited_and_changes_nothing(server: Usher) -> None:
    client = sign_up(server)
    age(client)
    before = said(client)["auth_time"]
    problem(step_up(client, password="another quiet heron 9"), 403, "wrong_password")
    new_token(client)
    assert said(client)["auth_time"] == before


def test_step_up_needs_a_user_signed_in(server: Usher) -> None:
    assert Client(server).post("/api/auth/step-up", {"password": PASSWORD}).status == 401
    client = sign_up(server)
    assert client.post("/api/auth/logout").status == 204
    problem(step_up(client, password=PASSWORD), 401, "unauthenticated")


def test_a_page_of_another_site_cannot_step_up(server: Usher) -> None:
    client = sign_up(server, browser=True)
    headers = {"Origin": "https://evil.example.org"}
    answer = client.call("POST", "/api/auth/step-up", {"password": PASSWORD}, headers)
    problem(answer, 403, "origin_refused")


def test_wrong_ones_are_limited_for_the_session_alone(database_kind: str) -> None:
    with usher(database_kind, LIMIT_WRONG_SIGNINS=3) as server:
        client = sign_up(server)
        other = log_in(server, client.user["email"])
        for _ in range(3):
            problem(step_up(client, password="no such heron at all 9"), 403, "wrong_password")
        limited = step_up(client, password=PASSWORD)
        problem(limited, 429, "rate_limited")
        assert int(limited.headers["Retry-After"]) > 0
        assert step_up(other, password=PASSWORD).status == 200, "the owner's other sessions go on"
        admin = log_in(server, client.user["email"])
        wait_until(lambda: audited(admin) >= {("refused", "wrong_password"), ("stepped_up", "")})


def audited(admin: Client) -> set[tuple[str, str]]:
    """What became of an administrator's own sign-ins and step-ups, and why."""
    return {
        (row["kind"].partition(".")[2], row["reason"])
        for row in admin.get("/api/admin/audit?limit=50&kind=session.").body["items"]
        if row["actor"] == admin.user["id"]
    }


def test_how_long_a_proof_counts_is_a_setting(database_kind: str) -> None:
    with usher(database_kind, STEP_UP_SECONDS=1) as server:
        admin, other = sign_up(server), sign_up(server)
        age(admin, 1)
        refused = disable(admin, other)
        problem(refused, 401, "step_up_needed")
        assert re.search(r"max_age=1\b", refused.headers["WWW-Authenticate"])
        assert json.loads(refused.text)["methods"] == ["password"]


@pytest.mark.parametrize(("method", "path"), sorted(CHANGES))
def test_every_change_by_an_administrator_asks_for_one(method: str, path: str) -> None:
    operation = CHANGES[method, path]
    if operation.access in ("admin", "users", "disconnect"):
        assert operation.step_up, "every admin change does (contract 1.1)"


def test_every_own_act_that_matters_asks_for_one() -> None:
    asking = {call for call, operation in CHANGES.items() if StepUpNeeded in operation.errors}
    assert asking >= {
        ("post", "/api/auth/email"),
        ("post", "/api/auth/password"),
        ("post", "/api/auth/totp"),
        ("post", "/api/auth/totp/confirm"),
        ("delete", "/api/auth/totp"),
        ("post", "/api/auth/passkeys"),
        ("delete", "/api/auth/passkeys/{passkey_id}"),
        ("delete", "/api/auth/me"),
        ("post", "/api/oauth/accounts/{provider}/link"),
        ("delete", "/api/oauth/accounts/{provider}"),
        ("put", "/api/models/{model_id}"),
        ("delete", "/api/models/{model_id}"),
    }


def test_an_administrator_publishes_into_such_a_room_with_a_fresh_proof_only(
    server: Usher,
) -> None:
    admin = admin_of(server)
    body = {"name": "backend", "scopes": ["publish"]}
    backend = Client(server, admin.post("/api/admin/api-keys", body).body["key"])
    guarded = admin.post("/api/channels", {"name": "vault", "step_up": True}).body["id"]
    other = admin.post("/api/channels", {"name": "hall"}).body["id"]
    age(admin)
    event = {"event": "news", "data": 1}
    both = event | {"rooms": [f"channel:{other}", f"channel:{guarded}"]}
    problem(admin.post("/api/publish", both), 401, "step_up_needed")
    assert admin.post("/api/publish", event | {"room": f"channel:{other}"}).status == 204
    assert backend.post("/api/publish", both).status == 204, "a key needs none"
    assert step_up(admin, password=PASSWORD).status == 200
    assert admin.post("/api/publish", both).status == 204


# ---- with a second factor ---------------------------------------------------------------------


def with_second_factor(client: Client) -> list[str]:
    """Sets up an authenticator app. Returns the recovery codes."""
    secret = client.post("/api/auth/totp").body["secret"]
    answer = client.post("/api/auth/totp/confirm", {"code": pyotp.TOTP(secret).now()})
    codes: list[str] = answer.body["recovery_codes"]
    return codes


def test_with_a_second_factor_one_factor_is_not_enough(server: Usher) -> None:
    admin, other = admin_of(server), sign_up(server)
    codes = with_second_factor(admin)
    assert said(admin)["acr"] == "1"
    refused = disable(admin, other)
    assert set(problem(refused, 401, "step_up_needed")["methods"]) == {"totp", "recovery_code"}
    assert 'acr_values="2"' in refused.headers["WWW-Authenticate"]
    problem(step_up(admin, password=PASSWORD), 401, "step_up_needed")
    problem(step_up(admin, code="000000"), 403, "wrong_code")
    problem(step_up(admin, code=codes[0], password="not this one"), 403, "wrong_password")
    assert step_up(admin, code=codes[0]).status == 200
    assert said(admin)["acr"] == "2"
    assert disable(admin, other).status == 200
    problem(step_up(admin, code=codes[0]), 403, "wrong_code")
    new_token(admin)
    assert said(admin)["acr"] == "2", "a refresh keeps it"
    age(admin)
    problem(disable(admin, other), 401, "step_up_needed")


def test_of_many_step_ups_at_once_one_code_gives_exactly_one(server: Usher) -> None:
    client = sign_up(server)
    code = with_second_factor(client)[0]
    with ThreadPoolExecutor(10) as pool:
        tries = [pool.submit(client.post, "/api/auth/step-up", {"code": code}) for _ in range(30)]
        statuses = sorted(each.result().status for each in tries)
    assert statuses.count(200) == 1
    assert set(statuses) <= {200, 403, 429}
