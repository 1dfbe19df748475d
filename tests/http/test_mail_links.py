"""Forgotten passwords, and addresses that are confirmed, changed and brought back, by HTTP alone
and with mails as files."""

from __future__ import annotations

import itertools
import re
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyotp
import pytest

from services.recovery.new_sign_ins import described
from tests.support.checks import plain_refusal
from tests.support.databases import look
from tests.support.mail_server import Mailbox, link_of, text_of
from tests.support.raw import assert_quiet
from tests.support.server import (
    PASSWORD,
    Answer,
    Client,
    Usher,
    address,
    log_in,
    sign_up,
    usher,
    wait_until,
)

NEW = "an otter under the old bridge 3"
FORGOT, RESET = "/api/auth/password/forgot", "/api/auth/password/reset"
EMAIL, CONFIRM = "/api/auth/email", "/api/auth/email/confirm"
VERIFY, UNDO = "/api/auth/email/verify", "/api/auth/email/undo"
MAIL_FILES = re.compile(r"usher_pl_[A-Za-z0-9_-]{20,}|[a-z0-9]+@example\.org")


@pytest.fixture(scope="module")
def installation(database_kind: str) -> Iterator[Usher]:
    """An Usher whose administrator is there already."""
    with usher(database_kind) as server:
        sign_up(server)
        yield server
        assert_quiet(server.log)
        assert MAIL_FILES.findall(server.log) == [], "no address and no token in the log"


@pytest.fixture(scope="module")
def strict(database_kind: str) -> Iterator[Usher]:
    """One where addresses are confirmed before anybody signs in."""
    with usher(database_kind, EMAIL_VERIFICATION="required") as server:
        yield server
        assert_quiet(server.log)
        assert MAIL_FILES.findall(server.log) == []


def mailbox(server: Usher, email: str) -> Mailbox:
    return Mailbox(server.data_dir, email)


def post(server: Usher, path: str, **body: Any) -> Answer:
    return Client(server).post(path, body)


def code(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.body["code"] if answer.body else ""


def new_account(server: Usher) -> tuple[Client, str, Mailbox]:
    email = address()
    return sign_up(server, email=email), email, mailbox(server, email)


def verified(server: Usher) -> tuple[Client, str, Mailbox]:
    """Somebody whose address is confirmed."""
    client, email, box = new_account(server)
    assert client.post(CONFIRM, {"token": box.token("verify_address")}).status == 204
    return client, email, box


def audited(server: Usher, kind: str) -> int:
    """How many entries of a kind the audit trail has."""
    query = "SELECT COUNT(*) FROM audit_events WHERE kind = ?"
    return int(look(server.database_url, query, kind)[0][0])


# ---- forgotten passwords -------------------------------------------------------------------


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


# ---- confirming ----------------------------------------------------------------------------


def is_verified(server: Usher, email: str) -> bool:
    rows = look(server.database_url, "SELECT email_verified FROM users WHERE email = ?", email)
    return bool(rows[0][0])


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


# ---- another address -----------------------------------------------------------------------


def moved(server: Usher) -> tuple[Client, str, str, Mailbox]:
    """Somebody who has changed their address: their client, both addresses, the former mailbox."""
    client, former, box = verified(server)
    new = address()
    assert client.post(EMAIL, {"email": new}).status == 204
    assert box.next("address_change_asked")
    token = mailbox(server, new).token("change_address")
    assert client.post(CONFIRM, {"token": token}).status == 204
    return client, former, new, box


def test_an_address_changes_when_the_new_one_is_confirmed(installation: Usher) -> None:
    client, former, box = verified(installation)
    new = address()
    assert client.post(EMAIL, {"email": new}).status == 204
    token = mailbox(installation, new).token("change_address")
    assert client.get("/api/auth/me").body["email"] == former
    alone = post(installation, CONFIRM, token=token)
    assert code(alone) == (403, "reauthentication_needed"), "it may have been mistyped"
    assert code(sign_up(installation).post(CONFIRM, {"token": token}))[0] == 403
    assert post(installation, CONFIRM, token=token, password=PASSWORD).status == 204
    assert client.get("/api/auth/me").body["email"] == new
    assert link_of(box.next("address_changed")).startswith(f"{installation.pages}/undo-email#")
    log_in(installation, new)
    assert post(installation, "/api/auth/login", email=former, password=PASSWORD).status == 401


def test_the_former_address_takes_the_account_back(installation: Usher) -> None:
    thief, former, new, box = moved(installation)
    body = {"current_password": PASSWORD, "new_password": NEW}
    assert thief.post("/api/auth/password", body).status == 204
    secret = thief.post("/api/auth/totp", {}).body["secret"]
    confirmed = thief.post("/api/auth/totp/confirm", {"code": pyotp.TOTP(secret).now()})
    assert confirmed.status == 200
    token = box.token("address_changed")
    assert post(installation, UNDO, token=token).status == 204
    assert thief.get("/api/auth/me").status == 401
    for password in (PASSWORD, NEW):
        for email in (former, new):
            answer = post(installation, "/api/auth/login", email=email, password=password)
            assert answer.status == 401
    box.next("address_restored")
    mailbox(installation, new).next("address_restored")
    reset = box.token("reset_password")
    assert post(installation, RESET, token=reset, new_password=NEW).status == 204
    log_in(installation, former, password=NEW)
    assert code(post(installation, UNDO, token=token)) == (403, "link_refused")


def test_a_thief_who_changes_it_twice_cannot_revert_the_owners_undo(installation: Usher) -> None:
    thief, former, second, box = moved(installation)
    third = address()
    assert thief.post(EMAIL, {"email": third}).status == 204
    assert (
        thief.post(CONFIRM, {"token": mailbox(installation, third).token("change_address")}).status
        == 204
    )
    theirs = mailbox(installation, second).token("address_changed")
    assert post(installation, UNDO, token=box.token("address_changed")).status == 204
    assert code(post(installation, UNDO, token=theirs)) == (403, "link_refused")
    assert is_verified(installation, former)


def test_an_address_that_can_be_restored_is_reserved(installation: Usher) -> None:
    _, former, _, box = moved(installation)
    body = {"email": former, "password": PASSWORD, "name": "Eve"}
    assert code(Client(installation).post("/api/auth/signup", body)) == (409, "signup_refused")
    eve, _, _ = verified(installation)
    assert eve.post(EMAIL, {"email": former}).status == 204
    box.next("address_known")
    assert box.count("change_address") == 0
    assert post(installation, UNDO, token=box.token("address_changed")).status == 204


def test_the_response_does_not_reveal_that_another_account_has_the_address(
    installation: Usher,
) -> None:
    client, _, _ = verified(installation)
    _, taken, box = verified(installation)
    answer = client.post(EMAIL, {"email": taken})
    assert (answer.status, answer.text) == (204, b"")
    box.next("address_known")
    assert box.count("change_address") == 0


def test_an_unconfirmed_address_cannot_be_restored(installation: Usher) -> None:
    """It may belong to another person, because of a mistake at the sign-up."""
    client, _, box = new_account(installation)
    new = address()
    assert client.post(EMAIL, {"email": new}).status == 204
    token = mailbox(installation, new).token("change_address")
    assert client.post(CONFIRM, {"token": token}).status == 204
    assert "#token=" not in text_of(box.next("address_left"))
    assert box.count("address_changed") == 0
    assert is_verified(installation, new)


def test_a_password_that_changes_meanwhile_invalidates_the_mail(installation: Usher) -> None:
    client, _, _ = verified(installation)
    new = address()
    assert client.post(EMAIL, {"email": new}).status == 204
    token = mailbox(installation, new).token("change_address")
    body = {"current_password": PASSWORD, "new_password": NEW}
    assert client.post("/api/auth/password", body).status == 204
    assert code(client.post(CONFIRM, {"token": token})) == (403, "link_refused")


def test_a_change_asks_for_a_fresh_proof(database_kind: str) -> None:
    with usher(database_kind, STEP_UP_SECONDS=1) as server:
        client, _, _ = new_account(server)
        time.sleep(1.2)
        answer = client.post(EMAIL, {"email": address()})
        assert code(answer) == (401, "step_up_needed")


# ---- new sign-ins --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def behind_proxy(database_kind: str) -> Iterator[Usher]:
    """An Usher that takes a client's address from its proxy, so that tests come from several."""
    with usher(database_kind, TRUSTED_PROXIES="127.0.0.1") as server:
        sign_up(server)
        yield server


def test_a_sign_in_on_an_unknown_device_sends_a_mail(behind_proxy: Usher) -> None:
    _, email, box = verified(behind_proxy)
    body = {"email": email, "password": PASSWORD, "client": "native"}
    log_in(behind_proxy, email)  # the same network

    def sign_in(ip: str, **more: str) -> Answer:
        agent = "Mozilla/5.0 (X11; Linux) Firefox/1 http://evil.example"
        return Client(behind_proxy).post(
            "/api/auth/login", body | more, **{"X-Forwarded-For": ip, "User-Agent": agent}
        )

    device = sign_in("203.0.113.7").body["device"]
    mail = box.next("new_sign_in")
    assert "Firefox on Linux" in text_of(mail)
    assert "evil.example" not in text_of(mail)
    assert sign_in("203.0.113.7").status == 200  # known by now
    assert sign_in("203.0.113.99", device=device).status == 200
    assert sign_in("198.51.100.1").status == 200
    box.next("new_sign_in", 2)
    assert box.count("new_sign_in") == 2


def test_a_known_device_is_known_behind_a_second_factor_too(behind_proxy: Usher) -> None:
    client, email, box = verified(behind_proxy)
    app = pyotp.TOTP(client.post("/api/auth/totp", {}).body["secret"])
    codes = client.post("/api/auth/totp/confirm", {"code": app.now()}).body["recovery_codes"]

    def sign_in(ip: str, **more: str) -> Answer:
        body = {"email": email, "password": PASSWORD, "client": "native"} | more
        whence = {"X-Forwarded-For": ip}
        needed = Client(behind_proxy).post("/api/auth/login", body, **whence)
        answer = {"challenge": needed.body["challenge"], "code": codes.pop()} | more
        return Client(behind_proxy).post("/api/auth/second-factor", answer, **whence)

    device = sign_in("203.0.113.20").body["device"]
    box.next("new_sign_in")
    assert sign_in("198.51.100.20", device=device).status == 200
    assert post(behind_proxy, FORGOT, email=email).status == 204
    box.next("reset_password")  # notices go before what is asked for
    assert box.count("new_sign_in") == 1


def test_a_user_agent_is_described_in_fixed_words() -> None:
    chrome = "Mozilla/5.0 (Windows NT 10.0) AppleWebKit/1 Chrome/120 Safari/537"
    assert described(chrome) == "Chrome on Windows"
    assert described(f"{chrome} Edg/120") == "Edge on Windows"
    assert described("python-requests/2") == "a program"
    assert described("Mozilla/5.0 (iPhone; CPU like Mac OS X) Safari/604") == "Safari on iPhone"


def test_no_notice_is_sent_to_an_address_that_was_not_confirmed(
    behind_proxy: Usher,
) -> None:
    _, email, box = new_account(behind_proxy)
    body = {"email": email, "password": PASSWORD, "client": "native"}
    answer = Client(behind_proxy).post(
        "/api/auth/login", body, **{"X-Forwarded-For": "203.0.113.8"}
    )
    assert answer.status == 200
    box.next("verify_address")
    _, _, other = new_account(behind_proxy)
    other.next("verify_address")
    assert box.count("new_sign_in") == 0
