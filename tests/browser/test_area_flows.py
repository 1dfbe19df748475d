"""What happens to people while an area is open: the network goes, a server ends, a laptop sleeps, a
session is ended elsewhere, a proof grows old; and names and messages that try to be script."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.test_factors_page import home, sign_out, sign_up
from tests.browser.test_step_up_dialog import grow_old
from tests.support.browser import Tab, Visit, Visitor, visitors, with_authenticator
from tests.support.line import Line, line
from tests.support.nodes import Nodes, again, nodes
from tests.support.raw import PING, PONG, TEXT, RawClient, by_header, event, frame, joined
from tests.support.server import PASSWORD, Client, Usher, free_port, log_in
from tests.support.tools import first_of

SCRIPT = "<script>document.title='pwned'</script><img src=x onerror=\"document.title='pwned'\">"
COUNT = """addEventListener('securitypolicyviolation', ({ violatedDirective }) => {
  (globalThis.violations ??= []).push(violatedDirective);
});"""
VIOLATIONS = "() => globalThis.violations ?? []"
INLINE = """() => {
  const script = document.createElement('script');
  script.textContent = "document.title = 'pwned'";
  document.body.append(script);
}"""


class Place:
    """Two nodes of one installation, a line to the first, and one whose tokens are short-lived."""

    def __init__(self, both: Nodes, way: Line, hasty: Usher) -> None:
        self.both, self.line, self.hasty = both, way, hasty


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    ports = [free_port() for _ in range(4)]
    own = ",".join(f"http://127.0.0.1:{port}" for port in ports)
    with ExitStack() as stack:
        both = stack.enter_context(nodes("sqlite", 1, PORT=ports[0], ALLOWED_ORIGINS=own))
        both.start(PORT=ports[1])
        hasty = both.start(PORT=ports[2], ACCESS_TOKEN_TTL_SECONDS=4)
        way = stack.enter_context(line(ports[3], both[0].port))
        yield Place(both, way, hasty)


@pytest.fixture
def guest(browser: Browser, place: Place) -> Iterator[Visit]:
    with visitors(browser, place.both[0]) as new:
        yield new


@contextmanager
def speaker(place: Place, name: str) -> Iterator[tuple[str, RawClient]]:
    """A room that is open to everybody, and somebody in it, on the second node."""
    founder = again(place.both[1], place.both.admin.user["email"])
    answer = founder.post("/api/channels", {"name": name, "private": False})
    with joined(place.both[1], by_header(founder.token)) as socket:
        yield f"channel:{answer.body['id']}", socket


def say(socket: RawClient, room: str, *texts: str) -> None:
    for text in texts:
        socket.send(event("message", text, {"room": room, "data": {"text": text}}))
        while (reply := next_event(socket)).get("id") != text:
            pass  # presence, and what was said
        assert reply["ok"], reply


def next_event(socket: RawClient) -> Any:
    """The next event; pings are answered, for this may take longer than their interval."""
    while True:
        opcode, payload = socket.frame()
        if opcode == TEXT:
            return json.loads(payload)
        if opcode == PING:
            socket.send(frame(payload, PONG))


def wait_left(socket: RawClient, user_id: str) -> None:
    """Until a user has left the rooms of this socket."""
    while True:
        seen = next_event(socket)
        left = seen["data"].get("left", []) if seen["event"] == "presence" else []
        if any(one["id"] == user_id for one in left):
            return


@contextmanager
def asleep(browser: Browser) -> Iterator[None]:
    """The pages do nothing, as of a laptop that is closed: their processes are stopped."""
    link = browser.new_browser_cdp_session()
    found = link.send("SystemInfo.getProcessInfo")["processInfo"]
    pages = [int(one["id"]) for one in found if one["type"] == "renderer"]
    assert pages
    try:
        for pid in pages:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in pages:
            os.kill(pid, signal.SIGCONT)
        link.detach()


def arrived(visitor: Visitor, room: str, url: str) -> Tab:
    """Signed up, and in a room, at an address of the installation."""
    body = {"email": visitor.email, "password": PASSWORD, "name": "Ada"}
    assert visitor.post("/api/auth/signup", body) == 201
    return visitor.open(f"{url}/#/rooms/{room}").joined()


def nothing_is_missing(tab: Tab, *texts: str) -> None:
    tab.joined()
    expect(tab.at("#lines .said")).to_have_text([*texts])
    expect(tab.at("#lines .gap")).to_have_count(0)
    expect(tab.at("#notice")).to_be_hidden()


def test_after_the_network_was_cut_a_room_has_no_gap(place: Place, guest: Visit) -> None:
    with speaker(place, "Bridge") as (room, socket):
        tab = arrived(guest(), room, place.line.url)
        say(socket, room, "before")
        expect(tab.at("#lines .said")).to_have_text(["before"])
        place.line.cut()
        expect(tab.at("#state")).to_have_attribute("data-state", "waiting")
        say(socket, room, "one", "two")
        place.line.mend()
        nothing_is_missing(tab, "before", "one", "two")
        expect(tab.at("#lines .away")).to_have_text("2 messages while you were away")
        say(socket, room, "after")
        nothing_is_missing(tab, "before", "one", "two", "after")


@pytest.mark.slow
def test_after_a_restart_of_its_node_a_room_has_no_gap(place: Place, guest: Visit) -> None:
    with speaker(place, "Ferry") as (room, socket):
        tab = arrived(guest(), room, place.both[0].url)
        say(socket, room, "before")
        expect(tab.at("#lines .said")).to_have_text(["before"])
        place.both[0].end(signal.SIGTERM)
        expect(tab.at("#state")).not_to_have_attribute("data-state", "joined")
        say(socket, room, "meanwhile")
        place.both[0].restart()
        nothing_is_missing(tab, "before", "meanwhile")


def test_a_token_that_ran_out_in_sleep_is_renewed_and_nothing_is_missing(
    browser: Browser, place: Place
) -> None:
    with speaker(place, "Night boat") as (room, socket), visitors(browser, place.hasty) as new:
        tab = arrived(new(), room, place.hasty.url)
        user_id = tab.events("joined")[-1]["user"]["id"]
        with asleep(browser):
            wait_left(socket, user_id)  # its token has run out, and nobody renewed it
            say(socket, room, "in the night")
        nothing_is_missing(tab, "in the night")


@pytest.mark.parametrize("area", first_of(["Rooms", "Account", "Console", "Administration"], 1))
def test_who_is_signed_out_elsewhere_is_told_so_in_every_area(
    area: str, place: Place, guest: Visit
) -> None:
    visitor = guest()
    email = place.both.admin.user["email"]
    tab = visitor.arrive_as(email)
    if area != "Account":
        tab.area(area)
    elsewhere: Client = log_in(place.both[1], email)
    # Of this browser: sockets of those before it may still count as open.
    own = visitor.context.request.get(f"{visitor.server.url}/api/sessions").json()["items"]
    [here] = [one["id"] for one in own if one["current"]]
    assert elsewhere.call("DELETE", f"/api/sessions/{here}").status == 204
    expect(tab.at("#notice-title")).to_have_text("You were signed out")
    expect(tab.at("#sign-in")).to_be_visible()
    expect(tab.at(".area")).to_have_count(0)


@pytest.mark.slow
def test_a_room_is_made_to_need_a_fresh_proof_and_asks_for_it(visitor: Visitor) -> None:
    tab = visitor.arrive("/#/rooms")
    page = tab.page
    page.get_by_role("button", name="New room").click()
    page.get_by_role("dialog").get_by_label("Name").fill("Vault")
    page.get_by_role("button", name="Make the room").click()
    expect(page.get_by_role("heading", level=2, name="Vault")).to_be_visible()
    grow_old(visitor, tab)
    page.get_by_role("button", name="People and settings").click()
    settings = page.get_by_role("dialog", name="People and settings of Vault")
    settings.get_by_label("Needs a fresh proof").check()
    settings.get_by_role("button", name="Save").click()
    prove(tab)
    expect(settings).to_be_hidden()
    expect(tab.at(".room-marks")).to_contain_text("Fresh proof needed")

    grow_old(visitor, tab)
    page.reload()
    tab.at(".outside").get_by_role("button", name="Confirm that it is you").click()
    prove(tab)
    page.get_by_label("Message to Vault").fill("Inside")
    tab.press("Enter")
    expect(tab.at("#lines .said")).to_have_text(["Inside"])


def prove(tab: Tab) -> None:
    expect(tab.page.get_by_role("dialog", name="Confirm that it is you")).to_be_visible()
    tab.fill(step_up_proof=PASSWORD)
    tab.press("Enter")
    expect(tab.page.get_by_role("dialog", name="Confirm that it is you")).to_be_hidden()


@pytest.mark.slow
def test_a_passkey_leads_to_the_area_that_was_asked_for(browser: Browser, server: Usher) -> None:
    context = browser.new_context()
    page = with_authenticator(context)
    sign_up(page, server)
    page.click("#add-passkey")
    expect(page.locator("#passkeys li")).to_have_count(1)
    sign_out(page)
    for area, title in (("rooms", "Rooms"), ("console", "Console")):
        page.goto(f"{home(server)}/#/{area}")
        page.click("#passkey-sign-in")
        expect(page.get_by_role("heading", level=1, name=title)).to_be_attached()
        sign_out(page)
    context.close()


def test_names_and_messages_that_try_to_be_script_break_no_policy(visitor: Visitor) -> None:
    visitor.context.add_init_script(COUNT)
    tab = visitor.arrive()
    me = visitor.context.request.patch(
        f"{visitor.server.url}/api/auth/me",
        data={"name": SCRIPT[:100]},
        headers={"Origin": visitor.server.url},
    )
    assert me.ok
    made = visitor.context.request.post(
        f"{visitor.server.url}/api/channels",
        data={"name": SCRIPT[:80]},
        headers={"Origin": visitor.server.url},
    ).json()
    room = f"channel:{made['id']}"
    tab.page.goto(f"{visitor.server.url}/#/rooms/{room}")
    tab.page.reload()
    expect(tab.joined().at("#account-name")).to_have_text(SCRIPT[:100])
    tab.page.get_by_label("Message to").fill(SCRIPT)
    tab.press("Enter")
    expect(tab.at("#lines .said")).to_have_text([SCRIPT])
    tab.area("Console")
    expect(tab.at("#frames li", "pwned").first).to_be_attached()
    tab.area("Account")
    assert tab.page.locator("main img, main script").count() == 0
    assert tab.page.evaluate(VIOLATIONS) == []
    visitor.expected.append("Content Security Policy")
    tab.page.evaluate(INLINE)  # a violation is counted
    assert len(tab.page.evaluate(VIOLATIONS)) == 1
    assert "pwned" not in tab.page.title()
