"""The page for everybody: by keyboard, on small screens, for screen readers, in light and dark."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import Page, expect

from tests.browser.fields import error_of
from tests.support.accessibility import low_contrast, nameless, repeated_ids, spilled, too_small
from tests.support.browser import Visitor
from tests.support.server import PASSWORD
from tests.support.tools import first_of

VIEWS = ["sign-in", "sign-up", "account", "console"]


def test_the_page_works_with_the_keyboard_alone(visitor: Visitor) -> None:
    tab = visitor.open()
    expect(tab.at("#sign-in")).to_be_visible()
    tab.tab_to("[href='#sign-up']")
    tab.press("Enter")
    expect(tab.at("#sign-up-title")).to_be_focused()  # else the next Tab may come before it is
    for field, text in (("name", "Ada"), ("email", visitor.email), ("password", PASSWORD)):
        tab.tab_to(f"#up-{field}")
        tab.page.keyboard.type(text)
    tab.press("Tab", "Space")
    expect(tab.at("#up-password")).to_have_attribute("type", "text")
    tab.tab_to("#sign-up-form [type=submit]")
    tab.press("Enter")
    tab.joined()
    # What is shown later would push a link out of view that has the focus already.
    expect(tab.at("#sessions button").first).to_be_visible()
    tab.tab_to("#sessions button")
    tab.tab_to("#pw-current")
    tab.tab_to("#password-form [type=submit]")
    tab.tab_to("[data-area=console]")
    tab.press("Enter")
    expect(tab.page.get_by_role("heading", level=1, name="Console")).to_be_focused()
    tab.tab_to("#event")
    tab.tab_to("#composer [type=submit]")
    tab.press("Enter")
    expect(tab.at("#reply p")).to_have_text("Reply to heartbeat")
    tab.tab_to("#show-heartbeats")
    tab.press("Space")
    expect(tab.at("#frames .is-heartbeat").first).to_be_hidden()
    tab.tab_to("#frames")
    tab.tab_to("#sign-out")
    tab.press("Enter")
    expect(tab.at("#notice")).to_be_focused()
    tab.tab_to("#in-email")


def show(visitor: Visitor, view: str) -> Page:
    """A view with as much on it as there can be: errors, a notice, long words."""
    if view == "account":
        tab = visitor.arrive()
        tab.at("#password-form [type=submit]").click()
        error_of(tab, "#pw-new")
        return tab.page
    if view == "console":
        tab = visitor.arrive()
        tab.send("nonsense", json.dumps({"room": "x" * 400}))
        expect(tab.at("#reply")).to_have_attribute("data-ok", "false")
        tab.fill(data="{" + "y" * 200)
        tab.at("#composer [type=submit]").click()
        error_of(tab, "#data")
        return tab.page
    if view == "sign-up":
        tab = visitor.open("/#sign-up")
        tab.sign_up(visitor.email, "password1")
        expect(tab.at("#up-password-error li")).not_to_have_count(0)
        return tab.page
    tab = visitor.arrive()
    tab.at("#sign-out").click()
    expect(tab.at("#notice")).to_be_visible()
    tab.sign_in(visitor.email, "not the password")
    expect(tab.at("#sign-in-form .form-error")).not_to_be_empty()
    return tab.page


@pytest.mark.parametrize("view", first_of(VIEWS, 1))
def test_everything_has_a_name_a_size_and_contrast_in_light_and_dark(
    visitor: Visitor, view: str
) -> None:
    page = show(visitor, view)
    grounds: list[str] = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert low_contrast(page) == [], scheme
        grounds.append(page.evaluate("() => getComputedStyle(document.body.parentElement).color"))
    assert grounds[0] != grounds[1], "dark is no different from light"
    assert nameless(page) == []
    assert too_small(page) == []
    assert repeated_ids(page) == []
    assert page.locator("html").get_attribute("lang") == "en"
    expect(page.locator("h1:visible")).to_have_count(1)
    expect(page.get_by_role("main")).to_have_count(1)


@pytest.mark.parametrize("view", first_of(VIEWS, 1))
def test_nothing_spills_over_the_side_of_a_small_screen(visitor: Visitor, view: str) -> None:
    page = show(visitor, view)
    for width in (320, 768, 1280):
        page.set_viewport_size({"width": width, "height": 640})
        assert spilled(page) == [], width


def test_the_checks_above_see_a_page_that_is_wrong(visitor: Visitor) -> None:
    page = show(visitor, "sign-in")
    page.evaluate(
        """() => {
          const form = document.getElementById('sign-in-form');
          const [button] = form.querySelectorAll('button');
          button.replaceChildren();
          button.style.cssText = 'width:9px;height:9px;padding:0';
          form.querySelector('label').style.color = '#ccc';
          form.querySelector('input').id = 'in-password';
          form.style.width = '4000px';
        }"""
    )
    checks = (low_contrast, nameless, too_small, repeated_ids, spilled)
    assert [check.__name__ for check in checks if not check(page)] == []


@pytest.mark.slow
def test_changes_are_announced_to_screen_readers(visitor: Visitor) -> None:
    tab = visitor.arrive()
    for place in ("#announce", "#toasts", "#sessions-status", "#password-form .form-done"):
        expect(tab.at(place)).to_have_role("status")
    expect(tab.area("Console").at("#reply")).to_have_role("status")
    expect(tab.at("#announce")).to_have_text("Connected")
    tab.toggle_socket()
    expect(tab.at("#announce")).to_have_text("Disconnected. You disconnected.")
