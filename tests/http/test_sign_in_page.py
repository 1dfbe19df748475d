"""`/sign-in` for other apps: its redirects and its headers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest

from services.settings.origins import MAX_NEXT_LENGTH, Origins, checked_next
from tests.http.test_pages import POLICY
from tests.support.native import App
from tests.support.server import Answer, Client, Usher, sign_up, usher

ALLOWED = "https://app.example:8443"
NAME = 'Tea & "Herons" <script>'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Usher]:
    """On SQLite only: nothing here is about rows."""
    logo: Path = tmp_path_factory.mktemp("logo") / "logo.svg"
    logo.write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    chosen = {"APP_NAME": NAME, "APP_LOGO": logo, "APP_ACCENT": "#abc"}
    with usher("sqlite", ALLOWED_ORIGINS=ALLOWED, **chosen) as running:
        yield running


@pytest.fixture(scope="module")
def ada(server: Usher) -> Client:
    return sign_up(server, browser=True)


def next_of(answer: Answer) -> str:
    """Where the page goes on to."""
    assert answer.status == 200
    [found] = re.findall(r'data-next="([^"]*)"', answer.text.decode())
    return unescape(found)


GOOD = [
    "/",
    "/board?a=1&b=%20#top",
    f"{ALLOWED}/board",
    ALLOWED,
    f"{ALLOWED}?x",
    "/a//b",
    "/a?b=/oauth/google/login",
    "/a/oauth/x",
    "/oauth/../a",
    f"{ALLOWED}/oauth/x",
    "/%5cevil",
]
BAD = [
    "",
    "board",
    "//evil.example",
    "///evil.example",
    "/\\evil.example",
    "\\/evil.example",
    "\\\\evil.example",
    "/\t/evil.example",
    "/\n/evil.example",
    "/\x00/evil.example",
    "\x01//evil.example",
    " //evil.example",
    " /board",
    "/board ",
    "https:evil.example",
    "https:/evil.example",
    "https:///evil.example",
    "https://evil.example",
    "https://app.example",
    "https://app.example:443/",
    "https://app.example:8444/",
    "http://app.example:8443/",
    f"{ALLOWED}@evil.example",
    f"{ALLOWED}:x@evil.example",
    f"{ALLOWED}.evil.example",
    f"{ALLOWED}\\@evil.example",
    f"{ALLOWED}\t@evil.example",
    f"{ALLOWED}\\.evil.example",
    "https://me@app.example:8443/",
    "https://evil.example#" + ALLOWED,
    "https://evil.example?" + ALLOWED,
    "https://evil.example\\" + ALLOWED,
    "javascript:alert(1)",
    "JavaScript://app.example:8443/%0aalert(1)",
    "data:text/html,x",
    "file:///etc/passwd",
    "ftp://app.example:8443/",
    "https://\u0430pp.example:8443/",
    "https://app\u3002example:8443/",
    "/\u2028",
    "/oauth/google/login?client=native",
    "/./oauth/google/login",
    "/a/../oauth/google/login",
    "/a/%2E%2e/oauth/google/login",
    "/%2e/oauth/google/login",
    "/a//../../oauth/google/login",
    "/../oauth/google/login#x",
    "/" + "x" * MAX_NEXT_LENGTH,
]


@pytest.mark.parametrize("target", GOOD)
def test_it_continues_to_what_is_ours_or_allowed(server: Usher, ada: Client, target: str) -> None:
    path = f"/sign-in?next={quote(target, safe='')}"
    assert next_of(Client(server).get(path)) == target
    answer = ada.get(path)
    assert (answer.status, answer.headers["Location"]) == (302, target)
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("target", BAD)
def test_it_is_sent_nowhere_else(server: Usher, ada: Client, target: str) -> None:
    path = f"/sign-in?next={quote(target, safe='')}"
    assert next_of(Client(server).get(path)) == "/"
    answer = ada.get(path)
    assert (answer.status, answer.headers["Location"]) == (302, "/")


@pytest.mark.parametrize(
    "query",
    ["", "next", "next=/a&next=/b", "next=/a&next=https://evil.example", "next=%ff", "next=%00/a"],
)
def test_what_is_not_one_target_is_none(server: Usher, query: str) -> None:
    assert next_of(Client(server).get(f"/sign-in?{query}")) == "/"


def test_names_of_this_machine_are_ours_with_our_port_only(server: Usher) -> None:
    origins = Origins(None, "127.0.0.1", server.port, (), ("127.0.0.1",))
    own = f"http://127.0.0.1:{server.port}/x"
    assert checked_next(own, origins) == own
    assert next_of(Client(server).get(f"/sign-in?next={own}")) == own
    ours = f"http://127.0.0.1:{server.port}/a/../oauth/google/login?client=native"
    assert next_of(Client(server).get(f"/sign-in?next={quote(ours, safe='')}")) == "/"
    other = f"http://127.0.0.1:{server.port + 1}/x"
    assert next_of(Client(server).get(f"/sign-in?next={other}")) == "/"
    assert not origins.is_own(ALLOWED)
    assert not origins.is_own(None)
    assert origins.is_own(f"http://localhost:{server.port}")


def test_an_ended_sign_in_redirects_no_user(server: Usher) -> None:
    gone = sign_up(server, browser=True)
    kept = dict(gone.cookies)
    assert gone.post("/api/auth/logout").status == 204
    again = Client(server, browser=True, cookies=kept)
    assert next_of(again.get("/sign-in?next=/board")) == "/board"
    nonsense = Client(server, browser=True, cookies={"access_token": "x"})
    assert next_of(nonsense.get("/sign-in?next=/board")) == "/board"


def test_a_signed_in_user_gets_the_consent_page_of_an_app(server: Usher, ada: Client) -> None:
    answer = ada.get(App(server).at("/sign-in"))
    assert answer.status == 200
    assert b'id="confirm"' in answer.text
    assert ada.user["email"].encode() not in answer.text


def test_errors_in_an_apps_request_are_reported_to_the_app(server: Usher) -> None:
    app = App(server)
    answer = Client(server).get(app.at("/sign-in", code_challenge_method="plain"))
    assert answer.status == 302
    assert app.said(answer.headers["Location"])["error"] == "invalid_request"


def test_it_has_the_strict_policy_and_is_not_cached(server: Usher) -> None:
    answer = Client(server).get("/sign-in")
    headers = answer.headers
    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    assert policy == POLICY
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Referrer-Policy"] == "no-referrer"
    page = answer.text.decode()
    assert re.findall(r"<script(?![^>]*\bsrc=)[^>]*>", page) == []
    assert re.findall(r"<style\b|\s(?:style|on[a-z]+)=[\"']", page) == []
    for source in re.findall(r"""(?:src|href)=["'](/[^"'#]+)["']""", page):
        assert Client(server).get(source).status == 200, source


def test_a_name_is_a_text_and_no_markup(server: Usher) -> None:
    page = Client(server).get("/sign-in").text.decode()
    assert NAME not in page
    assert page.count("Tea &amp; &quot;Herons&quot; &lt;script&gt;") == 3
    state = '"><script>alert(1)</script>'
    app = App(server, state=state)
    page = Client(server).get(app.at("/sign-in")).text.decode()
    assert state not in page
    assert "alert(1)</script>" not in page


def test_theme_and_logo_are_asked_for_again_by_their_tags(server: Usher) -> None:
    for path, kind in (("/brand/theme.css", "text/css"), ("/brand/logo", "image/svg+xml")):
        first = Client(server).get(path)
        assert first.headers["Content-Type"].partition(";")[0] == kind
        tag = {"If-None-Match": first.headers["ETag"]}
        assert Client(server).call("GET", path, headers=tag).status == 304
        assert Client(server).call("HEAD", path).text == b""
    assert "sandbox" in Client(server).get("/brand/logo").headers["Content-Security-Policy"]


def test_without_settings_it_is_ushers_own(servers_default: Usher) -> None:
    client = Client(servers_default)
    assert "Usher</p>" in re.sub(r"\s+", "", client.get("/sign-in").text.decode())
    assert client.get("/brand/theme.css").text == b""
    assert client.get("/brand/logo").status == 404


@pytest.fixture
def servers_default() -> Iterator[Usher]:
    with usher("sqlite") as running:
        yield running


def test_a_provider_sign_in_refuses_a_target_off_the_site(server: Usher) -> None:
    for target in BAD[2:8]:
        answer = Client(server).get(f"/oauth/nobody/login?{urlencode({'next': target})}")
        assert answer.status == 400
