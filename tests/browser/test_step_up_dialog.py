"""The step-up dialog in a real browser: a call opens it and continues afterwards."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.browser.test_factors_page import home
from tests.support.accessibility import low_contrast, nameless, repeated_ids
from tests.support.browser import Tab, Visitor, with_authenticator
from tests.support.checks import rows
from tests.support.provider import Provider, provider
from tests.support.server import PASSWORD, Usher, address, sign_up, usher
from tests.support.sign_in import settings_for


@pytest.fixture(scope="module")
def op() -> Iterator[Provider]:
    with provider() as running:
        yield running


@pytest.fixture(scope="module")
def server(op: Provider) -> Iterator[Usher]:
    with usher("sqlite", **settings_for(op, "campus")) as running:
        sign_up(running)
        yield running


def arrived_long_ago(visitor: Visitor) -> Tab:
    """Somebody whose sign-in is no proof any more."""
    tab = visitor.arrive()
    grow_old(visitor, tab)
    return tab


def test_a_call_that_needs_a_step_up_continues_after_the_dialog(visitor: Visitor) -> None:
    tab = arrived_long_ago(visitor)
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


@pytest.mark.slow
def test_a_cancelled_step_up_has_no_effect(visitor: Visitor) -> None:
    tab = arrived_long_ago(visitor)
    tab.page.get_by_role("button", name="Delete my account").click()
    tab.page.get_by_role("button", name="Delete for good").click()
    expect(tab.at("#step-up")).to_be_visible()
    tab.press("Escape")
    expect(tab.at("#step-up")).to_be_hidden()
    expect(tab.at("#account-error")).not_to_be_empty()
    expect(tab.at("#state")).to_have_attribute("data-state", "joined")


def arrived_by_provider(op: Provider, visitor: Visitor) -> Tab:
    """Somebody who has neither a password nor a second factor."""
    op.user = {"sub": address(), "email": visitor.email, "email_verified": True, "name": "Grace"}
    tab = visitor.open()
    tab.at("#sign-in").get_by_role("link", name="Continue with Campus").click()
    return tab.joined()


def grow_old(visitor: Visitor, tab: Tab) -> None:
    """Their sign-in is no proof any more."""
    query = (
        "UPDATE login_sessions SET auth_time = auth_time - 9000 "
        "WHERE user_id = (SELECT id FROM users WHERE email = ?)"
    )
    rows(visitor.server, query, visitor.email)
    tab.page.evaluate("() => fetch('/api/auth/refresh', { method: 'POST' })")


def begin_to_leave(tab: Tab) -> None:
    tab.page.get_by_role("button", name="Delete my account").click()
    tab.page.get_by_role("button", name="Delete for good").click()
    expect(tab.page.get_by_role("dialog", name="Confirm that it is you")).to_be_visible()


def shown_well(tab: Tab, name: str) -> None:
    assert not low_contrast(tab.page)
    assert not nameless(tab.page)
    assert not repeated_ids(tab.page)
    if folder := os.environ.get("SCREENSHOTS"):
        tab.page.screenshot(path=f"{folder}/{name}.png")


@pytest.mark.slow
def test_a_user_with_only_a_provider_signs_in_there_again(op: Provider, visitor: Visitor) -> None:
    tab = arrived_by_provider(op, visitor)
    grow_old(visitor, tab)
    begin_to_leave(tab)
    expect(tab.at("#step-up-proof")).to_be_hidden()
    expect(tab.page.get_by_role("button", name="Use a passkey")).to_be_hidden()
    way = tab.page.get_by_role("link", name="Sign in again with Campus")
    expect(way).to_be_focused()
    shown_well(tab, "step-up-provider")
    way.click()
    tab.page.wait_for_url("**/")
    expect(tab.joined().at("#step-up")).to_be_hidden()
    assert op.at("authorize")[-1].query["prompt"] == "login"
    tab.page.get_by_role("button", name="Delete my account").click()
    tab.page.get_by_role("button", name="Delete for good").click()
    expect(tab.at("#notice-title")).to_have_text("Your account is deleted")


def test_an_account_without_a_password_steps_up_by_its_passkey(
    op: Provider, server: Usher, visitor: Visitor
) -> None:
    arrived_by_provider(op, visitor).page.close()
    for cookie in visitor.context.cookies():  # passkeys work at the server's other name only
        visitor.context.add_cookies([{**cookie, "domain": "localhost"}])  # type: ignore[typeddict-item]  # read and written alike
    page = with_authenticator(visitor.context)
    tab = Tab(page)
    page.goto(home(server))
    tab.joined()
    page.click("#add-passkey")
    expect(tab.at("#passkeys li")).to_have_count(1)
    grow_old(visitor, tab)
    begin_to_leave(tab)
    expect(tab.at("#step-up-proof")).to_be_hidden()
    button = page.get_by_role("button", name="Use a passkey")
    expect(button).to_be_focused()
    expect(page.get_by_role("link", name="Sign in again with Campus")).to_be_visible()
    shown_well(tab, "step-up-passkey")
    button.click()
    expect(tab.at("#step-up")).to_be_hidden()
    expect(tab.at("#notice-title")).to_have_text("Your account is deleted")
