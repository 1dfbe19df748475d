"""Passkeys over HTTP: registered, used to sign in, as second factor and for step-up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.authenticator import set_up, step_up
from tests.support.checks import plain_refusal, problem
from tests.support.server import (
    PASSWORD,
    Client,
    Usher,
    address,
    free_port,
    log_in,
    sign_up,
    usher,
)
from tests.support.soft_passkey import SoftPasskey

PASSKEYS, OPTIONS = "/api/auth/passkeys", "/api/auth/passkey/options"
LOG_IN, SECOND, STEP_UP = "/api/auth/passkey/login", "/api/auth/second-factor", "/api/auth/step-up"


@pytest.fixture(scope="module")
def server() -> Iterator[Usher]:
    """On SQLite only: tests/factors has the rows, on both."""
    with usher("sqlite") as running:
        sign_up(running)  # the administrator
        yield running


def origin(server: Usher) -> str:
    return f"http://localhost:{server.port}"


def made(client: Client, **kind: Any) -> SoftPasskey:
    """A new passkey of somebody who is signed in."""
    key = SoftPasskey(origin(client.server), **kind)
    options = client.post(f"{PASSKEYS}/options")
    assert options.status == 200, options.text
    body = {"credential": key.create(options.body["publicKey"]), "name": "Key"}
    answer = client.post(PASSKEYS, body)
    assert (answer.status, answer.body["name"]) == (201, "Key"), answer.text
    return key


def used(client: Client, key: SoftPasskey) -> dict[str, Any]:
    """A signature for the options of just now."""
    return key.get(client.post(OPTIONS).body["publicKey"])


def test_a_passkey_signs_in_without_a_name_in_a_browser_and_in_an_app(server: Usher) -> None:
    client = sign_up(server)
    key, nobody = made(client), Client(server)
    answer = nobody.post(LOG_IN, {"credential": used(nobody, key), "client": "native"})
    assert answer.status == 200, answer.text
    assert answer.body["user"]["id"] == client.user["id"]
    assert answer.body["access_token"]
    browser = Client(server)
    there = {"Origin": origin(server)}
    body = {"credential": used(browser, key)}
    answer = browser.call("POST", LOG_IN, body, there)
    assert set(answer.body) == {"user", "expires_in"}
    assert "access_token" in browser.cookies
    assert browser.get("/api/sessions").body["items"][0]["method"] == "passkey"


def test_an_unknown_passkey_is_refused_like_a_wrong_password(server: Usher) -> None:
    nobody, key = Client(server), made(sign_up(server))
    once = used(nobody, key)
    assert nobody.post(LOG_IN, {"credential": once, "client": "native"}).status == 200
    other_passkey = SoftPasskey(origin(server), rp_id="localhost")
    for credential in (once, used(nobody, other_passkey), {}, {"id": "x", "response": {}}):
        plain_refusal(nobody.post(LOG_IN, {"credential": credential}), 401, "unauthenticated")
    nothings: tuple[Any, ...] = (None, [], "x")
    for nothing in nothings:
        problem(nobody.post(LOG_IN, {"credential": nothing}), 400, "bad_request")


def test_it_is_a_second_factor_and_a_step_up(server: Usher) -> None:
    email = address()
    client = sign_up(server, email=email)
    key, app = made(client, verifies=False), set_up(client)
    nobody = Client(server)
    body = {"email": email, "password": PASSWORD, "client": "native"}
    needed = problem(nobody.post("/api/auth/login", body), 401, "second_factor_needed")
    assert needed["methods"] == ["totp", "recovery_code", "passkey"]
    right = {"challenge": needed["challenge"], "credential": used(nobody, key)}
    assert nobody.post(SECOND, right).status == 200
    alone = nobody.post(LOG_IN, {"credential": used(nobody, key), "client": "native"})
    assert problem(alone, 401, "second_factor_needed")["methods"] == ["totp", "recovery_code"]
    again = {"challenge": alone.body["challenge"], "credential": used(nobody, key)}
    problem(nobody.post(SECOND, again), 401, "wrong_code")
    done = nobody.post(SECOND, {"challenge": alone.body["challenge"], "code": app.recovery_code()})
    assert done.status == 200
    key.verifies = True
    assert client.post(STEP_UP, {"credential": used(client, key)}).status == 200


def test_a_step_up_takes_the_users_own_passkey_once(server: Usher) -> None:
    client = sign_up(server)
    key, other = made(client), made(sign_up(server))
    problem(client.post(STEP_UP, {"credential": used(client, other)}), 403, "passkey_refused")
    credential = used(client, key)
    assert client.post(STEP_UP, {"credential": credential}).status == 200
    problem(client.post(STEP_UP, {"credential": credential}), 403, "passkey_refused")


def test_passkeys_are_listed_renamed_and_removed(server: Usher) -> None:
    client = sign_up(server)
    made(client)
    made(client)
    first, second = client.get(PASSKEYS).body["items"]
    renamed = client.call("PATCH", f"{PASSKEYS}/{first['id']}", {"name": "Blue"})
    assert renamed.body["name"] == "Blue"
    problem(client.call("PATCH", f"{PASSKEYS}/{first['id']}", {"name": " "}), 400, "bad_request")
    other = sign_up(server)
    problem(other.call("DELETE", f"{PASSKEYS}/{second['id']}"), 404, "not_found")
    assert client.call("DELETE", f"{PASSKEYS}/{second['id']}").status == 204
    assert [one["name"] for one in client.get(PASSKEYS).body["items"]] == ["Blue"]


def test_an_address_of_numbers_has_none_and_says_what_works(server: Usher) -> None:
    page = Client(server, browser=True)  # at http://127.0.0.1
    there = problem(page.post(OPTIONS), 409, "no_rp_id")
    assert origin(server) in there["detail"]
    port = free_port()
    with usher("sqlite", PORT=port, PUBLIC_URL=f"http://127.0.0.1:{port}") as own:
        client = sign_up(own)
        for path in (OPTIONS, f"{PASSKEYS}/options"):
            reported = problem(client.post(path), 409, "no_rp_id")
            assert f"http://localhost:{port}" in reported["detail"]


def test_an_administrator_removes_the_factors_of_a_user() -> None:
    with usher("sqlite") as own:
        admin, email = sign_up(own), address()
        client = sign_up(own, email=email)
        made(client)
        set_up(client)
        path = f"/api/admin/users/{client.user['id']}/factors"
        problem(client.call("DELETE", path), 403, "forbidden")
        assert admin.call("DELETE", path).status == 204
        problem(admin.call("DELETE", path), 404, "not_found")
        assert log_in(own, email).get(PASSKEYS).body["items"] == []


def test_factors_need_a_fresh_proof(server: Usher) -> None:
    client = sign_up(server)
    made(client)
    app = set_up(client)
    problem(client.post(f"{PASSKEYS}/options"), 401, "step_up_needed")
    step_up(client, app.recovery_code())
    assert client.post(f"{PASSKEYS}/options").status == 200
