"""Signing up, and changing the password, over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from tests.http.credentials import OTHER_PASSWORD, credentials
from tests.support.checks import plain_refusal, problem
from tests.support.server import PASSWORD, Client, Usher, address, log_in, new_token, sign_up, usher

# ---- signing up -----------------------------------------------------------------------------


def test_the_very_first_account_is_admin_and_later_ones_are_users(database_kind: str) -> None:
    with usher(database_kind) as server:
        first, second = sign_up(server), sign_up(server)
        assert first.user["role"] == "admin"
        assert second.user["role"] == "user"
        assert first.get("/api/auth/me").body["role"] == "admin"
        assert second.get("/api/auth/me").body["role"] == "user"


@pytest.mark.parametrize("change", [str, str.upper, str.title, " {} ".format])
def test_an_address_has_one_account_however_it_is_spelt(server: Usher, change: Any) -> None:
    email = address()
    sign_up(server, email=email)
    body = credentials(change(email), name="Eve", client="native")
    plain_refusal(Client(server).post("/api/auth/signup", body), 409, "signup_refused")
    assert log_in(server, change(email)).user["email"] == email


@pytest.mark.parametrize("password", ["short 7", "password1", "12345678", "qwertyuiop", "Ada Ada"])
def test_a_weak_password_is_refused_with_advice(server: Usher, password: str) -> None:
    body = {"email": address(), "password": password, "name": "Ada", "client": "native"}
    answer = Client(server).post("/api/auth/signup", body)
    reported = problem(answer, 400, "weak_password")
    assert reported["suggestions"]
    assert all(isinstance(text, str) and text for text in reported["suggestions"])
    assert password.encode() not in answer.text


def test_the_own_address_is_no_password(server: Usher) -> None:
    email = address()
    body = {"email": email, "password": email, "name": "Ada"}
    problem(Client(server).post("/api/auth/signup", body), 400, "weak_password")


@pytest.mark.parametrize(
    "password", [OTHER_PASSWORD * 50, "ключ под старым 海 камнем", " 5 mild otters "]
)
def test_long_and_unusual_passwords_are_accepted_as_they_are(server: Usher, password: str) -> None:
    email = address()
    body = {"email": email, "password": password, "name": "Ada", "client": "native"}
    assert Client(server).post("/api/auth/signup", body).status == 201
    log_in(server, email, password=password)
    body = {"email": email, "password": password[:-1] + "!", "client": "native"}
    plain_refusal(Client(server).post("/api/auth/login", body), 401, "unauthenticated")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("email", ""),
        ("email", "nobody"),
        ("email", "a b@example.org"),
        ("email", "a@b@example.org"),
        ("email", "x" * 250 + "@example.org"),
        ("name", ""),
        ("name", "   "),
        ("name", "x" * 101),
        ("name", "Ada\nEve"),
        ("name", "Ada\u202eevE"),
    ],
)
def test_an_invalid_address_or_name_is_a_bad_request(server: Usher, field: str, value: str) -> None:
    body = credentials(address(), name="Ada") | {field: value}
    reported = problem(Client(server).post("/api/auth/signup", body), 400, "bad_request")
    assert reported["field"] == field
    assert reported["detail"].startswith(f"{field}: ")


# ---- changing the password ------------------------------------------------------------------


def test_a_new_password_counts_and_the_old_one_does_not(server: Usher) -> None:
    email = address()
    client = sign_up(server, email=email)
    body = {"current_password": PASSWORD, "new_password": OTHER_PASSWORD}
    answer = client.post("/api/auth/password", body)
    assert (answer.status, answer.text) == (204, b"")
    log_in(server, email, password=OTHER_PASSWORD)
    plain_refusal(
        Client(server).post("/api/auth/login", credentials(email)), 401, "unauthenticated"
    )


def test_a_new_password_ends_every_other_session_and_not_this_one(server: Usher) -> None:
    email = address()
    client = sign_up(server, email=email)
    others = [log_in(server, email), log_in(server, email, browser=True)]
    body = {"current_password": PASSWORD, "new_password": OTHER_PASSWORD}
    assert client.post("/api/auth/password", body).status == 204
    for other in others:
        plain_refusal(other.get("/api/auth/me"), 401, "unauthenticated")
    assert client.get("/api/auth/me").status == 200
    assert Client(server, token=new_token(client)).get("/api/auth/me").status == 200


def test_a_new_password_needs_the_current_one(server: Usher) -> None:
    email = address()
    client, other = sign_up(server, email=email), log_in(server, email)
    body = {"current_password": OTHER_PASSWORD, "new_password": "three quick swans 9"}
    plain_refusal(client.post("/api/auth/password", body), 403, "wrong_password")
    assert other.get("/api/auth/me").status == 200
    log_in(server, email)


def test_a_weak_new_password_is_refused_and_changes_nothing(server: Usher) -> None:
    email = address()
    client, other = sign_up(server, email=email), log_in(server, email)
    body = {"current_password": PASSWORD, "new_password": "password1"}
    problem(client.post("/api/auth/password", body), 400, "weak_password")
    assert other.get("/api/auth/me").status == 200
    log_in(server, email)


def test_a_new_password_needs_a_credential(server: Usher) -> None:
    body = {"current_password": PASSWORD, "new_password": OTHER_PASSWORD}
    plain_refusal(Client(server).post("/api/auth/password", body), 401, "unauthenticated")
