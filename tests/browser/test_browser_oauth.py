"""Signing in and out with a provider in a real browser."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import APIResponse, Route, expect

from tests.browser.provider_buttons import (
    AWAY,
    arrive_by,
    consent,
    go_on,
    heading,
    op,
    practice,
    press,
    server,
    shared_op,
    signed_out,
    visitor,
)
from tests.support.browser import Visit, Visitor, credentials_of
from tests.support.provider import Provider
from tests.support.server import PASSWORD, sign_up, usher, wait_until
from tests.support.sign_in import log_out_there

__all__ = ["op", "practice", "server", "shared_op", "visitor"]

# ---- the button, the consent, the way back ---------------------------------------------------


def test_a_newcomer_comes_in_by_a_provider(visitor: Visitor) -> None:
    tab = visitor.open()
    go_on(tab, "Practice")
    expect(tab.page.get_by_text("Authorize Client")).to_be_visible()
    consent(tab, visitor.email)
    tab.joined()
    assert tab.page.url == f"{visitor.server.url}/"
    expect(tab.at("#sessions li:has(.here)")).to_contain_text("by Practice")
    expect(tab.at("#linked-list li")).to_contain_text(["Practice"])
    expect(tab.at("#linked-list li")).to_contain_text([visitor.email])
    expect(tab.at("#password-title")).to_have_text("Set a password")
    expect(tab.at("#pw-current")).to_be_hidden()
    names = {cookie["name"] for cookie in visitor.context.cookies()}
    assert names == {"access_token", "refresh_token", "device"}
    tab.page.reload()
    tab.joined()


@pytest.mark.slow
def test_a_provider_user_sets_a_password(visitor: Visitor, op: Provider) -> None:
    tab = arrive_by(visitor, "Campus")
    tab.fill(pw_new=PASSWORD)
    tab.at("#pw-submit").click()
    expect(tab.at("#password-form .form-done")).to_have_text("Your password is set.")
    expect(tab.at("#password-title")).to_have_text("Change password")
    expect(tab.at("#pw-current")).to_be_visible()


@pytest.mark.slow
def test_a_user_can_sign_up_with_a_provider_too(visitor: Visitor, op: Provider) -> None:
    tab = visitor.open("/#sign-up")
    go_on(tab, "Campus", "sign-up")
    tab.joined()
    expect(tab.at("#account-name")).to_have_text("Grace")


@pytest.mark.slow
def test_a_denial_at_the_provider_is_explained_and_can_be_repeated(visitor: Visitor) -> None:
    tab = visitor.open()
    go_on(tab, "Practice")
    press(tab, "Deny")
    expect(heading(tab)).to_have_text("Practice did not share your account.")
    expect(tab.page.get_by_role("link", name="Back to sign in")).to_have_attribute("href", "/")
    tab.page.get_by_role("link", name="Try again").click()
    consent(tab, visitor.email)
    tab.joined()


@pytest.mark.slow
def test_the_sign_in_methods_are_those_of_the_server(visitor: Visitor) -> None:
    tab = visitor.open()
    links = tab.at("#sign-in .providers a")
    titles = ["Practice", "Campus", "GitHub", AWAY]
    expect(links).to_have_text([f"Continue with {title}" for title in titles])
    expect(links.first).to_have_attribute("href", "/oauth/practice/login?next=%2F")
    expect(tab.at("#sign-in .or")).to_be_visible()
    expect(tab.at(".providers b")).to_have_count(0)


@pytest.mark.slow
def test_without_providers_there_is_nothing_of_them(database_kind: str, visit: Visit) -> None:
    with usher(database_kind) as bare:
        sign_up(bare)
        visitor = visit(bare)
        tab = visitor.open()
        expect(tab.at("#sign-in")).to_be_visible()
        expect(tab.at(".other-ways:visible")).to_have_count(0)
        tab = visitor.arrive()
        expect(tab.at("#password")).to_be_visible()
        expect(tab.at("#linked")).to_be_hidden()
        expect(tab.at("#sessions li:has(.here)")).to_contain_text("by password")
        tab.page.close()


def cut(route: Route) -> None:
    route.abort()


def answer_badly(route: Route) -> None:
    route.fulfill(status=502, content_type="text/html", body="<h1>Bad Gateway</h1>")


@pytest.mark.slow
@pytest.mark.parametrize("broken", [cut, answer_badly])
def test_the_list_comes_with_the_page_whatever_its_call_answers(
    visitor: Visitor, broken: Callable[[Route], None]
) -> None:
    visitor.arrive().page.close()
    visitor.context.clear_cookies()
    visitor.context.route("**/api/oauth/providers", broken)
    tab = visitor.open()
    expect(tab.at("#sign-in")).to_be_visible()
    expect(tab.at("#sign-in .providers a")).to_have_count(4)
    tab.sign_in(visitor.email)
    tab.joined()
    expect(tab.at("#password")).to_be_visible()
    tab.at("#sign-out").click()
    expect(tab.at("#sign-in .providers a")).to_have_count(4)


@pytest.mark.slow
def test_a_signed_in_user_who_returns_to_the_form_sees_that(visitor: Visitor, op: Provider) -> None:
    tab = visitor.open()
    expect(tab.at("#sign-in")).to_be_visible()
    arrive_by(visitor)
    restored = "() => dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))"
    tab.page.evaluate(restored)  # as the browser does with a page that it has kept
    tab.joined()


# ---- the end of it ---------------------------------------------------------------------------


def test_a_back_channel_logout_ends_the_session_and_the_page_says_so(
    visitor: Visitor, visit: Visit, op: Provider
) -> None:
    other = visit().arrive()
    tab = arrive_by(visitor)
    expect(tab.at("#sessions li:has(.here)")).to_contain_text("by Campus")
    path = "/oauth/campus/backchannel-logout"
    assert log_out_there(visitor.server, op.logout_token(), path).status == 200
    expect(tab.at("#notice")).to_be_focused()
    expect(tab.at("#notice-title")).to_have_text("You were signed out")
    expect(tab.at("#notice-text")).to_contain_text("Campus")
    expect(tab.at("#sign-in")).to_be_visible()
    [last] = tab.events("closing")
    assert (last["code"], last["reason"], last["retry"]) == (4410, "session_revoked", "login")
    wait_until(lambda: tab.page.title() and tab.sockets[-1].is_closed())
    assert len(tab.sockets) == 1, "it tried to come back"
    assert other.events("closing") == []
    go_on(tab, "Campus")
    tab.joined()


@pytest.mark.slow
def test_a_sign_out_mentions_the_provider(visitor: Visitor, op: Provider) -> None:
    tab = arrive_by(visitor)
    expect(tab.at("#sessions li:has(.here)")).to_contain_text("by Campus")
    tab.at("#sign-out").click()
    signed_out(tab, "You may still be signed in at Campus.")
    assert not op.ended


@pytest.mark.slow
def test_a_call_that_is_refused_during_a_sign_out_does_not_take_its_words(
    visitor: Visitor, op: Provider
) -> None:
    late: list[tuple[Route, APIResponse]] = []
    tab = arrive_by(visitor)
    expect(tab.at("#sessions li:has(.here)")).to_contain_text("by Campus")
    tab.page.route("**/api/auth/logout", lambda route: late.append((route, route.fetch())))
    tab.at("#sign-out").click()
    wait_until(lambda: tab.page.title() and late)
    with tab.page.expect_response("**/api/auth/refresh"):
        tab.page.evaluate("() => { document.dispatchEvent(new Event('visibilitychange')); }")
    [(route, answer)] = late
    route.fulfill(response=answer)
    signed_out(tab, "You may still be signed in at Campus.")


@pytest.mark.slow
def test_a_user_can_sign_out_at_the_provider_too(visitor: Visitor, op: Provider) -> None:
    tab = arrive_by(visitor)
    press(tab, "Sign out of Campus too")
    expect(tab.at("#sign-in")).to_be_visible()
    wait_until(lambda: tab.page.title() and op.ended)
    [asked] = op.ended
    assert asked["id_token_hint"] == op.id_tokens[-1]
    assert asked["post_logout_redirect_uri"] == f"{visitor.server.url}/"
    tab.page.wait_for_url(f"{visitor.server.url}/")
    expect(tab.at("#sign-in")).to_be_visible()
    assert credentials_of(visitor) == set()


@pytest.mark.slow
def test_a_user_confirms_it_where_the_provider_asks(visitor: Visitor) -> None:
    tab = visitor.open()
    go_on(tab, "Practice")
    consent(tab, visitor.email)
    tab.joined()
    press(tab, "Sign out of Practice too")
    press(tab, "End session")
    tab.page.wait_for_url(f"{visitor.server.url}/")
    expect(tab.at("#sign-in")).to_be_visible()


@pytest.mark.slow
def test_a_provider_without_a_logout_endpoint_is_reported(visitor: Visitor) -> None:
    tab = arrive_by(visitor, "GitHub")
    expect(tab.at("#account-name")).to_have_text("Mona Lisa Octocat")
    press(tab, "Sign out of GitHub too")
    signed_out(tab, "You may still be signed in at GitHub.")


@pytest.mark.slow
def test_a_session_by_password_is_offered_no_provider_logout(visitor: Visitor) -> None:
    tab = visitor.arrive()
    expect(tab.at("#sessions li button")).to_have_count(1)
