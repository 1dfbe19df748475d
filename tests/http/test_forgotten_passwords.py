"""Forgotten passwords over HTTP, with mails as files."""

from __future__ import annotations

import itertools
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.http.mails import (
    CONFIRM,
    FORGOT,
    NEW,
    RESET,
    UNDO,
    VERIFY,
    code,
    installation,
    mailbox,
    new_account,
    post,
    verified,
)
from tests.support.checks import plain_refusal
from tests.support.mail_server import link_of
from tests.support.server import PASSWORD, Client, Usher, address, log_in, sign_up, usher

__all__ = ["installation"]


def test_a_forgotten_password_is_replaced_by_a_mail(installation: Usher) -> None:
    client, email, box = verified(installation)
    other = log_in(installation, email)
    assert post(installation, FORGOT, email=email.upper()).status == 204
    mail = box.next("reset_password")
    assert link_of(mail).startswith(f"{installation.pages}/set-password#token=usher_pl_")
    token = box.token("reset_password")
    assert code(post(installation, RESET, token=token, new_password="password1"))[0] == 400
    assert post(installation, RESET, token=token, new_password=NEW).status == 204
    assert box.next("password_changed")
    for session in (client, other):
        assert session.get("/api/auth/me").status == 401
    assert post(installation, "/api/auth/login", email=email, password=PASSWORD).status == 401
    log_in(installation, email, password=NEW)
    again = post(installation, RESET, token=token, new_password=PASSWORD)
    assert code(again) == (403, "link_refused")


def test_one_link_ends_the_others_and_a_change_of_password_ends_all(installation: Usher) -> None:
    client, email, box = verified(installation)
    tokens = []
    for count in (1, 2, 3):
        post(installation, FORGOT, email=email)
        tokens.append(box.token("reset_password", count))
    body = {"current_password": PASSWORD, "new_password": NEW}
    assert client.post("/api/auth/password", body).status == 204
    for token in tokens:
        answer = post(installation, RESET, token=token, new_password=PASSWORD)
        assert code(answer) == (403, "link_refused")
    assert box.next("password_changed")


@pytest.mark.slow
def test_a_thousand_uses_of_one_link_at_once_set_one_password(installation: Usher) -> None:
    _, email, box = verified(installation)
    post(installation, FORGOT, email=email)
    token = box.token("reset_password")

    def use(number: int) -> int:
        password = f"{NEW} number {number}"
        return post(installation, RESET, token=token, new_password=password).status

    with ThreadPoolExecutor(32) as pool:
        found = list(pool.map(use, range(1000)))
    assert found.count(204) == 1
    assert set(found) <= {204, 403, 429, 503}
    log_in(installation, email, password=f"{NEW} number {found.index(204)}")


def test_the_response_does_not_reveal_whether_an_address_is_known(installation: Usher) -> None:
    """The request does the same for both: it writes one row. What differs is done afterwards."""
    _, email, box = verified(installation)
    unknown = address()

    def timed(mail: str) -> float:
        began = time.perf_counter()
        answer = post(installation, FORGOT, email=mail)
        assert (answer.status, answer.text) == (204, b"")
        return time.perf_counter() - began

    tries = [(timed(email), timed(unknown)) for _ in range(40)]
    known_time, unknown_time = (statistics.median(times) for times in zip(*tries, strict=True))
    assert known_time / unknown_time < 3
    assert unknown_time / known_time < 3
    box.next("reset_password", 40)
    assert mailbox(installation, unknown).count() == 0


def test_a_disabled_account_gets_no_link(installation: Usher, database_kind: str) -> None:
    with usher(database_kind) as server:
        admin = sign_up(server)
        client, email, box = new_account(server)
        user_id = client.get("/api/auth/me").body["id"]
        assert admin.call("PATCH", f"/api/admin/users/{user_id}", {"disabled": True}).status == 200
        post(server, FORGOT, email=email)
        _, _, other = new_account(server)
        other.next("verify_address")
        assert box.count("reset_password") == 0


def test_what_is_no_address_or_no_link_is_refused(installation: Usher) -> None:
    assert code(post(installation, FORGOT, email="nobody")) == (400, "bad_request")
    assert code(post(installation, FORGOT)) == (400, "bad_request")
    for path, body in (
        (RESET, {"new_password": NEW}),
        (CONFIRM, {"password": PASSWORD}),
        (UNDO, {}),
    ):
        for token in ("", "x", "usher_pl_" + "x" * 65, "x" * 5000):
            answer = Client(installation).post(path, {"token": token, **body})
            plain_refusal(answer, 403, "link_refused")


def test_a_link_is_valid_for_its_purpose_only(installation: Usher) -> None:
    client, email, box = new_account(installation)
    verify = box.token("verify_address")
    post(installation, FORGOT, email=email)
    reset = box.token("reset_password")
    for path, body in (
        (RESET, {"token": verify, "new_password": NEW}),
        (UNDO, {"token": verify}),
        (UNDO, {"token": reset}),
        (CONFIRM, {"token": reset}),
    ):
        assert code(Client(installation).post(path, body)) == (403, "link_refused")
    assert client.post(CONFIRM, {"token": verify}).status == 204


def test_an_address_asks_for_twenty_mails_and_a_mailbox_gets_five(database_kind: str) -> None:
    with usher(database_kind, LIMIT_MAILS=20) as server:
        sign_up(server)
        _, email, box = verified(server)
        box.next("verify_address")
        answers = [post(server, FORGOT, email=email).status for _ in range(12)]
        assert answers == [204] * 12
        others = [post(server, FORGOT, email=address()) for _ in range(9)]
        assert [answer.status for answer in others] == [204] * 8 + [429]
        assert 3500 < int(others[-1].headers["Retry-After"]) <= 3600
        assert post(server, VERIFY, email=address()).status == 429
        box.next("reset_password", 5)
        _, _, later = new_account(server)
        later.next("verify_address")
        assert box.count("reset_password") == 5


def test_requests_of_unauthenticated_clients_leave_the_owner_a_reset(database_kind: str) -> None:
    with usher(database_kind, LIMIT_MAILS=20, EMAIL_VERIFICATION="required") as server:
        owner = {"email": (email := address()), "password": PASSWORD, "name": "Ada"}
        box = mailbox(server, email)
        assert post(server, "/api/auth/signup", **owner).status == 202
        token = box.token("verify_address")
        assert post(server, CONFIRM, token=token, password=PASSWORD).status == 204
        for _ in range(6):  # a confirmed address gets nothing by these
            assert post(server, VERIFY, email=email).status == 204
            assert post(server, "/api/auth/signup", **owner).status == 202
        assert post(server, FORGOT, email=email).status == 204
        assert box.next("reset_password")


def test_requests_by_others_leave_resets_for_the_owners_device(database_kind: str) -> None:
    with usher(database_kind, LIMIT_MAILS=20) as server:
        sign_up(server)
        _, email, box = verified(server)
        browser = log_in(server, email, browser=True)
        for _ in range(6):
            assert post(server, FORGOT, email=email).status == 204
        box.next("reset_password", 5)
        assert browser.post(FORGOT, {"email": email}).status == 204
        box.next("reset_password", 6)


def test_a_mailbox_is_not_filled_with_notices_either(database_kind: str) -> None:
    with usher(database_kind, LIMIT_MAILS=20) as server:
        client, _, box = new_account(server)
        passwords = [PASSWORD, *(f"{NEW} {number}" for number in range(7))]
        for current, new in itertools.pairwise(passwords):
            body = {"current_password": current, "new_password": new}
            assert client.post("/api/auth/password", body).status == 204
        box.next("password_changed", 5)
        _, _, later = new_account(server)
        later.next("verify_address")
        assert box.count("password_changed") == 5
