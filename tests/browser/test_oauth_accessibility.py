"""The pages of a provider sign-in for everybody, and those that say why not."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.provider_buttons import (
    AWAY,
    arrive_by,
    consent,
    go_on,
    grow_old,
    heading,
    link,
    op,
    practice,
    press,
    server,
    shared_op,
    signed_out,
    visitor,
)
from tests.support.accessibility import low_contrast, nameless, repeated_ids, spilled, too_small
from tests.support.browser import Visit, Visitor
from tests.support.provider import Provider

__all__ = ["op", "practice", "server", "shared_op", "visitor"]

VIEWS = ["sign-in", "sign-up", "signed-in", "signed-in-by-provider", "refused"]


# ---- the page that says why not --------------------------------------------------------------


@pytest.mark.slow
def test_a_page_that_says_why_not_leads_on(visitor: Visitor, op: Provider) -> None:
    op.misbehave(id_token="nonce_wrong")
    tab = visitor.open()
    go_on(tab, "Campus")
    expect(heading(tab)).to_have_text("The response of Campus could not be verified.")
    expect(tab.page).to_have_title(re.compile(r"^The response of Campus .* Usher$"))
    op.behave()
    tab.page.get_by_role("link", name="Try again").click()
    tab.joined()


@pytest.mark.slow
def test_no_other_try_is_offered_where_it_would_end_the_same(
    visitor: Visitor, visit: Visit, op: Provider
) -> None:
    other = visit()
    other.arrive()
    op.user |= {"email": other.email, "email_verified": False}
    tab = visitor.open()
    go_on(tab, "Campus")
    expect(heading(tab)).to_have_text("There is no account here for your Campus account.")
    expect(tab.at(".ways a")).to_have_count(1)
    tab.page.get_by_role("link", name="Back to sign in").click()
    expect(tab.at("#sign-in")).to_be_visible()


@pytest.mark.slow
def test_no_page_mentions_a_missing_provider(visitor: Visitor) -> None:
    tab = visitor.open("/oauth/evil-corp/callback?error=access_denied")
    expect(heading(tab)).to_have_text("This page does not exist.")
    expect(tab.at(".ways a")).to_have_count(1)


# ---- for everybody ---------------------------------------------------------------------------


@pytest.mark.slow
def test_everything_can_be_done_with_the_keyboard(visitor: Visitor, op: Provider) -> None:
    tab = visitor.open()
    expect(tab.at("#sign-in .providers a:visible")).to_have_count(4)
    tab.tab_to("#sign-in .providers a[href^='/oauth/campus/']")
    tab.press("Enter")
    tab.joined()
    expect(tab.at("#linked-list li")).to_have_count(1)
    tab.tab_to("#linked-list button")
    tab.press("Enter")
    expect(tab.at("#linked-error")).not_to_be_empty()
    tab.tab_to("#link-choices [data-provider=practice]")
    tab.press("Enter")
    consent(tab, visitor.email)
    tab.joined()
    expect(tab.at("#linked-list li")).to_have_count(2)
    tab.tab_to("#linked-list li:first-child button")
    tab.press("Enter")
    signed_out(tab, "Campus is unlinked")


def show(visitor: Visitor, view: str) -> Page:
    """A view with as much on it as there can be."""
    if view in ("sign-in", "sign-up"):
        tab = visitor.open(f"/#{view}")
        expect(tab.at(f"#{view} .providers a:visible")).to_have_count(4)
    elif view == "refused":
        tab = visitor.open("/oauth/away/login")
        expect(tab.at(".ways a")).to_have_count(2)
    elif view == "signed-in":
        tab = visitor.arrive()
        link(tab, AWAY)
        expect(tab.at("#link-form .form-error")).not_to_be_empty()
        tab.fill(link_password="")
        tab.at("#link-submit").click()
        expect(tab.at("#link-password-error")).not_to_be_empty()
    else:
        tab = arrive_by(visitor)
        grow_old(visitor)
        tab.page.evaluate("() => fetch('/api/auth/refresh', { method: 'POST' })")
        press(tab, "Unlink Campus")
        press(tab, "Cancel")  # of the dialog that asks for a step-up
        expect(tab.at("#linked-error")).not_to_be_empty()
        press(tab, "Link Practice")
        expect(tab.at("#link-again a")).to_have_count(1)
    return tab.page


@pytest.mark.slow
@pytest.mark.parametrize("view", VIEWS)
def test_everything_has_a_name_a_size_and_contrast_in_light_and_dark(
    visitor: Visitor, op: Provider, view: str
) -> None:
    page = show(visitor, view)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert low_contrast(page) == [], scheme
    assert nameless(page) == []
    assert too_small(page) == []
    assert repeated_ids(page) == []
    assert page.locator("html").get_attribute("lang") == "en"
    expect(page.locator("h1:visible")).to_have_count(1)
    expect(page.get_by_role("main")).to_have_count(1)


@pytest.mark.slow
@pytest.mark.parametrize("view", VIEWS)
def test_nothing_spills_over_the_side_of_a_small_screen(
    visitor: Visitor, op: Provider, view: str
) -> None:
    page = show(visitor, view)
    for width in (320, 768, 1280):
        page.set_viewport_size({"width": width, "height": 640})
        assert spilled(page) == [], width


@pytest.mark.slow
def test_the_page_that_says_why_not_needs_no_script(visitor: Visitor) -> None:
    page = show(visitor, "refused")
    assert page.locator("script").count() == 0
    assert "script-src 'self'" in page.request.get(page.url).headers["content-security-policy"]


@pytest.mark.slow
def test_what_becomes_of_a_link_is_announced(visitor: Visitor) -> None:
    tab = visitor.open()
    ways = tab.page.get_by_role("list", name="Other ways to sign in").get_by_role("link")
    expect(ways).to_have_count(4)
    tab = visitor.arrive()
    expect(tab.at("#linked-status")).to_have_role("status")
    expect(tab.at("#linked-error")).to_have_role("alert")
