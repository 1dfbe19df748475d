"""/client/usher.js in Chromium: pages of other origins and sites, and tabs with one login."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request, Route, expect

from tests.support.http_servers import Silent, serving
from tests.support.js_package import SOURCE
from tests.support.provider import Provider, provider
from tests.support.server import PASSWORD, Usher, address, free_port, sign_up, usher
from tests.support.sign_in import settings_for

README = (SOURCE / "README.md").read_text("utf-8")
[EXAMPLE] = re.findall(r"^```html\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
MAKE = """async ([url, more]) => {
  const client = await import(`${url}/client/usher.js`);
  globalThis.usher = client.createUsher({ url, ...more, ...(more.kept && { storage: localStorage }),
    kept: undefined });
}"""
SIGN_IN = "([email, password]) => usher.signIn({ email, password }).catch(({ code }) => code)"
CONNECT = "async () => (await usher.connect()).user.id"


class _Site(Silent, BaseHTTPRequestHandler):
    page = ""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(self.page.encode() if self.path == "/example" else b"<!doctype html>")


@contextmanager
def site(page: str) -> Iterator[int]:
    """Somebody's web server. Its port: `localhost` and `127.0.0.1` are two sites."""
    handler = type("Site", (_Site,), {"page": page})
    with serving(handler) as port:
        yield port


class Place:
    """An Usher at localhost, and pages of another port and of another site."""

    def __init__(self, server: Usher, url: str, port: int, op: Provider) -> None:
        self.server = server
        self.op = op
        """A provider, `campus`, that asks nothing."""
        self.url = url
        self.same_site = f"http://localhost:{port}"
        self.other_site = f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    port = free_port()
    url = f"http://localhost:{port}"
    with site(EXAMPLE.replace("http://localhost:8888", url)) as other:
        allowed = f"http://localhost:{other},http://127.0.0.1:{other}"
        own = {"PORT": port, "PUBLIC_URL": url, "ALLOWED_ORIGINS": allowed}
        with provider() as op, usher("sqlite", **own, **settings_for(op, "campus")) as server:
            sign_up(server)
            yield Place(server, url, other, op)


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    made = browser.new_context()
    yield made
    made.close()


@pytest.fixture
def visit(context: BrowserContext, place: Place) -> Callable[..., Page]:
    def page(origin: str, **more: Any) -> Page:
        """A page of an origin, with a client in it."""
        opened = context.new_page()
        opened.goto(f"{origin}/")
        opened.evaluate(MAKE, [place.url, more])
        return opened

    return page


Visit = Callable[..., Page]


def refreshes(context: BrowserContext) -> list[str]:
    """The methods of the renewals of all tabs, from now on; without the questions of CORS."""
    asked: list[str] = []

    def note(request: Request) -> None:
        if request.url.endswith("/api/auth/refresh") and request.method == "POST":
            asked.append(request.method)

    context.on("request", note)
    return asked


def somebody(place: Place) -> tuple[str, str]:
    """The address and the id of a new account."""
    email = address()
    return email, str(sign_up(place.server, email=email).user["id"])


def test_the_page_of_the_readme_signs_in_and_connects(
    context: BrowserContext, place: Place
) -> None:
    email, _ = somebody(place)
    page = context.new_page()
    page.goto(f"{place.same_site}/example")
    page.fill("input[name=email]", email)
    page.fill("input[name=password]", "not this one at all")
    page.click("button")
    expect(page.locator("#said")).not_to_be_empty()
    page.fill("input[name=password]", PASSWORD)
    page.click("button")
    expect(page.locator("#said")).to_have_text("Ada is connected")


def test_a_page_of_the_same_site_uses_cookies_over_reloads(visit: Visit, place: Place) -> None:
    email, user = somebody(place)
    page = visit(place.same_site)
    assert page.evaluate("usher.me()") is None
    assert page.evaluate(SIGN_IN, [email, PASSWORD])["id"] == user
    assert page.evaluate(CONNECT) == user
    page.reload()
    page.evaluate(MAKE, [place.url, {}])
    assert page.evaluate("usher.me()")["id"] == user
    assert page.evaluate(CONNECT) == user
    assert (
        page.evaluate("Object.keys(localStorage).filter((key) => key.startsWith('usher '))") == []
    )
    page.evaluate("usher.signOut()")
    assert page.evaluate("usher.me()") is None


def test_a_page_of_the_same_site_signs_in_with_a_provider(visit: Visit, place: Place) -> None:
    place.op.user = {"sub": address(), "email": address(), "email_verified": True, "name": "Grace"}
    page = visit(place.same_site)
    next_page = f"{place.same_site}/?back=1"
    with page.expect_navigation(url=next_page):
        page.evaluate("(next) => { usher.signInWith('campus', { next }); }", next_page)
    page.evaluate(MAKE, [place.url, {}])
    assert page.evaluate("usher.me()")["name"] == "Grace"
    assert page.evaluate(CONNECT)


def test_calls_with_cookies_that_have_expired_renew_them_once(
    context: BrowserContext, visit: Visit, place: Place
) -> None:
    email, _ = somebody(place)
    page = visit(place.same_site)
    page.evaluate(SIGN_IN, [email, PASSWORD])
    asked = refreshes(context)
    context.clear_cookies(name="access_token")
    called = """() => Promise.all([1, 2, 3].map(async () => (
      await usher.fetch('/api/channels', { method: 'POST', body: '{"name":"tea"}',
        headers: { 'Content-Type': 'application/json' } })).status))"""
    assert page.evaluate(called) == [201, 201, 201]
    assert asked == ["POST"]


def test_a_page_of_another_site_uses_tokens(visit: Visit, place: Place) -> None:
    email, user = somebody(place)
    page = visit(place.other_site)
    assert page.evaluate(SIGN_IN, [email, PASSWORD])["id"] == user
    assert page.evaluate(CONNECT) == user
    called = "async () => (await usher.fetch('/api/auth/me')).status"
    assert page.evaluate(called) == 200
    page.reload()
    page.evaluate(MAKE, [place.url, {}])
    assert page.evaluate("usher.me()") is None


def test_cookies_that_the_browser_does_not_store_are_reported(visit: Visit, place: Place) -> None:
    email, _ = somebody(place)
    page = visit(place.other_site, credentials="cookies")
    assert page.evaluate(SIGN_IN, [email, PASSWORD]) == "cookies_blocked"


def test_tabs_that_share_tokens_renew_them_once(
    context: BrowserContext, visit: Visit, place: Place
) -> None:
    email, user = somebody(place)
    first = visit(place.other_site, kept=True)
    first.evaluate(SIGN_IN, [email, PASSWORD])
    tabs = [first, visit(place.other_site, kept=True), visit(place.other_site, kept=True)]
    assert tabs[2].evaluate("usher.user.id") == user
    asked = refreshes(context)
    # An access token that is no good any more, in the storage that all of them read.
    first.evaluate(
        """() => {
          const key = Object.keys(localStorage).find((name) => /^usher http.*[/]$/.test(name));
          const kept = JSON.parse(localStorage.getItem(key));
          localStorage.setItem(key, JSON.stringify({ ...kept, access: `${kept.access}x` }));
        }"""
    )
    begin = (
        "() => { globalThis.called = usher.fetch('/api/auth/me').then(({ status }) => status); }"
    )
    for tab in tabs:
        tab.evaluate(begin)
    assert [tab.evaluate("globalThis.called") for tab in tabs] == [200, 200, 200]
    assert asked == ["POST"]


def test_a_page_of_an_origin_that_is_not_allowed_cannot_import_it(
    context: BrowserContext, place: Place
) -> None:
    with site("") as other_site:
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{other_site}/")
        imported = "(url) => import(`${url}/client/usher.js`).then(() => 'in', ({ name }) => name)"
        assert page.evaluate(imported, place.url) == "TypeError"


def test_a_credential_is_sent_to_the_server_only(visit: Visit, place: Place) -> None:
    email, _ = somebody(place)
    page = visit(place.other_site)
    page.evaluate(SIGN_IN, [email, PASSWORD])
    seen: list[dict[str, str]] = []

    def answer(route: Route) -> None:
        seen.append(route.request.headers)
        route.fulfill()

    page.route("**/elsewhere", answer)
    page.evaluate("(url) => usher.fetch(`${url}/elsewhere`)", place.other_site)
    page.evaluate(
        "(url) => usher.fetch(new Request(`${url}/elsewhere`)).catch(() => {})",
        place.url.replace("localhost", "localhost.evil.example"),
    )
    assert len(seen) == 2
    assert ["authorization" in headers for headers in seen] == [False, False]
