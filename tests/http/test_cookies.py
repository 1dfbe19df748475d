"""cookies.py: names and paths of installations that share a host."""

from __future__ import annotations

from http.cookies import SimpleCookie

import pytest

from handlers.cookies import CookieJar
from services.settings.origins import cookie_prefix_of
from tests.support.server import PASSWORD, Client, address, usher

URLS = (
    "https://example.org",
    "https://example.org/usher",
    "https://example.org/usher/staff",
    "https://example.org/usher.staff",
    "https://example.org/oauth_",
    "https://example.org/oauth_a",
)


def jar(url: str) -> CookieJar:
    path = url.removeprefix("https://example.org")
    return CookieJar(True, cookie_prefix_of(url), path)


def test_over_https_no_other_host_can_set_the_cookie_of_a_session() -> None:
    body = {"email": address(), "password": PASSWORD, "name": "Ada"}
    with usher(
        "sqlite", PUBLIC_URL="https://example.org/usher", PUBLIC_URL_PATH="stripped"
    ) as server:
        answer = Client(server, browser=True).post("/api/auth/signup", body)
    assert answer.status == 201, answer
    assert answer.headers["Strict-Transport-Security"]
    found = {}
    for header in answer.headers.get_all("Set-Cookie") or ():
        assert "domain" not in header.lower()
        for name, morsel in SimpleCookie(header).items():
            found[name] = (morsel["path"], morsel["secure"], morsel["samesite"])
    assert found == {
        "__Host-usher.access_token": ("/", True, "Lax"),
        "__Secure-usher.refresh_token": ("/usher/api/auth", True, "Strict"),
        "__Secure-usher.device": ("/usher/api/auth", True, "Strict"),
    }


@pytest.mark.parametrize("one", URLS)
def test_what_shares_a_host_shares_no_name(one: str) -> None:
    """Also where a path lies within another: a browser sends it the cookies of both."""
    key = "0123456789ab"
    mine = jar(one)
    names = {mine.access, mine.refresh, mine.device, mine.authorization_request + key}
    for other in URLS:
        if other != one:
            theirs = jar(other)
            their = {theirs.access, theirs.refresh, theirs.device}
            their.add(theirs.authorization_request + key)
            assert not names & their
            assert mine.authorization_requests(their) == []
    assert mine.authorization_requests(names) == [mine.authorization_request + key]
