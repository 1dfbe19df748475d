"""Sign-up in a real browser, by invitation or closed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Request, expect

from tests.support.browser import Visitor, visitors
from tests.support.provider import Provider, provider
from tests.support.server import Client, Usher, address, sign_up, usher
from tests.support.sign_in import settings_for


@pytest.fixture(scope="module")
def op() -> Iterator[Provider]:
    with provider() as running:
        yield running


@pytest.fixture(scope="module")
def admin(op: Provider) -> Iterator[Client]:
    with usher("sqlite", SIGNUP="invite", **settings_for(op, "campus")) as running:
        yield sign_up(running)


@pytest.fixture
def visitor(browser: Browser, admin: Client) -> Iterator[Visitor]:
    with visitors(browser, admin.server) as new:
        yield new()


def link(admin: Client, **body: str) -> str:
    return str(admin.post("/api/admin/invitations", body).body["url"])


@pytest.mark.slow
@pytest.mark.parametrize("page", ["/sign-in", "/"])
def test_without_an_invitation_the_page_says_that_one_is_needed(
    visitor: Visitor, page: str
) -> None:
    tab = visitor.open(page)
    expect(tab.at("#sign-in-form")).to_be_visible()
    expect(tab.page.get_by_role("link", name="Create an account")).to_have_count(0)
    tab = visitor.open(f"{page}#sign-up")
    expect(tab.at("#sign-up-note")).to_contain_text("An invitation is needed")
    expect(tab.at("#sign-up-form")).to_be_hidden()
    expect(tab.page.get_by_role("link", name="Continue with Campus")).to_have_count(0)


def test_a_link_opens_an_account_and_its_token_stands_in_no_address(
    visitor: Visitor, admin: Client
) -> None:
    url = link(admin, email=visitor.email)
    token = url.partition("#invitation=")[2]
    asked: list[Request] = []
    # Playwright takes no built-in method.
    visitor.context.on("request", lambda request: asked.append(request))  # noqa: PLW0108
    tab = visitor.open(url)
    expect(tab.at("#sign-up-note")).to_contain_text("You are invited")
    assert tab.page.url == f"{visitor.server.pages}/sign-in#sign-up"
    tab.sign_up(address())
    expect(tab.at("#sign-up-form .form-error")).to_contain_text("This invitation is not valid")
    tab.sign_up(visitor.email)
    tab.joined()
    with_token = {r.url for r in asked if token in (r.post_data or "")}
    assert with_token == {f"{visitor.server.pages}/api/auth/signup"}
    assert all(token not in repr([r.url, r.headers]) for r in asked)


@pytest.mark.slow
def test_a_link_opens_an_account_by_a_provider(
    visitor: Visitor, admin: Client, op: Provider
) -> None:
    op.user = {"sub": address(), "email": address(), "email_verified": True, "name": "Grace"}
    url = link(admin, role="admin")
    token = url.partition("#invitation=")[2]
    asked: list[Request] = []
    visitor.context.on("request", lambda request: asked.append(request))  # noqa: PLW0108
    tab = visitor.open(url)
    tab.at("#sign-up").get_by_role("link", name="Continue with Campus").click()
    tab.joined()
    expect(tab.area("Console").at("#fact-role")).to_have_text("admin")
    assert all(token not in repr([r.url, r.headers]) for r in asked)
    again = visitor.open(url)
    expect(again.at("#signed-in")).to_be_visible()
    assert token not in again.page.url


@pytest.mark.slow
def test_where_sign_up_is_closed_the_page_says_so(browser: Browser) -> None:
    with usher("sqlite", SIGNUP="closed") as server:
        first = Client(server).get("/api/auth/signup").body["signup"]
        assert first == "open", "the very first account"
        closed(browser, server)


def closed(browser: Browser, server: Usher) -> None:
    sign_up(server)
    with visitors(browser, server) as new:
        tab = new().open("/sign-in#sign-up")
        expect(tab.at("#sign-up-note")).to_contain_text("New accounts cannot be created here")
        expect(tab.at("#sign-up-form")).to_be_hidden()
        tab.page.get_by_role("link", name="Sign in").click()
        expect(tab.at("#sign-in-form")).to_be_visible()
        expect(tab.page.get_by_role("link", name="Create an account")).to_have_count(0)
