"""The dialog of a step-up in a real browser: an act asks for it, and goes on by itself."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.support.accessibility import low_contrast, nameless, repeated_ids
from tests.support.browser import Tab, Visitor, chromium, visitors
from tests.support.checks import rows
from tests.support.server import PASSWORD, Usher, sign_up, usher


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def server() -> Iterator[Usher]:
    with usher("sqlite") as running:
        sign_up(running)
        yield running


@pytest.fixture
def visitor(browser: Browser, server: Usher) -> Iterator[Visitor]:
    with visitors(browser, server) as new:
        yield new()


def arrived_long_ago(server: Usher, visitor: Visitor) -> Tab:
    """Somebody whose sign-in is no proof any more."""
    tab = visitor.arrive()
    query = (
        "UPDATE login_sessions SET auth_time = auth_time - 9000 "
        "WHERE user_id = (SELECT id FROM users WHERE email = ?)"
    )
    rows(server, query, visitor.email)
    tab.page.evaluate("() => fetch('/api/auth/refresh', { method: 'POST' })")
    return tab


def test_an_act_that_asks_for_it_goes_on_after_the_dialog(server: Usher, visitor: Visitor) -> None:
    tab = arrived_long_ago(server, visitor)
    tab.page.get_by_role("button", name="Delete my account").click()
    tab.page.get_by_role("button", name="Delete for good").click()
    dialog = tab.page.get_by_role("dialog", name="Confirm that it is you")
    expect(dialog).to_be_visible()
    expect(tab.at("#step-up-proof")).to_be_focused()
    assert not low_contrast(tab.page)
    assert not nameless(tab.page)
    assert not repeated_ids(tab.page)
    if folder := os.environ.get("SCREENSHOTS"):
        tab.page.screenshot(path=f"{folder}/step-up.png")
    tab.fill(step_up_proof="no such heron 9")
    dialog.get_by_role("button", name="Confirm").click()
    expect(tab.at("#step-up-proof-error")).to_have_text("This is not your password.")
    tab.fill(step_up_proof=PASSWORD)
    tab.press("Enter")
    expect(dialog).to_be_hidden()
    expect(tab.at("#notice-title")).to_have_text("Your account is deleted")


def test_who_cancels_has_done_nothing(server: Usher, visitor: Visitor) -> None:
    tab = arrived_long_ago(server, visitor)
    tab.page.get_by_role("button", name="Delete my account").click()
    tab.page.get_by_role("button", name="Delete for good").click()
    expect(tab.at("#step-up")).to_be_visible()
    tab.press("Escape")
    expect(tab.at("#step-up")).to_be_hidden()
    expect(tab.at("#account-error")).not_to_be_empty()
    expect(tab.at("#state")).to_have_attribute("data-state", "joined")
