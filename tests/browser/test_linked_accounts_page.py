"""Accounts of providers that are linked and unlinked on the page, in a real browser."""

from __future__ import annotations

import pytest
from playwright.sync_api import Route, expect

from services.providers.registry import usual_title
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
from tests.support.browser import Visit, Visitor, credentials_of, pressing
from tests.support.checks import rows
from tests.support.provider import Provider
from tests.support.server import address, sign_up, usher, wait_until
from tests.support.sign_in import settings_for

__all__ = ["op", "practice", "server", "shared_op", "visitor"]


def test_a_linked_account_signs_in_from_then_on(visitor: Visitor) -> None:
    tab = visitor.arrive()
    link(tab, "Practice")
    consent(tab, address())
    tab.joined()
    expect(tab.at("#linked-status")).to_have_text("Practice is linked.")
    expect(tab.at("#linked-title")).to_be_focused()
    assert tab.page.url == f"{visitor.server.url}/"
    subject = tab.at("#linked-list li p").first.inner_text()
    tab.at("#sign-out").click()
    signed_out(tab, "You can sign in again at any time.")
    go_on(tab, "Practice")
    consent(tab, subject)
    expect(tab.joined().at("#account-name")).to_have_text("Ada")
    expect(tab.at("#linked-status")).to_be_empty()


@pytest.mark.slow
def test_linking_asks_for_the_password_and_says_when_it_is_wrong(visitor: Visitor) -> None:
    tab = visitor.arrive()
    press(tab, "Link Practice")
    expect(tab.at("#link-password")).to_be_focused()
    expect(tab.at("#link-choices")).to_be_hidden()
    tab.press("Enter")
    expect(tab.at("#link-password-error")).to_have_text("Please fill this in.")
    tab.fill(link_password="not my password")
    tab.press("Enter")
    expect(tab.at("#link-password-error")).to_have_text("This is not your current password.")
    expect(tab.at("#link-password")).to_be_focused()
    expect(tab.at("#link-password")).to_have_attribute("aria-invalid", "true")
    press(tab, "Cancel")
    expect(tab.page.get_by_role("button", name="Link Practice")).to_be_focused()
    expect(tab.at("#link-form")).to_be_hidden()
    expect(tab.at("#link-password")).to_have_value("")


def test_a_provider_that_does_not_answer_is_explained_on_the_page(visitor: Visitor) -> None:
    tab = visitor.arrive()
    link(tab, AWAY)
    words = f"{AWAY} is not responding. Try again in a moment."
    expect(tab.at("#link-form .form-error")).to_have_text(words)
    expect(tab.at("#link-form .form-error")).to_have_role("alert")
    tab.page.goto(f"{visitor.server.url}/oauth/away/login")
    expect(heading(tab)).to_have_text(f"{AWAY} is not responding.")
    expect(heading(tab).locator("b")).to_have_count(0)


@pytest.mark.slow
def test_too_many_guesses_are_explained(visitor: Visitor) -> None:
    tab = visitor.arrive()
    call = f"{visitor.server.url}/api/oauth/accounts/practice/link"
    guesses = """async (call) => {
      let status;
      do {
        const answer = await fetch(call, { method: 'POST', body: '{"current_password": "guess"}' });
        status = answer.status;
      } while (status === 403);
      return status;
    }"""
    assert tab.page.evaluate(guesses, call) == 429
    link(tab, "Practice")
    expect(tab.at("#link-form .form-error")).to_have_text("Too many at once. Wait a little.")


@pytest.mark.slow
def test_without_a_password_a_sign_in_of_just_now_will_do(visitor: Visitor, op: Provider) -> None:
    tab = arrive_by(visitor)
    press(tab, "Link Practice")
    consent(tab, visitor.email)
    tab.joined()
    expect(tab.at("#linked-status")).to_have_text("Practice is linked.")


@pytest.mark.slow
def test_without_a_password_and_some_time_later_one_signs_in_again(
    visitor: Visitor, op: Provider
) -> None:
    tab = arrive_by(visitor)
    grow_old(visitor)
    tab.page.evaluate("() => fetch('/api/auth/refresh', { method: 'POST' })")
    press(tab, "Link Practice")
    expect(tab.at("#link-again-text")).to_be_focused()
    tab.page.get_by_role("link", name="Sign in again with Campus").click()
    tab.joined()
    assert op.at("authorize")[-1].query["prompt"] == "login"
    expect(tab.at("#linked-status")).to_have_text("You can link Practice now.")
    press(tab, "Link Practice")
    consent(tab, visitor.email)
    expect(tab.joined().at("#linked-status")).to_have_text("Practice is linked.")


@pytest.mark.slow
def test_nothing_is_offered_before_it_is_known_what_is_linked(
    visitor: Visitor, op: Provider
) -> None:
    held: list[Route] = []
    visitor.context.route("**/api/oauth/accounts", lambda route: held.append(route))  # noqa: PLW0108 it sets a member
    tab = arrive_by(visitor)
    expect(tab.at("#sessions li:has(.here)")).to_contain_text("by Campus")
    assert tab.at("#link-choices button").count() == 0
    wait_until(lambda: tab.page.title() and held)
    visitor.context.unroute("**/api/oauth/accounts")
    for route in held:
        route.continue_()
    expect(tab.at("#linked-list li")).to_have_count(1)
    expect(tab.at("#link-choices button")).to_have_count(3)


def test_an_account_that_is_another_users_is_not_linked(
    visitor: Visitor, visit: Visit, op: Provider
) -> None:
    arrive_by(visit())
    tab = visitor.arrive()
    link(tab, "Campus")
    expect(heading(tab)).to_have_text("This account at Campus could not be linked.")
    expect(tab.page.get_by_role("link", name="Try again")).to_have_count(0)
    tab.page.get_by_role("link", name="Back to Usher").click()
    tab.joined()
    expect(tab.at("#linked-list li")).to_have_count(0)


@pytest.mark.slow
def test_unlinking_removes_the_method_and_leaves_this_session(
    visitor: Visitor, op: Provider
) -> None:
    tab = visitor.arrive()
    link(tab, "Campus")
    expect(tab.at("#linked-list li")).to_have_count(1)
    before = tab.joined().session_id
    press(tab, "Unlink Campus")
    expect(tab.at("#linked-status")).to_have_text("Campus is unlinked.")
    expect(tab.at("#linked-title")).to_be_focused()
    expect(tab.at("#linked-list li")).to_have_count(0)
    expect(tab.page.get_by_role("button", name="Link Campus")).to_be_visible()
    assert tab.joined().session_id == before
    wait_until(lambda: tab.page.title() and op.revoked)


@pytest.mark.slow
def test_an_account_is_unlinked_though_its_row_changes_during_the_press(
    visitor: Visitor, op: Provider
) -> None:
    tab = visitor.arrive()
    link(tab, "Campus")
    row = tab.at("#linked-list li", "Campus")
    fresh = address()
    with pressing(row.get_by_role("button")):
        rows(
            visitor.server,
            "UPDATE identities SET email = ? WHERE email = ?",
            fresh,
            op.user["email"],
        )
        tab.page.evaluate("() => document.dispatchEvent(new Event('visibilitychange'))")
        expect(row).to_contain_text(fresh)
    expect(tab.at("#linked-status")).to_have_text("Campus is unlinked.")


@pytest.mark.slow
def test_the_last_sign_in_method_cannot_be_removed(visitor: Visitor, op: Provider) -> None:
    tab = arrive_by(visitor)
    expect(tab.at("#linked-list li")).to_contain_text("your only way in")
    expect(tab.at("#linked-list li")).not_to_contain_text("signs you out")
    press(tab, "Unlink Campus")
    words = "This is the only way to sign in to your account. Add another one first."
    expect(tab.at("#linked-error")).to_have_text(words)
    expect(tab.at("#linked-error")).to_have_role("alert")
    expect(tab.at("#linked-list li")).to_have_count(1)
    tab.joined()


@pytest.mark.slow
@pytest.mark.parametrize("connected", [True, False])
def test_unlinking_the_provider_of_the_session_signs_out(
    visitor: Visitor, op: Provider, connected: bool
) -> None:
    tab = arrive_by(visitor)
    press(tab, "Link Practice")
    consent(tab, visitor.email)
    tab.joined()
    campus = tab.at("#linked-list li", "Campus")
    expect(campus).to_contain_text("unlinking it signs you out")
    if not connected:
        tab.toggle_socket()
        expect(tab.at("#state-text")).to_have_text("Disconnected")
        tab.area("Account")
    press(tab, "Unlink Campus")
    signed_out(tab, "Campus is unlinked, and this session came of it.")
    wait_until(lambda: credentials_of(visitor) == set())  # the socket ends before it is answered
    go_on(tab, "Practice")
    consent(tab, visitor.email)
    expect(tab.joined().at("#linked-list li")).to_have_count(1)


@pytest.mark.slow
def test_an_account_at_a_removed_provider_is_still_shown(
    database_kind: str, visit: Visit, op: Provider
) -> None:
    with usher(database_kind, **settings_for(op, "old-campus")) as server:
        sign_up(server)
        tab = arrive_by(visit(server), "Old Campus")
        server.environment["USHER_OAUTH_PROVIDERS"] = ""
        server.restart()
        tab.page.reload()
        tab.joined()
        expect(tab.at("#linked-list li strong")).to_have_text("Old Campus")
        expect(tab.at("#sessions li:has(.here)")).to_contain_text("by Old Campus")
        expect(tab.at("#link-choices")).to_be_hidden()
        tab.page.close()


def test_page_and_server_call_a_provider_the_same(visitor: Visitor) -> None:
    names = ["old-campus", "a1-b2c", "x", "team-3d-print"]
    called = "async (names) => names.map((await import('/static/words.js')).usualTitle)"
    assert visitor.open().page.evaluate(called, names) == [usual_title(name) for name in names]


@pytest.mark.slow
def test_a_url_that_mentions_linking_claims_nothing(visitor: Visitor) -> None:
    visitor.arrive().page.close()
    for name, words in (("campus", "You can link Campus now."), ("%3Cb%3Ebold", "")):
        tab = visitor.open(f"/#link={name}").joined()
        expect(tab.at("#link-choices button")).to_have_count(4)
        expect(tab.at("#linked-status")).to_have_text(words)
