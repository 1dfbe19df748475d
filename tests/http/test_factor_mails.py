"""The mails to the owner of an account about its factors."""

from __future__ import annotations

from collections.abc import Iterator
from email.message import EmailMessage

import pytest

from tests.support.authenticator import App, set_up, step_up
from tests.support.checks import problem
from tests.support.mail_server import Mailbox, html_of, text_of
from tests.support.raw import assert_quiet
from tests.support.server import PASSWORD, Client, Usher, address, sign_up, usher
from tests.support.soft_passkey import SoftPasskey

NOTICES = (
    "passkey_added",
    "passkey_removed",
    "recovery_code_used",
    "second_factor_off",
    "second_factor_on",
)


@pytest.fixture(scope="module")
def admin() -> Iterator[Client]:
    """The administrator of an Usher on SQLite only: tests/mail has the outbox, on both."""
    with usher("sqlite") as running:
        yield sign_up(running)
        assert_quiet(running.log)


@pytest.fixture
def server(admin: Client) -> Usher:
    return admin.server


def new_account(server: Usher) -> tuple[Client, str, Mailbox]:
    email = address()
    return sign_up(server, email=email), email, Mailbox(server.data_dir, email)


def reported(box: Mailbox) -> dict[str, int]:
    """How many notices of each kind lie in a mailbox."""
    return {kind: count for kind in NOTICES if (count := box.count(kind))}


def add_passkey(client: Client) -> str:
    """Give somebody who is signed in a passkey; returns its id."""
    key = SoftPasskey(f"http://localhost:{client.server.port}")
    options = client.post("/api/auth/passkeys/options").body["publicKey"]
    made = client.post("/api/auth/passkeys", {"credential": key.create(options)})
    assert made.status == 201, made.text
    return str(made.body["id"])


def assert_warns(mail: EmailMessage, server: Usher, email: str, *words: str) -> None:
    """A notice to this address alone, which says what to do, and links to this server only."""
    assert str(mail["To"]) == email
    assert mail["Cc"] is None
    assert mail["Bcc"] is None
    text = " ".join(text_of(mail).split())
    for said in (*words, "If it was not you", f"{server.pages}/"):
        assert said in text
        assert said in " ".join(html_of(mail).split())
    assert all(word.startswith(server.pages) for word in text.split() if "://" in word)


def test_adding_and_removing_a_passkey_sends_a_mail(server: Usher) -> None:
    client, email, box = new_account(server)
    passkey = add_passkey(client)
    assert_warns(box.next("passkey_added"), server, email, "with a new passkey")
    assert client.call("DELETE", f"/api/auth/passkeys/{passkey}").status == 204
    assert_warns(box.next("passkey_removed"), server, email, "passkey", "was just removed")
    assert reported(box) == {"passkey_added": 1, "passkey_removed": 1}


def test_setting_up_using_and_removing_an_app_sends_mails(server: Usher) -> None:
    client, email, box = new_account(server)
    app = set_up(client)
    assert_warns(box.next("second_factor_on"), server, email, "now takes a second step")
    code = sign_in_by_recovery_code(server, email, app)
    used = box.next("recovery_code_used")
    assert_warns(used, server, email, "one of your recovery codes")
    step_up(client, app.code())
    assert client.call("DELETE", "/api/auth/totp").status == 204
    off = box.next("second_factor_off")
    assert_warns(off, server, email, "second step", "was removed")
    for mail in (used, off, box.next("second_factor_on")):
        for secret in (code, code.replace("-", ""), app.totp.secret):
            assert secret not in mail.as_string()
    assert reported(box) == {"recovery_code_used": 1, "second_factor_off": 1, "second_factor_on": 1}


def sign_in_by_recovery_code(server: Usher, email: str, app: App) -> str:
    """Sign in with the password and a recovery code; returns the code."""
    nobody, code = Client(server), app.recovery_code()
    body = {"email": email, "password": PASSWORD, "client": "native"}
    challenge = nobody.post("/api/auth/login", body).body["challenge"]
    answer = {"challenge": challenge, "code": code}
    assert nobody.post("/api/auth/second-factor", answer).status == 200
    return code


def test_what_was_refused_is_no_news(server: Usher) -> None:
    client, _, box = new_account(server)
    client.post("/api/auth/totp")
    problem(client.post("/api/auth/totp/confirm", {"code": "000000"}), 403, "wrong_code")
    problem(client.call("DELETE", "/api/auth/totp"), 404, "not_found")
    problem(client.call("DELETE", "/api/auth/passkeys/x"), 404, "not_found")
    assert client.post("/api/auth/passkeys", {"credential": {}}).status == 403
    add_passkey(client)  # its mail was enqueued after whatever these had enqueued
    box.next("passkey_added")
    assert reported(box) == {"passkey_added": 1}


@pytest.mark.parametrize("factors", ["an app", "a passkey", "both"])
def test_removing_all_factors_by_an_administrator_sends_a_mail(admin: Client, factors: str) -> None:
    server = admin.server
    client, email, box = new_account(server)
    if factors != "an app":
        add_passkey(client)
    if factors != "a passkey":
        set_up(client)
    path = f"/api/admin/users/{client.user['id']}/factors"
    assert admin.call("DELETE", path).status == 204
    assert_warns(box.next("second_factor_off"), server, email, "second step", "was removed")
    problem(admin.call("DELETE", path), 404, "not_found")
    other, _, others = new_account(server)
    add_passkey(other)
    others.next("passkey_added")
    assert box.count("second_factor_off") == 1, "once, however often it is asked for"
    assert others.count("second_factor_off") == 0
    assert Mailbox(server.data_dir, admin.user["email"]).count("second_factor_off") == 0
