"""Administration of users in a real browser: found, changed, invited, and deleted."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser.administration import (
    SCRIPT,
    SEARCH,
    admin,
    confirm,
    find_user,
    go,
    page,
    server,
    visitor,
)
from tests.support.browser import Visitor, pressing
from tests.support.checks import rows as written
from tests.support.server import PASSWORD, Usher, sign_up, wait_until

__all__ = ["admin", "page", "server", "visitor"]


def test_a_user_is_found_disabled_enabled_and_deleted(page: Page, visitor: Visitor) -> None:
    tab = visitor.arrive()
    find_user(page, visitor.email[:14])
    expect(page.locator(".admin-page")).to_contain_text("1 session, 1 open socket")
    page.get_by_role("button", name="Disable").click()
    question = page.get_by_role("dialog", name="Disable Ada?")
    expect(question.get_by_role("button", name="Cancel")).to_be_focused()
    page.keyboard.press("Escape")
    expect(tab.at("#state")).to_have_attribute("data-state", "joined")
    page.get_by_role("button", name="Disable").click()
    confirm(page, "Disable Ada?", "Disable", "1 session ends", "1 open socket closes at once")
    expect(tab.at("#notice-title")).to_have_text("You were signed out")
    expect(page.locator(".tag.bad", has_text="disabled")).to_be_visible()
    page.get_by_role("button", name="Enable").click()
    confirm(page, "Enable Ada?", "Enable")
    expect(page.get_by_role("button", name="Disable")).to_be_visible()
    page.get_by_role("button", name="Delete").click()
    confirm(page, "Delete Ada for good?", "Delete for good", "This cannot be undone")
    expect(page.get_by_role("heading", level=2, name="Users")).to_be_visible()
    page.get_by_label("Search by name, e-mail address or id").fill(visitor.email)
    expect(page.get_by_role("heading", name="Nobody found")).to_be_visible()


def test_a_role_changes_and_somebody_is_signed_out(page: Page, visitor: Visitor) -> None:
    tab = visitor.arrive()
    find_user(page, visitor.email)
    page.get_by_role("button", name="Make an administrator").click()
    confirm(page, "Make Ada an administrator?", "Make an administrator", "change everything")
    expect(page.get_by_role("button", name="Make a user")).to_be_visible()
    page.get_by_role("button", name="Make a user").click()
    confirm(page, "Take the administrator's rights from Ada?", "Make a user")
    page.get_by_role("button", name="Sign out everywhere").click()
    confirm(page, "Sign Ada out everywhere?", "Sign out everywhere", "They can sign in again")
    expect(tab.at("#notice")).to_be_visible()
    expect(page.locator(".admin-page")).to_contain_text("Not signed in anywhere.")


@pytest.mark.slow
def test_a_question_is_asked_though_sockets_open_during_the_press(
    page: Page, visitor: Visitor
) -> None:
    visitor.arrive()
    find_user(page, visitor.email)
    expect(page.locator(".admin-page")).to_contain_text("1 session, 1 open socket")
    with pressing(page.get_by_role("button", name="Disable")):
        visitor.open().joined()
        expect(page.locator(".admin-page")).to_contain_text("1 session, 2 open sockets")
    dialog = page.get_by_role("dialog", name="Disable Ada?")
    expect(dialog).to_contain_text("2 open sockets close at once")
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Disable")).to_be_focused()


@pytest.mark.slow
def test_a_user_is_opened_though_the_list_is_read_anew_during_the_press(
    page: Page, server: Usher
) -> None:
    user = sign_up(server)
    go(page, "Users")
    search = page.get_by_label("Search by name, e-mail address or id")
    search.fill(user.user["email"])
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(1)
    with pressing(rows.get_by_role("link")):
        assert user.call("PATCH", "/api/auth/me", {"name": "Bea"}).status == 200
        search.evaluate(SEARCH, user.user["email"][:-1])
        expect(rows.get_by_role("link")).to_have_text("Bea")
    expect(page.get_by_role("heading", level=2, name="Bea")).to_be_visible()


def test_the_last_administrator_cannot_be_taken_away(page: Page, admin: Visitor) -> None:
    find_user(page, admin.email)
    page.get_by_role("button", name="Make a user").click()
    confirm(page, "Take the administrator's rights from Ada?", "Make a user")
    expect(page.locator(".admin-page .form-error")).to_contain_text("administrator")


def test_what_users_are_called_stays_text(page: Page, server: Usher) -> None:
    user = sign_up(server)
    assert user.call("PATCH", "/api/auth/me", {"name": SCRIPT}).status == 200
    assert user.post("/api/channels", {"name": SCRIPT}).status == 201
    go(page, "Rooms")
    expect(page.get_by_role("link", name=SCRIPT, exact=True)).to_have_count(2)  # and its owner
    find_user(page, SCRIPT)
    expect(page.get_by_role("heading", level=2, name=SCRIPT)).to_be_visible()
    page.get_by_role("button", name="Disable").click()
    confirm(page, f"Disable {SCRIPT}?", "Cancel")
    assert "pwned" not in page.title()
    assert page.locator("img[src=x]").count() == 0


def test_an_invitation_is_shown_once_used_and_revoked(
    page: Page, visitor: Visitor, server: Usher
) -> None:
    go(page, "Users")
    page.get_by_role("button", name="Invite").click()
    form = page.get_by_role("dialog", name="Invite somebody")
    form.get_by_label("E-mail address").fill("x")
    form.get_by_role("button", name="Make the link").click()
    expect(form.get_by_text("This does not look like an e-mail address.")).to_be_visible()
    form.get_by_label("E-mail address").fill(visitor.email)
    form.get_by_role("button", name="Make the link").click()
    shown = page.get_by_role("dialog", name="The invitation")
    link = shown.locator("code").inner_text()
    assert link.startswith(server.pages)
    shown.get_by_role("button", name="Done").click()
    page.get_by_role("link", name="Invitations").click()
    row = page.locator(".entries li", has_text=visitor.email)
    expect(row).to_have_count(1)
    row.get_by_role("button", name="Revoke").click()
    confirm(page, "Revoke this invitation?", "Revoke", "stops working at once")
    expect(row).to_have_count(0)


def test_an_account_is_opened_for_somebody_who_sets_the_password(
    page: Page, visitor: Visitor
) -> None:
    go(page, "Users")
    page.get_by_role("button", name="Open an account").click()
    form = page.get_by_role("dialog", name="Open an account")
    form.get_by_label("Name").fill("Grace Hopper")
    form.get_by_label("E-mail address").fill("x")
    form.get_by_role("button", name="Open the account").click()
    expect(form.get_by_text("This does not look like an e-mail address.")).to_be_visible()
    form.get_by_label("E-mail address").fill(visitor.email)
    form.get_by_role("button", name="Open the account").click()
    shown = page.get_by_role("dialog", name="The account of Grace Hopper")
    link = shown.locator("code").inner_text()
    shown.get_by_role("button", name="Done").click()
    expect(page.get_by_role("link", name="Grace Hopper")).to_be_visible()

    theirs = visitor.open(link)
    theirs.page.get_by_label("New password", exact=True).fill(PASSWORD)
    theirs.page.get_by_role("button", name="Set password").click()
    expect(theirs.at("#done")).to_be_visible()
    assert visitor.post("/api/auth/login", {"email": visitor.email, "password": PASSWORD}) == 200

    page.get_by_role("button", name="Open an account").click()
    form.get_by_label("Name").fill("Another")
    form.get_by_label("E-mail address").fill(visitor.email)
    form.get_by_role("button", name="Open the account").click()
    expect(form.get_by_role("alert")).not_to_be_empty()


@pytest.mark.slow
def test_users_have_their_names_where_they_own_and_do_things(page: Page, server: Usher) -> None:
    user = sign_up(server)
    assert user.call("PATCH", "/api/auth/me", {"name": "Radia Perlman"}).status == 200
    assert user.post("/api/channels", {"name": "Bridges"}).status == 201
    go(page, "Rooms")
    expect(page.locator("tr", has_text="Bridges")).to_contain_text("Radia Perlman")
    made = "SELECT id FROM audit_events WHERE kind = 'channel.created' AND actor = ?"
    wait_until(lambda: bool(written(server, made, user.user["id"])))  # in the background
    go(page, "Audit")
    expect(page.locator("tr", has_text="channel.created").first).to_contain_text("Radia Perlman")
