"""The page, in a real browser, against a real server."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import APIResponse, Page, Route, expect

from tests.support.accessibility import low_contrast, nameless, repeated_ids, spilled, too_small
from tests.support.browser import Tab, Visit, Visitor, credentials_of, pressing
from tests.support.foreign_site import foreign_site
from tests.support.server import PASSWORD, Usher, address, usher, wait_until
from tests.support.tools import first_of, need

ROW_OF_ANOTHER = "#sessions li:not(:has(.here))"
VIEWS = ["sign-in", "sign-up", "account", "console"]


@pytest.fixture(scope="module")
def hasty_server(database_kind: str) -> Iterator[Usher]:
    """A server whose access tokens hold for a moment only."""
    with usher(database_kind, ACCESS_TOKEN_TTL_SECONDS=4) as running:
        yield running


def error_of(tab: Tab, field: str) -> None:
    """The field is marked, and its error belongs to its description."""
    expect(tab.at(field)).to_have_attribute("aria-invalid", "true")
    error = tab.at(f"{field}-error").inner_text()
    assert error
    first_line = error.splitlines()[0]
    expect(tab.at(field)).to_have_accessible_description(re.compile(re.escape(first_line)))


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


# ---- the socket ----------------------------------------------------------------------------


def test_the_token_is_renewed_on_the_live_socket_past_its_first_expiry(
    visit: Visit, hasty_server: Usher
) -> None:
    visitor = visit(hasty_server)
    tab = visitor.arrive("/#/console")
    session_id = tab.session_id
    first_expiry = tab.events("joined")[0]["expires_at"]
    # A renewal is asked for at half of a token's life: the third comes after the first expiry.
    for number in range(3):
        expect(tab.at("#frames .name", "token-refresh").nth(number)).to_be_attached()
    tab.joined().send("heartbeat")
    expect(tab.at("#reply pre")).to_contain_text("server_time")
    assert json.loads(tab.at("#reply pre").inner_text())["server_time"] > first_expiry
    assert tab.session_id == session_id
    assert len(tab.sockets) == 1
    assert tab.events("closing") == []
    secrets = [frame["data"]["token"] for frame in tab.sent if frame["event"] == "token-refresh"]
    assert len(secrets) >= 3
    frames = tab.at("#frames").inner_text()
    assert '"token":"[hidden]"' in frames
    assert_none_in(secrets, tab)


def assert_none_in(secrets: list[str], tab: Tab) -> None:
    """None of these is anywhere that a script of the page can read."""
    kept = tab.page.evaluate(
        "() => JSON.stringify([document.cookie, {...localStorage}, {...sessionStorage},"
        " [...document.querySelectorAll('input')].map(({ value }) => value)])"
    )
    seen = tab.page.content() + kept + tab.page.url
    assert [secret for secret in secrets if secret in seen] == []


def test_no_token_or_ticket_is_where_the_page_could_show_it(visitor: Visitor) -> None:
    tab = visitor.arrive()
    tickets = [socket.url.partition("?ticket=")[2] for socket in tab.sockets]
    cookies = visitor.context.cookies()
    # `device` proves nothing by itself: it says where somebody has signed in before.
    assert {cookie["name"] for cookie in cookies} == {"access_token", "refresh_token", "device"}
    assert all(cookie["httpOnly"] for cookie in cookies)
    assert all(tickets)
    token = cookies[0]["value"]
    tab.send("nonsense", json.dumps({"note": "a-word-to-find", "ticket": tickets[0]}))
    expect(tab.at("#reply")).to_have_attribute("data-ok", "false")
    tab.send("nonsense", json.dumps({"note": token if token.startswith("eyJ") else "eyJ.e.y"}))
    expect(tab.at("#frames .name", "nonsense")).to_have_count(2)
    tab.fill(event="heartbeat", data="")
    assert "a-word-to-find" in tab.at("#frames").inner_text()
    assert_none_in([*tickets, *(cookie["value"] for cookie in cookies)], tab)


def test_an_access_token_that_ran_out_is_renewed_silently(visitor: Visitor) -> None:
    tab = visitor.arrive("/#/console")
    expect(tab.at("#own-claims")).to_contain_text("iss")  # the last that this area asks for
    tab.toggle_socket()
    expect(tab.at("#state")).to_have_attribute("data-state", "closed")
    calls: list[str] = []
    tab.page.on("request", lambda request: calls.append(request.url.rpartition("/api/")[2]))
    visitor.context.clear_cookies(name="access_token")  # as the browser does when it is too old
    tab.toggle_socket()
    tab.joined()
    assert calls[:3] == ["ws/ticket", "auth/refresh", "ws/ticket"]
    visitor.context.clear_cookies(name="access_token")
    tab.page.reload()
    tab.joined()


def test_a_late_ticket_ends_no_session_whatever_the_clock_did_meanwhile(
    visitor: Visitor,
) -> None:
    tab = visitor.arrive()
    late = json.dumps({"ticket": "x" * 43, "expires_in": 30})
    for hours in (0, -1):
        # Half a minute after the last such rescue, with a clock that was set back in between.
        tab.page.evaluate(
            """(hours) => {
              const [now, tick] = [Date.now.bind(Date), performance.now.bind(performance)];
              Date.now = () => now() + hours * 3_600_000;
              performance.now = () => tick() + 31_000;
            }""",
            hours,
        )
        tab.toggle_socket()
        expect(tab.at("#state")).to_have_attribute("data-state", "closed")
        visitor.context.route(
            "**/api/ws/ticket",
            lambda route: route.fulfill(status=201, content_type="application/json", body=late),
            times=1,
        )
        with tab.page.expect_response("**/api/auth/me"):  # it looks whether the sign-in holds
            tab.toggle_socket()
        tab.joined()


def test_after_a_restart_of_the_server_the_page_comes_back_by_itself(
    database_kind: str, visit: Visit
) -> None:
    with usher(database_kind) as server:
        tab = visit(server).arrive("/#/console")
        before = tab.session_id
        server.end(signal.SIGTERM)
        expect(tab.at("#state")).not_to_have_attribute("data-state", "joined")
        expect(tab.at("#frames")).to_contain_text('"reason":"service_restart"')
        [last] = tab.events("closing")
        assert (last["code"], last["retry"]) == (1012, "backoff")
        server.restart()
        tab.joined()
        assert tab.session_id != before
        expect(tab.at("#notice")).to_be_hidden()
        tab.send("heartbeat")
        expect(tab.at("#reply pre")).to_contain_text("server_time")
        tab.page.close()


def test_the_composer_sends_an_event_and_shows_the_reply(visitor: Visitor) -> None:
    tab = visitor.arrive("/#/console")
    tab.at("#composer [type=submit]").click()
    expect(tab.at("#reply p")).to_have_text("Reply to heartbeat")
    expect(tab.at("#reply pre")).to_contain_text("server_time")
    tab.send("nonsense", '{"room": "<img src=x onerror=alert(1)>"}')
    expect(tab.at("#reply p")).to_have_text("unknown_event")
    expect(tab.at("#frames")).to_contain_text("<img src=x")
    expect(tab.at("#frames img")).to_have_count(0)
    tab.send("heartbeat", "{not JSON")
    error_of(tab, "#data")
    expect(tab.at("#data")).to_be_focused()
    tab.fill(data="")
    tab.at("#composer [name=reply]").uncheck()
    tab.press("Control+Enter")
    tab.at("#composer [type=submit]").click()
    expect(tab.at("#reply p")).to_have_text("Sent heartbeat")
    tab.joined()


def test_a_name_with_markup_in_it_is_only_text(visitor: Visitor) -> None:
    name = "<img src=x onerror=alert(1)>"
    body = {"email": visitor.email, "password": PASSWORD, "name": name}
    assert visitor.post("/api/auth/signup", body) == 201
    tab = visitor.open("/#/console").joined()
    for place in ("#account-name", "#fact-user"):
        expect(tab.at(place)).to_have_text(name)
    expect(tab.at("img")).to_have_count(0)


@pytest.mark.slow
def test_a_user_can_disconnect_and_connect_again(visitor: Visitor) -> None:
    tab = visitor.arrive()
    before = tab.session_id
    tab.toggle_socket()
    expect(tab.at("#state-text")).to_have_text("Disconnected")
    expect(tab.at("#state-detail")).to_have_text("You disconnected.")
    assert before not in tab.at("#fact-session").inner_text()
    tab.send("heartbeat")
    expect(tab.at("#reply p")).to_have_text("not_joined")
    tab.toggle_socket()
    assert tab.joined().session_id != before


def test_a_lost_network_is_found_and_left_behind(visitor: Visitor) -> None:
    tab = visitor.arrive()
    tab.toggle_socket()
    visitor.context.set_offline(True)
    tab.toggle_socket()
    expect(tab.at("#state")).to_have_attribute("data-state", "waiting")
    expect(tab.at("#state-text")).to_contain_text("Offline")
    visitor.context.set_offline(False)
    tab.joined()


@pytest.mark.slow
def test_another_sign_in_in_the_same_browser_takes_the_page_over(
    visit: Visit, hasty_server: Usher
) -> None:
    visitor = visit(hasty_server)
    tab = visitor.arrive("/#/console")
    visitor.post("/api/auth/signup", {"email": address(), "password": PASSWORD, "name": "Bob"})
    expect(tab.at("#fact-user")).to_have_text("Bob")
    expect(tab.at("#account-name")).to_have_text("Bob")
    tab.joined()
    assert "Ada" not in tab.at("main").inner_text()


# ---- for everybody -------------------------------------------------------------------------


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


# ---- somebody else's page ------------------------------------------------------------------

OPEN_SOCKET = """(url) => new Promise((resolve) => {
  const socket = new WebSocket(url);
  socket.onmessage = ({ data }) => { socket.close(); resolve(JSON.parse(data).event); };
  socket.onclose = ({ code }) => resolve(code);
})"""

CALL = """([url, options]) => fetch(url, { credentials: 'include', ...options })
  .then(async (answer) => [answer.status, await answer.text()], (error) => error.name)"""


@pytest.fixture
def foreign() -> Iterator[str]:
    with foreign_site() as url:
        yield url


def test_a_foreign_page_cannot_open_a_socket_with_the_users_cookies(
    visitor: Visitor, foreign: str
) -> None:
    server = visitor.server
    own = visitor.arrive()
    assert own.page.evaluate(OPEN_SOCKET, server.ws) == "joined", "the cookies would do"
    tab = visitor.open(foreign)
    assert tab.page.evaluate(OPEN_SOCKET, server.ws) == 1006
    wait_until(lambda: tab.page.title() and visitor.complaints)
    assert "Unexpected response code: 403" in visitor.complaints[-1]


def test_a_foreign_page_cannot_use_up_a_ticket(visitor: Visitor, foreign: str) -> None:
    own = visitor.arrive()
    answer = visitor.context.request.post(
        f"{visitor.server.url}/api/ws/ticket", headers={"Origin": visitor.server.url}
    )
    url = f"{visitor.server.ws}?ticket={answer.json()['ticket']}"
    assert visitor.open(foreign).page.evaluate(OPEN_SOCKET, url) == 1006
    assert own.page.evaluate(OPEN_SOCKET, url) == "joined"


class Wire:
    """What went over the wire for a page, which its own scripts may not see."""

    def __init__(self, visitor: Visitor, tab: Tab) -> None:
        self.statuses: list[int] = []
        self.cookies: list[set[str]] = []
        self._tab = tab
        link = visitor.context.new_cdp_session(tab.page)
        link.on("Network.requestWillBeSentExtraInfo", self._asked)
        link.on("Network.responseReceivedExtraInfo", self._answered)
        link.send("Network.enable")

    def _asked(self, event: dict[str, Any]) -> None:
        kept = [c["cookie"]["name"] for c in event["associatedCookies"] if not c["blockedReasons"]]
        self.cookies.append(set(kept))

    def _answered(self, event: dict[str, Any]) -> None:
        self.statuses.append(event["statusCode"])

    def call(self, url: str, **options: Any) -> tuple[Any, int, set[str]]:
        """One `fetch`: what the page sees, the real status, and the cookies that went along."""
        count = len(self.statuses) + 1
        seen = self._tab.page.evaluate(CALL, [url, options])
        wait_until(lambda: self._tab.page.title() and len(self.statuses) == count)
        return seen, self.statuses[-1], self.cookies[-1]


def test_a_foreign_page_can_neither_read_the_api_nor_change_anything(
    visitor: Visitor, foreign: str
) -> None:
    api = f"{visitor.server.url}/api"
    own = visitor.arrive()
    visitor.expected = ["has been blocked by CORS policy"]
    wire = Wire(visitor, visitor.open(foreign))
    for mode in ("cors", "no-cors"):
        seen, status, cookies = wire.call(f"{api}/auth/me", mode=mode)
        assert (seen, status) == ("TypeError", 200), "the answer is not kept from the page"
        assert cookies >= {"access_token"}, "the check is worth nothing"
    for path in ("/auth/logout", "/auth/login", "/auth/signup", "/auth/refresh", "/ws/ticket"):
        called = wire.call(f"{api}{path}", method="POST", mode="no-cors", body="{}")
        assert called[:2] == ("TypeError", 403), path
    assert wire.call(f"{api}/sessions", method="DELETE")[0] == "TypeError"
    assert own.page.evaluate(CALL, [f"{api}/auth/me", {}])[0] == 200
    assert own.events("closing") == []
    own.joined()


def test_a_form_of_a_foreign_page_cannot_sign_a_user_out(visitor: Visitor, foreign: str) -> None:
    own = visitor.arrive()
    page = visitor.open(foreign).page
    with page.expect_response("**/api/auth/logout") as answer:
        page.evaluate(
            """(url) => {
              const form = document.createElement('form');
              Object.assign(form, { action: url, method: 'post' });
              document.body.append(form);
              form.submit();
            }""",
            f"{visitor.server.url}/api/auth/logout",
        )
    assert answer.value.status == 403
    assert "access_token" in answer.value.request.all_headers()["cookie"]
    own.page.reload()
    own.joined()


def test_a_foreign_page_cannot_frame_the_page(visitor: Visitor, foreign: str) -> None:
    visitor.arrive()
    visitor.expected = ["frame-ancestors", "X-Frame-Options", "chrome-error://"]
    tab = visitor.open(foreign)
    tab.page.evaluate(
        """(url) => new Promise((resolve) => {
          const frame = document.createElement('iframe');
          frame.onload = resolve;
          frame.src = url;
          document.body.append(frame);
        })""",
        visitor.server.url,
    )
    wait_until(lambda: tab.page.title() and any("frame-ancestors" in c for c in visitor.complaints))
    assert tab.page.frames[1].url.startswith("chrome-error:")


# ---- the tests themselves ------------------------------------------------------------------


def test_a_missing_program_skips_a_test_and_fails_it_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no-such-program is not on PATH: for this"):
        need("for this", "no-such-program")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no-such-program is not on PATH"):
        need("for this", "no-such-program")
    assert need("for this", "no-such-program", "sh").name == "sh"
