"""`/set-password` in a real browser: a link sets a password, and its token stays in the page."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Request, expect

from tests.support.accessibility import low_contrast, nameless, repeated_ids, spilled, too_small
from tests.support.browser import Tab, Visitor, visitors
from tests.support.server import PASSWORD, Client, Usher, address, sign_up, usher

Link = Callable[[], str]
VIEWS = ("choose", "weak", "refused", "done")


@pytest.fixture(scope="module")
def admin() -> Iterator[Client]:
    """On SQLite only: the page asks for nothing that others do not ask for on both."""
    with usher("sqlite", APP_NAME="The <b>Reading</b> Room", APP_ACCENT="#ffcc00") as running:
        yield sign_up(running)


@pytest.fixture
def visitor(browser: Browser, admin: Client) -> Iterator[Visitor]:
    with visitors(browser, admin.server) as new:
        yield new()


def link(admin: Client, email: str | None = None) -> str:
    made = admin.post("/api/admin/users", {"email": email or address(), "name": "Grace"})
    return str(made.body["set_password_url"])


def token_of(url: str) -> str:
    return url.partition("#token=")[2]


def choose(tab: Tab, password: str) -> None:
    tab.fill(new_password=password)
    tab.page.get_by_role("button", name="Set password").click()


def page_of(server: Usher) -> str:
    return f"{server.pages}/set-password"


def test_a_link_sets_a_password_and_its_token_is_sent_nowhere_else(
    visitor: Visitor, admin: Client
) -> None:
    url = link(admin, visitor.email)
    asked: list[Request] = []
    # Playwright takes no built-in method.
    visitor.context.on("request", lambda request: asked.append(request))  # noqa: PLW0108
    tab = visitor.open(url)
    expect(tab.page.get_by_role("heading", name="Set a password")).to_be_visible()
    assert tab.page.url == page_of(visitor.server), "out of the address bar"
    choose(tab, "password1")
    expect(tab.at("#new-password-error")).to_be_visible()
    expect(tab.at("#new-password")).to_be_focused()
    choose(tab, PASSWORD)
    expect(tab.at("#done-title")).to_be_focused()
    expect(tab.at("#new-password")).to_have_value("")
    with_token = [request for request in asked if token_of(url) in (request.post_data or "")]
    assert {request.url for request in with_token} == {
        f"{visitor.server.pages}/api/auth/password/reset"
    }
    assert all(token_of(url) not in repr([r.url, r.headers]) for r in asked)
    assert token_of(url) not in tab.page.content()
    tab.page.get_by_role("link", name="Sign in").click()
    tab.sign_in(visitor.email)
    expect(tab.at("#state")).to_have_attribute("data-state", "joined")


def test_a_link_that_is_dead_or_none_says_so(visitor: Visitor, admin: Client) -> None:
    url = link(admin)
    body = {"token": token_of(url), "new_password": PASSWORD}
    assert visitor.post("/api/auth/password/reset", body) == 204
    tab = visitor.open(url)
    choose(tab, PASSWORD)
    expect(tab.at("#refused-title")).to_be_focused()
    tab.page.goto(page_of(visitor.server) + "#nothing")
    tab.page.reload()
    expect(tab.page.get_by_role("heading", level=1)).to_have_text("This link does not work")


@pytest.mark.slow
def test_another_link_opened_in_the_same_tab_is_the_one_that_counts(
    visitor: Visitor, admin: Client
) -> None:
    tab = visitor.open(page_of(visitor.server))
    expect(tab.at("#refused")).to_be_visible()
    tab.page.goto(link(admin, visitor.email))
    expect(tab.at("#choose")).to_be_visible()
    assert tab.page.url == page_of(visitor.server)
    choose(tab, PASSWORD)
    expect(tab.at("#done")).to_be_visible()


@pytest.mark.slow
def test_it_works_with_the_keyboard_alone(visitor: Visitor, admin: Client) -> None:
    tab = visitor.open(link(admin))
    expect(tab.at("#choose")).to_be_visible()
    tab.tab_to("#new-password")
    tab.page.keyboard.type(PASSWORD)
    tab.tab_to(".reveal")
    tab.press("Enter")
    expect(tab.at("#new-password")).to_have_attribute("type", "text")
    tab.tab_to("#choose-form [type=submit]")
    tab.press("Enter")
    expect(tab.at("#done-title")).to_be_focused()
    tab.tab_to("#done .button")


def shown(visitor: Visitor, admin: Client, view: str) -> Tab:
    tab = visitor.open(page_of(visitor.server) if view == "refused" else link(admin))
    if view == "weak":
        choose(tab, "password1")
        expect(tab.at("#new-password-error")).to_be_visible()
    if view == "done":
        choose(tab, PASSWORD)
    expect(tab.at("#choose" if view == "weak" else f"#{view}")).to_be_visible()
    return tab


@pytest.mark.slow
@pytest.mark.parametrize("view", VIEWS)
def test_everybody_can_use_it(visitor: Visitor, admin: Client, view: str) -> None:
    tab = shown(visitor, admin, view)
    page = tab.page
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for width in (320, 390, 1280):
            page.set_viewport_size({"width": width, "height": 800})
            found = low_contrast(page) + nameless(page) + too_small(page) + spilled(page)
            assert found + repeated_ids(page) == [], (scheme, width)
