"""Signing in with providers in a browser: oidc-provider-mock, and the tests' own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, expect

from tests.support.browser import Tab, Visit, Visitor
from tests.support.checks import rows
from tests.support.github import github
from tests.support.practice_provider import STYLES, PracticeProvider, practice_provider
from tests.support.provider import Provider, provider
from tests.support.server import PASSWORD, Usher, address, free_port, sign_up, usher
from tests.support.sign_in import settings_for

AWAY = "Away <b>& far from everywhere</b>"
"""The title of a provider that nobody listens for."""


@pytest.fixture(scope="module")
def practice() -> Iterator[PracticeProvider]:
    with practice_provider() as running:
        yield running


@pytest.fixture(scope="module")
def shared_op() -> Iterator[Provider]:
    with provider() as running:
        yield running


@pytest.fixture(scope="module")
def server(database_kind: str, practice: PracticeProvider, shared_op: Provider) -> Iterator[Usher]:
    with github() as hub:
        known = {"CLIENT_ID": hub.client_id, "CLIENT_SECRET": hub.client_secret}
        nowhere = f"http://127.0.0.1:{free_port()}"
        chosen = {
            **settings_for(shared_op, "practice", ISSUER=practice.issuer),
            **settings_for(shared_op, "campus"),
            **settings_for(shared_op, "github", ISSUER=hub.origin, **known),
            **settings_for(shared_op, "away", ISSUER=nowhere, TITLE=AWAY),
            "OAUTH_PROVIDERS": "practice,campus,github,away",
            "LIMIT_WRONG_SIGNINS": 100,
        }
        with usher(database_kind, **chosen) as running:
            sign_up(running)
            yield running


@pytest.fixture
def op(shared_op: Provider) -> Iterator[Provider]:
    """The provider `campus`, with somebody new at it."""
    shared_op.user = {"sub": address(), "email": address(), "email_verified": True, "name": "Grace"}
    for received in (shared_op.ended, shared_op.revoked):
        received.clear()
    yield shared_op
    shared_op.behave()


@pytest.fixture
def visitor(visit: Visit) -> Visitor:
    one = visit()
    one.context.route(STYLES, lambda route: route.fulfill(content_type="text/css", body=""))
    return one


def go_on(tab: Tab, title: str, view: str = "sign-in") -> None:
    """Press "Continue with …"."""
    tab.at(f"#{view}").get_by_role("link", name=f"Continue with {title}").click()


def consent(tab: Tab, sub: str) -> None:
    """Be somebody at the practice provider, and let Usher in."""
    tab.page.get_by_placeholder("sub").fill(sub)
    tab.page.get_by_role("button", name="Authorize").click()


def arrive_by(visitor: Visitor, title: str = "Campus") -> Tab:
    """Signed in at a provider that asks nothing."""
    tab = visitor.open()
    go_on(tab, title)
    return tab.joined()


def heading(tab: Tab) -> Locator:
    return tab.page.get_by_role("heading", level=1)


def press(tab: Tab, name: str) -> None:
    tab.page.get_by_role("button", name=name, exact=True).click()


def link(tab: Tab, title: str) -> None:
    """Link another provider, with the password."""
    press(tab, f"Link {title}")
    tab.fill(link_password=PASSWORD)
    tab.at("#link-submit").click()


def grow_old(visitor: Visitor) -> None:
    """Their sign-in was not just now."""
    answer = visitor.context.request.get(f"{visitor.server.url}/api/sessions")
    [session] = answer.json()["items"]
    older = "UPDATE login_sessions SET auth_time = auth_time - 9000 WHERE id = ?"
    rows(visitor.server, older, session["id"])


def signed_out(tab: Tab, words: str) -> None:
    """The page says so, calmly, and offers to sign in again."""
    expect(tab.at("#notice")).to_be_focused()
    expect(tab.at("#notice-title")).to_have_text("You are signed out")
    expect(tab.at("#notice-text")).to_contain_text(words)
    expect(tab.at("#sign-in")).to_be_visible()
    expect(tab.at("#signed-in")).to_be_hidden()
