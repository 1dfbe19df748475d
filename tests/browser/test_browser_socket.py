"""The page's socket and its tokens, in a real browser, against a real server."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.browser.fields import error_of
from tests.support.browser import Tab, Visit, Visitor
from tests.support.server import PASSWORD, Usher, address, usher


@pytest.fixture(scope="module")
def hasty_server(database_kind: str) -> Iterator[Usher]:
    """A server whose access tokens hold for a moment only."""
    with usher(database_kind, ACCESS_TOKEN_TTL_SECONDS=4) as running:
        yield running


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
