"""Authenticator apps and the second step of a sign-in, over HTTP."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pyotp
import pytest

from tests.support.authenticator import App, set_up, step_up
from tests.support.checks import problem
from tests.support.server import (
    PASSWORD,
    Answer,
    Client,
    Usher,
    address,
    sign_up,
    usher,
    wait_until,
)

TOTP = "/api/auth/totp"


@pytest.fixture(scope="module")
def server() -> Iterator[Usher]:
    """On SQLite only: tests/factors has the rows, on both."""
    with usher("sqlite") as running:
        yield running


def first_step(client: Client, email: str) -> dict[str, Any]:
    """What a sign-in with the right password answers."""
    kind = "browser" if client.browser else "native"
    body = {"email": email, "password": PASSWORD, "client": kind}
    answer = client.post("/api/auth/login", body)
    assert answer.status == 401, answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers.get_all("Set-Cookie") is None
    assert set(answer.body) == {"status", "title", "code", "challenge", "methods"}
    assert answer.body["code"] == "second_factor_needed"
    return dict(answer.body)


def second_step(client: Client, challenge: str, code: str) -> Answer:
    return client.post("/api/auth/second-factor", {"challenge": challenge, "code": code})


def with_app(server: Usher, browser: bool = False) -> tuple[str, Client, App]:
    email = address()
    client = sign_up(server, email=email, browser=browser)
    return email, client, set_up(client)


def test_a_sign_in_takes_the_password_and_a_code(server: Usher) -> None:
    email, _, app = with_app(server)
    client = Client(server)
    needed = first_step(client, email)
    assert needed["methods"] == ["totp", "recovery_code"]
    done = second_step(client, needed["challenge"], app.code())
    assert done.status == 200, done.text
    assert done.body["user"]["email"] == email
    assert {"access_token", "refresh_token", "device"} <= set(done.body)
    problem(second_step(client, needed["challenge"], app.recovery_code()), 401, "unauthenticated")


def test_a_browser_gets_its_cookies_with_the_second_step(server: Usher) -> None:
    email, _, app = with_app(server)
    browser = Client(server, browser=True)
    needed = first_step(browser, email)
    assert browser.cookies == {}
    done = second_step(browser, needed["challenge"], app.recovery_code())
    assert set(done.body) == {"user", "expires_in"}
    assert {"access_token", "refresh_token"} <= set(browser.cookies)
    assert browser.get("/api/auth/me").body["email"] == email
    # The device is known from now on, and has to give the second factor all the same.
    first_step(browser, email)


def test_a_wrong_code_can_be_corrected_and_the_fifth_ends_it(server: Usher) -> None:
    email, _, app = with_app(server)
    client = Client(server)
    challenge = first_step(client, email)["challenge"]
    for _ in range(4):
        problem(second_step(client, challenge, "000000"), 401, "wrong_code")
    problem(second_step(client, challenge, "000000"), 401, "unauthenticated")
    over = second_step(client, challenge, app.recovery_code())
    problem(over, 401, "unauthenticated")


def test_a_foreign_page_cannot_answer(server: Usher) -> None:
    email, _, app = with_app(server)
    client = Client(server)
    challenge = first_step(client, email)["challenge"]
    foreign = client.post(
        "/api/auth/second-factor",
        {"challenge": challenge, "code": app.recovery_code()},
        Origin="https://evil.example",
    )
    problem(foreign, 403, "origin_refused")


@pytest.mark.parametrize(
    "body",
    [{}, {"challenge": "x"}, {"challenge": 1, "code": "1"}, {"challenge": "x", "code": "1" * 65}],
)
def test_an_invalid_answer_is_a_bad_request(server: Usher, body: dict[str, object]) -> None:
    problem(Client(server).post("/api/auth/second-factor", body), 400, "bad_request")


def test_the_secret_is_shown_as_text_url_and_qr_code(server: Usher) -> None:
    email = address()
    made = sign_up(server, email=email).post(TOTP).body
    found = pyotp.parse_uri(made["otpauth_url"])
    assert (found.secret, found.issuer, found.name) == (made["secret"], "Usher", email)
    assert re.fullmatch(r"[A-Z2-7]{32}", made["secret"])
    svg = made["qr_svg"]
    assert svg.startswith("<svg ")
    assert not re.search(r"style|<script|href|url\(", svg), "fits a strict CSP"


def test_the_app_is_listed_replaced_and_removed(server: Usher) -> None:
    _, client, app = with_app(server)
    state = client.get(TOTP).body
    assert (state["enabled"], state["recovery_codes_left"]) == (True, 10)
    problem(client.post(f"{TOTP}/recovery-codes"), 401, "step_up_needed")
    step_up(client, app.recovery_code())
    problem(client.post(TOTP), 409, "factor_in_use")
    new = client.post(f"{TOTP}/recovery-codes").body["recovery_codes"]
    assert len(set(new) | set(app.codes)) == 19
    assert client.call("DELETE", TOTP).status == 204
    assert client.get(TOTP).body == {"enabled": False, "recovery_codes_left": 0, "since": None}
    problem(client.call("DELETE", TOTP), 404, "not_found")
    problem(client.post(f"{TOTP}/recovery-codes"), 404, "not_found")
    wrong = client.post(f"{TOTP}/confirm", {"code": "000000"})
    problem(wrong, 403, "wrong_code")


def test_the_trail_has_it_and_no_secret_is_in_the_log() -> None:
    with usher("sqlite") as own:
        admin = sign_up(own)
        email, client, app = with_app(own)
        first = client.get(TOTP).body
        challenge = first_step(Client(own), email)["challenge"]
        code = app.recovery_code()
        second_step(Client(own), challenge, "000000")
        second_step(Client(own), challenge, code)
        step_up(client, app.recovery_code())
        client.call("DELETE", TOTP)

        def kinds() -> dict[str, str]:
            found = admin.get(f"/api/admin/audit?subject={client.user['id']}").body["items"]
            return {entry["kind"]: entry["reason"] for entry in found}

        wanted = {"factor.added", "session.second_factor_asked", "session.refused"}
        wait_until(lambda: wanted | {"factor.removed"} <= set(kinds()))
        assert kinds()["session.refused"] == "wrong_code"
        assert first["enabled"]
        for secret in (email, challenge, code, code.replace("-", ""), app.totp.secret):
            assert secret not in own.log
            assert quote(secret) not in own.log
