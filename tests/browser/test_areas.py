"""The frame of the page: its areas, their addresses, and the first visit of all."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.states import as_admin
from tests.support.browser import Visitor, pressing, visitors
from tests.support.server import usher
from tests.support.tools import first_of


def test_the_first_visitor_of_all_is_told_what_this_is_and_what_comes_next(
    browser: Browser,
) -> None:
    with usher("sqlite") as empty, visitors(browser, empty) as new:
        visitor = new()
        tab = visitor.open()
        expect(tab.at("#sign-up-title")).to_have_text("Welcome to Usher")
        expect(tab.at(".welcome")).to_contain_text("becomes the administrator")
        tab.sign_up(visitor.email)
        expect(tab.at("#steps-title")).to_have_text("You are the administrator")
        expect(tab.at("#me-role")).to_have_text("Administrator")
        expect(tab.at("#areas a")).to_have_text(["Account", "Rooms", "Console", "Administration"])
        tab.page.reload()
        tab.joined()
        tab.at("#steps-done").click()
        expect(tab.at("#steps-title")).to_be_hidden()
        expect(tab.at("#signed-in-title")).to_be_focused()
        tab.page.reload()
        tab.joined()
        expect(tab.at("#steps-title")).to_have_count(0)
        tab.at("#sign-out").click()
        expect(tab.at("#sign-in")).to_be_visible()
        expect(tab.at(".welcome")).to_have_count(0)
        assert visitor.complaints == []
        second = new().open()
        expect(second.at("#sign-in-title")).to_be_visible()
        expect(second.at(".welcome")).to_have_count(0)


@pytest.mark.slow
def test_an_area_is_opened_though_the_page_starts_anew_during_the_press(visitor: Visitor) -> None:
    tab = visitor.arrive()
    restored = "() => dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))"
    frames = "() => new Promise((seen) => requestAnimationFrame(() => requestAnimationFrame(seen)))"
    with pressing(tab.at("#areas a", "Rooms")):
        with tab.page.expect_response("**/api/auth/**"):
            tab.page.evaluate(restored)  # as the browser does with a page that it has kept
        tab.page.evaluate(frames)
    expect(tab.page.get_by_role("heading", level=1, name="Rooms")).to_be_visible()


def test_areas_have_addresses_and_the_way_back_works(visitor: Visitor) -> None:
    tab = visitor.arrive()
    current = tab.at("#areas [aria-current=page]")
    expect(current).to_have_text("Account")
    for title in ("Rooms", "Console"):
        tab.area(title)
        assert tab.page.url.endswith(f"/#/{title.lower()}")
        expect(tab.page.get_by_role("heading", level=1, name=title)).to_be_focused()
        expect(current).to_have_text(title)
        expect(tab.page).to_have_title(f"{title} · Usher")
    tab.page.go_back()
    expect(current).to_have_text("Rooms")
    expect(tab.page.get_by_role("heading", level=1, name="Rooms")).to_be_focused()
    tab.page.go_forward()
    tab.page.reload()
    expect(tab.joined().page.get_by_role("heading", level=1, name="Console")).to_be_visible()
    assert len(tab.sockets) == 2, "areas share one socket"
    tab.page.set_viewport_size({"width": 1280, "height": 800})
    facts = "(all) => all.map((one) => one.getBoundingClientRect().top)"
    tops = tab.at("#connection-facts dt").evaluate_all(facts)
    assert len(tops) == 5
    assert len(set(tops)) == 1, "the facts of the connection are in one row"


def test_what_the_link_calls_rooms_is_called_so_within(visitor: Visitor) -> None:
    tab = visitor.arrive("/#/rooms")
    expect(tab.at("#room .empty")).to_contain_text("No rooms yet")
    expect(tab.page.get_by_role("navigation", name="Rooms")).to_contain_text("None yet")
    tab.page.get_by_role("button", name="New room").click()
    expect(tab.page.get_by_role("dialog", name="New room")).to_be_visible()
    assert "channel" not in tab.page.inner_text("body").lower()


def test_who_is_asked_to_sign_in_first_ends_where_they_wanted_to_go(visitor: Visitor) -> None:
    visitor.arrive().page.close()
    visitor.context.clear_cookies()
    tab = visitor.open("/#/console")
    tab.sign_in(visitor.email)
    tab.joined()
    expect(tab.page.get_by_role("heading", level=1, name="Console")).to_be_focused()
    assert tab.page.url.endswith("/#/console")


@pytest.mark.parametrize(
    "address", first_of(["nowhere", "admin", "", "%E0%A4%A", "account/<img src=x>"], 2)
)
def test_an_address_of_nothing_or_of_what_one_may_not_see_is_the_account(
    visitor: Visitor, address: str
) -> None:
    tab = visitor.arrive(f"/#/{address}")
    expect(tab.at("#signed-in-title")).to_be_visible()
    expect(tab.at("#areas [aria-current=page]")).to_have_text("Account")
    expect(tab.at("#areas [data-area=admin]")).to_have_count(0)
    expect(tab.at("img")).to_have_count(0)


def test_an_administrator_has_one_area_more(visitor: Visitor) -> None:
    tab = as_admin(visitor).open("/#/admin").joined()
    expect(tab.at(".area-admin h1")).to_be_visible()
    expect(tab.at("#areas [aria-current=page]")).to_have_text("Administration")


def test_an_area_that_cannot_be_loaded_says_so_and_can_be_tried_again(visitor: Visitor) -> None:
    tab = visitor.arrive()
    visitor.expected = ["Failed to fetch dynamically imported module", "could not be loaded"]
    file = re.compile(r"/static/[0-9a-f]+/rooms/rooms\.(js|css)")
    visitor.context.route(file, lambda route: route.abort())
    tab.at("#areas [data-area=rooms]").click()
    expect(tab.page.get_by_text("Rooms could not be loaded")).to_be_visible()
    visitor.context.unroute(file)
    tab.page.get_by_role("button", name="Try again").click()
    expect(tab.page.get_by_role("heading", level=1, name="Rooms")).to_be_visible()
    expect(tab.page.get_by_text("Rooms could not be loaded")).to_have_count(0)


def test_nothing_of_one_user_stays_for_the_next(visitor: Visitor) -> None:
    tab = visitor.arrive()
    for title in ("Console", "Rooms", "Account"):
        tab.area(title)
    tab.at("#sign-out").click()
    expect(tab.at("#sign-in")).to_be_visible()
    expect(tab.at("#signed-in > *")).to_have_count(0)
    expect(tab.at("#areas a")).to_have_count(0)
    shown = tab.page.content()
    assert visitor.email not in shown
    assert "Ada" not in shown
