"""Addresses that are confirmed by a mail, or have to be before anybody signs in."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.http.mails import (
    CONFIRM,
    FORGOT,
    MAIL_FILES,
    NEW,
    RESET,
    VERIFY,
    audited,
    code,
    installation,
    is_verified,
    mailbox,
    new_account,
    post,
)
from tests.support.databases import look
from tests.support.mail_server import link_of, text_of
from tests.support.raw import assert_quiet
from tests.support.server import PASSWORD, Client, Usher, address, log_in, usher, wait_until

__all__ = ["installation"]


@pytest.fixture(scope="module")
def strict(database_kind: str) -> Iterator[Usher]:
    """One where addresses are confirmed before anybody signs in."""
    with usher(database_kind, EMAIL_VERIFICATION="required") as server:
        yield server
        assert_quiet(server.log)
        assert MAIL_FILES.findall(server.log) == []


# ---- confirming ----------------------------------------------------------------------------


def test_a_signed_in_user_confirms_the_sign_up(installation: Usher) -> None:
    client, email, box = new_account(installation)
    link = link_of(box.next("verify_address"))
    assert link.startswith(f"{installation.pages}/confirm-email#token=")
    assert not is_verified(installation, email)
    assert client.post(CONFIRM, {"token": box.token("verify_address")}).status == 204
    assert is_verified(installation, email)
    assert client.get("/api/auth/me").status == 200
    again = client.post(CONFIRM, {"token": box.token("verify_address")})
    assert code(again) == (403, "link_refused")


def test_or_the_password_confirms_it(installation: Usher) -> None:
    client, email, box = new_account(installation)
    token = box.token("verify_address")
    wrong = post(installation, CONFIRM, token=token, password=NEW)
    assert code(wrong) == (403, "wrong_password")
    assert post(installation, CONFIRM, token=token, password=PASSWORD).status == 204
    assert is_verified(installation, email)
    assert client.get("/api/auth/me").status == 200


def test_an_account_with_another_users_address_is_handed_over_to_its_owner(
    installation: Usher,
) -> None:
    squatter, email, box = new_account(installation)
    answer = post(installation, CONFIRM, token=box.token("verify_address"))
    assert answer.status == 200
    token = answer.body["set_password_url"].partition("#token=")[2]
    assert squatter.get("/api/auth/me").status == 401
    assert post(installation, "/api/auth/login", email=email, password=PASSWORD).status == 401
    assert post(installation, RESET, token=token, new_password=NEW).status == 204
    log_in(installation, email, password=NEW)


def test_a_reset_link_hands_an_unconfirmed_account_over_too(
    installation: Usher,
) -> None:
    squatter, email, box = new_account(installation)
    post(installation, FORGOT, email=email)
    token = box.token("reset_password")
    assert post(installation, RESET, token=token, new_password=NEW).status == 204
    assert squatter.get("/api/auth/me").status == 401
    assert is_verified(installation, email)
    wait_until(lambda: audited(installation, "account.handed_over") >= 1)


def test_the_mail_is_sent_again_and_the_response_reveals_nothing(installation: Usher) -> None:
    client, email, box = new_account(installation)
    box.next("verify_address")
    assert post(installation, VERIFY, email=email).status == 204
    box.next("verify_address", 2)
    assert client.post(VERIFY, {}).status == 204
    box.next("verify_address", 3)
    assert post(installation, VERIFY, email=address()).status == 204
    assert post(installation, VERIFY).status == 401


def test_where_verification_is_off_nothing_is_sent(database_kind: str) -> None:
    with usher(database_kind, EMAIL_VERIFICATION="off") as server:
        client, email, box = new_account(server)
        assert client.post(VERIFY, {}).status == 204
        post(server, FORGOT, email=email)
        box.next("reset_password")
        assert box.count("verify_address") == 0


# ---- required ------------------------------------------------------------------------------


def test_no_sign_in_before_the_address_is_confirmed(strict: Usher) -> None:
    email = address()
    box = mailbox(strict, email)
    body = {"email": email, "password": PASSWORD, "name": "Ada"}
    answer = Client(strict).post("/api/auth/signup", body)
    assert (answer.status, answer.body) == (202, {})
    assert answer.headers.get_all("Set-Cookie") is None
    token = box.token("verify_address")
    refused = post(strict, "/api/auth/login", email=email, password=PASSWORD)
    assert code(refused) == (403, "email_unverified")
    assert post(strict, "/api/auth/login", email=email, password=NEW).status == 401
    assert post(strict, CONFIRM, token=token, password=PASSWORD).status == 204
    client = log_in(strict, email)
    assert client.get("/api/auth/me").body["email"] == email
    known = Client(strict).post("/api/auth/signup", {**body, "password": NEW})
    assert (known.status, known.body) == (202, {})
    assert "belongs to an account" in text_of(box.next("address_known"))
    assert client.get("/api/auth/me").status == 200
    log_in(strict, email)


def test_of_concurrent_sign_ups_with_one_address_one_succeeds(strict: Usher) -> None:
    email = address()

    def ask(number: int) -> tuple[int, Any]:
        body = {"email": email, "password": f"{NEW} {number}", "name": "Ada"}
        answer = Client(strict).post("/api/auth/signup", body)
        return answer.status, answer.body

    with ThreadPoolExecutor(8) as pool:
        assert set(map(str, pool.map(ask, range(8)))) == {"(202, {})"}
    mailbox(strict, email).next("verify_address", 8)
    assert look(strict.database_url, "SELECT COUNT(*) FROM users WHERE email = ?", email) == [(1,)]


def test_a_weak_password_is_refused_for_every_address(strict: Usher) -> None:
    email = address()
    body = {"email": email, "password": PASSWORD, "name": "Ada"}
    Client(strict).post("/api/auth/signup", body)
    mailbox(strict, email).next("verify_address")
    for mail in (email, address()):
        weak = Client(strict).post("/api/auth/signup", {**body, "email": mail, "password": "x"})
        assert code(weak) == (400, "weak_password")


def test_a_sign_up_takes_the_same_time_whether_or_not_the_address_is_known(
    strict: Usher,
) -> None:
    """The request does the same for both: a hash, and one row. What differs is done afterwards."""
    known = address()
    body = {"password": PASSWORD, "name": "Ada"}

    def timed(email: str) -> float:
        began = time.perf_counter()
        answer = Client(strict).post("/api/auth/signup", {**body, "email": email})
        assert (answer.status, answer.body) == (202, {})
        return time.perf_counter() - began

    timed(known)
    box = mailbox(strict, known)
    assert post(strict, CONFIRM, token=box.token("verify_address"), password=PASSWORD).status == 204

    def ratio() -> float:
        tries = [(timed(known), timed(address())) for _ in range(15)]
        old, new = (statistics.median(times) for times in zip(*tries, strict=True))
        return float(max(old, new) / min(old, new))

    # What else the machine does may disturb one of them. A difference of ours is in all three.
    assert any(ratio() < 2 for _ in range(3))
