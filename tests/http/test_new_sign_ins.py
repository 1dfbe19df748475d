"""The mail about a sign-in on a new device."""

from __future__ import annotations

from collections.abc import Iterator

import pyotp
import pytest

from services.recovery.new_sign_ins import described
from tests.http.mails import FORGOT, new_account, post, verified
from tests.support.mail_server import text_of
from tests.support.server import PASSWORD, Answer, Client, Usher, log_in, sign_up, usher


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
