"""Signing in and out, devices and passwords: the page, in a real browser, against a real server."""

from __future__ import annotations

import pytest
from playwright.sync_api import APIResponse, Route, expect

from tests.browser.fields import error_of
from tests.support.browser import Tab, Visit, Visitor, credentials_of, pressing
from tests.support.server import PASSWORD, address, wait_until

ROW_OF_ANOTHER = "#sessions li:not(:has(.here))"


# ---- coming and going ----------------------------------------------------------------------


def test_a_newcomer_signs_up_and_sees_the_socket_joined(visitor: Visitor) -> None:
    tab = visitor.open()
    tab.page.get_by_role("link", name="Create an account").click()
    expect(tab.at("#sign-up-title")).to_be_focused()
    tab.sign_up(visitor.email)
    tab.joined()
    expect(tab.at("#state-text")).to_have_text("Connected")
    expect(tab.at("#account-name")).to_have_text("Ada")
    expect(tab.at("#signed-in-title")).to_be_focused()
    expect(tab.page).to_have_title("Account · Usher")
    expect(tab.at("#sessions li:has(.here)")).to_contain_text("1 open socket")
    tab.area("Console")
    expect(tab.page).to_have_title("Console · Usher")
    expect(tab.at("#frames li .name").get_by_text("joined", exact=True)).to_be_visible()
    [joined] = tab.events("joined")
    assert joined["session_id"] == tab.session_id
    assert joined["rooms"] == [f"user:{joined['user']['id']}"]


def test_a_first_visit_has_no_complaint_and_no_refused_call(visitor: Visitor) -> None:
    with visitor.context.expect_event("response", lambda r: r.url.endswith("/api/auth/signup")):
        tab = visitor.open()
    expect(tab.at("#sign-in")).to_be_visible()
    tab.page.wait_for_load_state("networkidle")
    assert visitor.complaints == []


def test_who_comes_back_with_an_expired_token_is_signed_in(visitor: Visitor) -> None:
    visitor.arrive().page.close()  # an open page may be asking for something just then
    visitor.context.clear_cookies(name="access_token")  # as the browser does when it is too old
    tab = visitor.open()
    tab.joined()
    expect(tab.at("#account-name")).to_have_text("Ada")
    assert visitor.complaints == []


def test_a_return_visit_is_signed_in_and_has_no_complaint(visitor: Visitor) -> None:
    tab = visitor.arrive()
    tab.page.reload()
    tab.joined()
    assert visitor.complaints == []


def test_the_policy_keeps_an_inline_script_from_running(visitor: Visitor) -> None:
    tab = visitor.open()
    visitor.expected = ["Content Security Policy"]
    ran = tab.page.evaluate(
        """() => {
          const script = document.createElement('script');
          script.textContent = 'window.ran = true';
          document.head.append(script);
          return window.ran === true;
        }"""
    )
    assert not ran
    wait_until(lambda: tab.page.title() and any("script-src" in c for c in visitor.complaints))


def test_signing_out_in_one_tab_closes_the_socket_of_the_other(visitor: Visitor) -> None:
    one = visitor.arrive()
    other = visitor.open().joined()
    assert one.session_id != other.session_id
    one.at("#sign-out").click()
    expect(one.at("#notice-title")).to_have_text("You are signed out")
    expect(other.at("#notice-title")).to_have_text("You were signed out")
    expect(other.at("#notice-text")).to_contain_text("another tab")
    expect(other.at("#notice")).to_be_focused()
    expect(other.at("#sign-in")).to_be_visible()
    [last] = other.events("closing")
    assert (last["code"], last["reason"], last["retry"]) == (4410, "session_revoked", "login")
    wait_until(lambda: other.page.title() and other.sockets[-1].is_closed())
    assert len(other.sockets) == 1, "it tried to come back"


def test_after_signing_out_one_signs_in_again(visitor: Visitor) -> None:
    tab = visitor.arrive()
    tab.at("#sign-out").click()
    expect(tab.at("#sign-in")).to_be_visible()
    assert credentials_of(visitor) == set()
    assert "Ada" not in tab.at("body").inner_text()
    tab.sign_in(visitor.email)
    tab.joined()
    expect(tab.at("#notice")).to_be_hidden()
    expect(tab.at("#account-name")).to_have_text("Ada")


def test_a_wrong_password_gets_the_same_message_as_an_unknown_address(visitor: Visitor) -> None:
    visitor.post("/api/auth/signup", {"email": visitor.email, "password": PASSWORD, "name": "A"})
    visitor.context.clear_cookies()
    tab = visitor.open()
    words = "That e-mail address and password do not go together."
    for email, password in ((visitor.email, "not the password"), (address(), PASSWORD)):
        tab.sign_in(email, password)
        error = tab.at("#sign-in-form .form-error")
        expect(error).to_have_text(words)
        expect(error).to_have_role("alert")
        expect(tab.at("#in-password")).to_be_focused()
        tab.page.reload()
        expect(tab.at("#sign-in")).to_be_visible()


@pytest.mark.slow
def test_a_weak_password_gets_advice_at_the_field(visitor: Visitor) -> None:
    tab = visitor.open("/#sign-up")
    tab.sign_up(visitor.email, "password1")
    error_of(tab, "#up-password")
    expect(tab.at("#up-password")).to_be_focused()
    expect(tab.at("#up-password-error li")).not_to_have_count(0)
    tab.fill(up_password=PASSWORD)
    expect(tab.at("#up-password-error")).to_be_empty()
    tab.press("Enter")
    tab.joined()


@pytest.mark.slow
def test_an_empty_form_is_not_sent_and_says_what_is_missing(visitor: Visitor) -> None:
    tab = visitor.open("/#sign-up")
    expect(tab.at("#sign-up")).to_be_visible()
    tab.page.wait_for_load_state("networkidle")  # it asks who is here
    calls: list[str] = []
    tab.page.on("request", lambda request: calls.append(request.url))
    tab.sign_up("not an address", "short")
    error_of(tab, "#up-email")
    error_of(tab, "#up-password")
    expect(tab.at("#up-email")).to_be_focused()
    tab.fill(up_name="")
    tab.at("#sign-up-form [type=submit]").click()
    error_of(tab, "#up-name")
    assert calls == []


@pytest.mark.slow
def test_a_taken_address_is_explained(visitor: Visitor, visit: Visit) -> None:
    visitor.arrive()
    tab = visit().open("/#sign-up")
    tab.sign_up(visitor.email)
    expect(tab.at("#sign-up-form .form-error")).not_to_be_empty()
    expect(tab.at("#state")).to_be_hidden()


@pytest.mark.slow
def test_a_password_can_be_looked_at(visitor: Visitor) -> None:
    tab = visitor.open()
    tab.fill(in_password="secret")
    tab.page.get_by_role("button", name="Show password").click()
    expect(tab.at("#in-password")).to_have_attribute("type", "text")
    tab.page.get_by_role("button", name="Show password", pressed=True).click()
    expect(tab.at("#in-password")).to_have_attribute("type", "password")


# ---- sessions and passwords ----------------------------------------------------------------


def test_ending_another_session_closes_its_socket_and_no_other(
    visitor: Visitor, visit: Visit
) -> None:
    other_visitor = visit()
    other = other_visitor.arrive()
    mine = visitor.arrive_as(other_visitor.email)
    session_id = mine.session_id
    row = mine.at(ROW_OF_ANOTHER)
    expect(row).to_contain_text("1 open socket")
    expect(row).to_contain_text("Chrome on Linux")
    expect(mine.at("#sessions li")).to_have_count(2)
    row.get_by_role("button").click()
    expect(other.at("#notice-title")).to_have_text("You were signed out")
    assert other.events("closing")[0]["code"] == 4410
    expect(mine.at("#sessions li")).to_have_count(1)
    expect(mine.at("#sessions-status")).to_have_text("Chrome on Linux is signed out.")
    expect(mine.at("#devices-title")).to_be_focused()
    assert mine.joined().session_id == session_id


@pytest.mark.slow
def test_a_device_is_seen_to_open_and_close_its_sockets(visitor: Visitor, visit: Visit) -> None:
    mine = visitor.arrive()
    theirs = visit()
    tab = theirs.arrive_as(visitor.email)
    row = mine.at(ROW_OF_ANOTHER)
    expect(row.locator(".live")).to_have_text("1 open socket")
    second = theirs.open().joined()
    expect(row.locator(".live")).to_have_text("2 open sockets")
    second.page.close()
    expect(row.locator(".live")).to_have_text("1 open socket")
    tab.at("#sign-out").click()
    expect(mine.at("#sessions li")).to_have_count(1)
    mine.page.get_by_text("Recently ended").click()
    expect(mine.at("#ended-list li")).to_contain_text("Signed out")


def test_a_device_is_signed_out_though_its_row_changes_during_the_press(
    visitor: Visitor, visit: Visit
) -> None:
    mine = visitor.arrive()
    theirs = visit()
    tab = theirs.arrive_as(visitor.email)
    row = mine.at(ROW_OF_ANOTHER)
    expect(row.locator(".live")).to_have_text("1 open socket")
    with pressing(row.get_by_role("button")):
        theirs.open().joined()
        expect(row.locator(".live")).to_have_text("2 open sockets")
    expect(tab.at("#notice-title")).to_have_text("You were signed out")
    expect(mine.at("#sessions li")).to_have_count(1)


@pytest.mark.slow
def test_a_list_of_devices_that_comes_late_does_not_replace_a_newer_one(
    visitor: Visitor, visit: Visit
) -> None:
    mine = visitor.arrive()
    theirs = visit().arrive_as(visitor.email)
    expect(mine.at(ROW_OF_ANOTHER)).to_contain_text("1 open socket")
    late: list[tuple[Route, APIResponse]] = []
    mine.page.route("**/api/sessions", lambda route: late.append((route, route.fetch())), times=1)
    second = Tab(theirs.page.context.new_page())
    second.page.goto(visitor.server.url)
    second.joined()  # the list is read anew
    wait_until(lambda: mine.page.title() and late)
    theirs.at("#sign-out").click()  # and once more
    expect(mine.at("#sessions li")).to_have_count(1)
    [(route, answer)] = late
    with mine.page.expect_response("**/api/sessions") as came:
        route.fulfill(response=answer)
    came.value.finished()
    mine.page.evaluate("() => new Promise((shown) => setTimeout(shown, 100))")
    expect(mine.at("#sessions li")).to_have_count(1)
    assert mine.at("#sessions li").count() == 1


def test_signing_out_everywhere_else_leaves_this_session(visitor: Visitor, visit: Visit) -> None:
    mine = visitor.arrive()
    others = [visit().arrive_as(visitor.email) for _ in range(2)]
    mine.page.reload()
    mine.joined()
    expect(mine.at("#sessions li")).to_have_count(3)
    mine.at("#sign-out-others").click()
    question = mine.page.get_by_role("dialog", name="Sign out everywhere else?")
    question.get_by_role("button", name="Cancel").click()
    expect(mine.at("#sessions li")).to_have_count(3)
    expect(mine.at("#sign-out-others")).to_be_focused()
    mine.press("Enter")
    question.get_by_role("button", name="Sign out everywhere else").click()
    for other in others:
        expect(other.at("#notice-title")).to_have_text("You were signed out")
    expect(mine.at("#sessions li")).to_have_count(1)
    expect(mine.at("#sign-out-others")).to_be_hidden()
    assert mine.events("closing") == []


def test_ending_this_session_in_the_list_signs_out(visitor: Visitor) -> None:
    tab = visitor.arrive()
    tab.page.get_by_role("button", name="Sign out of this session").click()
    expect(tab.at("#notice-title")).to_have_text("You are signed out")
    assert visitor.post("/api/ws/ticket") == 401


def test_a_new_password_ends_the_other_sessions_and_is_the_one_that_counts(
    visitor: Visitor, visit: Visit
) -> None:
    mine = visitor.arrive()
    other = visit().arrive_as(visitor.email)
    session_id, new = mine.session_id, "seven plain herons at noon"
    mine.fill(pw_current="not my password", pw_new=new)
    submit = mine.at("#password-form [type=submit]")
    submit.click()
    error_of(mine, "#pw-current")
    expect(mine.at("#pw-current")).to_be_focused()
    mine.fill(pw_current=PASSWORD, pw_new="password1")
    submit.click()
    error_of(mine, "#pw-new")
    mine.fill(pw_new=new)
    submit.click()
    expect(mine.at("#password-form .form-done")).to_contain_text("Your password is changed.")
    expect(mine.at("#pw-new")).to_have_value("")
    expect(other.at("#notice-text")).to_contain_text("a new password")
    assert mine.joined().session_id == session_id
    other.sign_in(visitor.email)
    expect(other.at("#sign-in-form .form-error")).not_to_be_empty()
    other.sign_in(visitor.email, new)
    other.joined()
