"""The console in a real browser: what a developer sees of a connection, and takes along."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from urllib.parse import quote

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.support.accessibility import low_contrast, nameless, repeated_ids, spilled, too_small
from tests.support.browser import Tab, Visitor
from tests.support.server import sign_up, wait_until

CREDENTIAL = re.compile(r"eyJ[\w-]+\.|ticket=(?!TICKET)|Bearer (?!KEY)")


@pytest.fixture
def tab(visitor: Visitor) -> Tab:
    return visitor.arrive("/#/console")


def lines(tab: Tab, event: str) -> Locator:
    return tab.at("#frames li[data-direction]").filter(
        has=tab.page.locator("summary > .name", has_text=event)
    )


def sent(tab: Tab, event: str, data: str) -> Locator:
    """Send an event that the server refuses, and open its frame."""
    tab.send(event, data)
    expect(tab.at("#reply")).to_have_attribute("data-ok", "false")
    line = lines(tab, event).first
    line.locator("summary").click()
    return line


def copied(line: Locator, language: str) -> str:
    line.get_by_role("button", name=f"Copy as {language}").click()
    expect(line.page.get_by_text(f"Copied as {language}").last).to_be_visible()
    text = line.page.evaluate("() => navigator.clipboard.readText()")
    assert line.locator(".snippet").inner_text().strip() == text.strip()
    return str(text)


@pytest.mark.slow
def test_frames_are_found_by_words_and_by_direction(tab: Tab) -> None:
    tab.send("nonsense", '{"note": "needle"}')
    expect(lines(tab, "nonsense")).to_be_visible()
    tab.at("#frames-filter").fill("NEEDLE")
    expect(tab.at("#frames > li:visible")).to_have_count(1)
    expect(tab.at("#frames-note")).to_contain_text("1 of ")
    tab.at("#frames-direction").select_option("in")
    expect(tab.at("#frames > li:visible")).to_have_count(0)
    tab.at("#frames-filter").fill("")
    expect(lines(tab, "joined")).to_be_visible()
    expect(lines(tab, "nonsense")).to_be_hidden()
    tab.send("other-nonsense")
    expect(lines(tab, "reply").first).to_be_visible()
    expect(lines(tab, "other-nonsense")).to_be_hidden()  # a filter also holds for what comes


@pytest.mark.slow
def test_paused_frames_wait_and_come_when_it_goes_on(tab: Tab) -> None:
    expect(lines(tab, "joined")).to_be_visible()
    tab.page.get_by_role("button", name="Pause").click()
    tab.send("nonsense")
    expect(tab.at("#frames-note")).to_contain_text("Paused: 2 new")
    expect(lines(tab, "nonsense")).to_have_count(0)
    tab.page.get_by_role("button", name="Resume").click()
    expect(lines(tab, "nonsense")).to_be_visible()
    expect(tab.at("#frames-note")).to_have_text("")


@pytest.mark.slow
def test_heartbeats_are_one_line_that_opens(tab: Tab) -> None:
    expect(lines(tab, "joined")).to_be_visible()
    tab.page.get_by_role("button", name="Clear").click()
    for _ in range(3):
        tab.send("heartbeat")
        expect(tab.at("#reply p")).to_have_text("Reply to heartbeat")
        tab.at("#reply").evaluate("element => element.replaceChildren()")
    group = tab.at("#frames > li")
    expect(group).to_have_count(1)
    expect(group.locator("summary").first).to_have_text(re.compile(r"^\d heartbeats$"))
    expect(lines(tab, "heartbeat").first).to_be_hidden()
    group.locator("summary").first.click()
    expect(lines(tab, "heartbeat").first).to_be_visible()
    tab.at("#show-heartbeats").uncheck()
    expect(group).to_be_hidden()


def test_a_frame_opens_and_is_copied_without_a_secret(visitor: Visitor, tab: Tab) -> None:
    visitor.context.grant_permissions(["clipboard-read", "clipboard-write"])
    data = {"note": 'it\'s "so" \\ 😀', "yes": True, "none": None, "ticket": "live-ticket"}
    line = sent(tab, "nonsense", json.dumps(data))
    whole = json.loads(line.locator(".whole").inner_text())
    assert whole["data"] == {**data, "ticket": "[hidden]"}
    host = visitor.server.url.removeprefix("http://")
    for language in ("JavaScript", "Python", "websocat", "curl"):
        text = copied(line, language)
        assert host in text
        assert "TICKET" in text
        assert "live-ticket" not in text
        assert not CREDENTIAL.search(text)


def ticket_of(visitor: Visitor) -> str:
    answer = visitor.context.request.post(
        visitor.server.url + "/api/ws/ticket", headers={"Origin": visitor.server.url}
    )
    return str(answer.json()["ticket"])


def refusals(tab: Tab) -> list[object]:
    return [of for of in tab.received if of.get("error", {}).get("code") == "unknown_event"]


def test_what_is_copied_runs(visitor: Visitor, tab: Tab) -> None:
    visitor.context.grant_permissions(["clipboard-read", "clipboard-write"])
    line = sent(
        tab, "nonsense", json.dumps({"note": 'it\'s "so" \\ 😀', "yes": True, "none": None})
    )
    script = copied(line, "JavaScript").replace("=TICKET", "=" + quote(ticket_of(visitor)))
    tab.page.evaluate(f"() => {{ {script} }}")
    wait_until(lambda: tab.page.title() and len(refusals(tab)) == 2)
    program = copied(line, "Python").replace("TICKET", quote(ticket_of(visitor)))
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        heard = [running.stdout.readline() for _ in range(2)]
        running.kill()
    assert "'joined'" in heard[0]
    assert "unknown_event" in heard[1]
    command = copied(line, "curl").replace("=TICKET", "=" + quote(ticket_of(visitor)))
    with subprocess.Popen(
        ["bash", "-c", f"exec {command[command.index('curl --') :]}"], stdout=subprocess.PIPE
    ) as opened:
        assert opened.stdout is not None
        assert b" 101 " in opened.stdout.readline()
        opened.kill()


def test_the_state_machine_marks_where_the_connection_is_and_how_it_came(tab: Tab) -> None:
    machine = tab.at("#machine")
    here, taken = machine.locator("[data-here]"), machine.locator("[data-taken]")
    expect(here).to_have_attribute("data-node", "joined")
    tab.page.get_by_role("button", name="Disconnect").click()
    expect(here).to_have_attribute("data-node", "closed")
    expect(taken).to_have_attribute("data-way", "joined closed")
    expect(machine).to_have_accessible_name("State machine of the connection: now closed")
    tab.page.context.set_offline(True)
    tab.page.get_by_role("button", name="Connect", exact=True).click()
    expect(here).to_have_attribute("data-node", "waiting")
    tab.page.context.set_offline(False)
    expect(here).to_have_attribute("data-node", "joined")
    expect(taken).to_have_attribute("data-way", "connecting joined")


@pytest.mark.slow
def test_the_time_of_heartbeats_is_a_plot_that_can_be_read_out(tab: Tab) -> None:
    for _ in range(2):
        tab.send("heartbeat")
        expect(tab.at("#reply p")).to_have_text("Reply to heartbeat")
        tab.at("#reply").evaluate("element => element.replaceChildren()")
    expect(tab.at("#round-trip")).to_have_text(
        re.compile(r"^[\d.]+ ms now, [\d.]+ ms median, [\d.]+ ms at most, of \d heartbeats?$")
    )
    plot = tab.at("#round-trips .plot")
    expect(plot).to_have_accessible_name(re.compile(r"^Round-trip time: [\d.]+ ms now"))


@pytest.mark.slow
def test_many_rooms_are_counted_and_folded(visitor: Visitor) -> None:
    owner = sign_up(visitor.server, email=visitor.email)
    body = {"private": True}
    made = [owner.post("/api/channels", {**body, "name": f"Room {n}"}).body for n in range(4)]
    tab = visitor.arrive_as(visitor.email).area("Console")
    folded = tab.at("#more-rooms")
    expect(folded.locator("summary")).to_have_text("and 2 more")
    for channel in made:
        expect(tab.at("#fact-rooms")).to_contain_text(f"channel:{channel['id']}")
    assert owner.call("DELETE", f"/api/channels/{made[0]['id']}").status < 300
    assert owner.call("DELETE", f"/api/channels/{made[1]['id']}").status < 300
    expect(folded).to_be_hidden()


def test_a_token_is_taken_apart_and_not_kept(visitor: Visitor, tab: Tab) -> None:
    token = str(sign_up(visitor.server).token)
    expect(tab.at("#own-claims")).to_contain_text("iss")  # the last that this area asks for
    calls: list[str] = []
    tab.page.on("request", lambda request: calls.append(request.url))
    tab.at("#jwt").fill(token)
    tab.page.get_by_role("button", name="Take apart").click()
    parts = tab.at("#jwt-parts")
    for text in ("HS256", "at+jwt", "role", "user", "(in 1"):
        expect(parts).to_contain_text(text)
    assert token.split(".")[2] not in tab.page.content()
    expect(tab.at("#jwt")).to_have_value("")
    assert calls == []
    tab.at("#jwt").fill("not.a.token")
    tab.page.get_by_role("button", name="Take apart").click()
    expect(tab.at("#jwt")).to_have_attribute("aria-invalid", "true")
    expect(tab.at("#jwt-error")).to_contain_text("no JWT")


def test_the_console_says_what_the_token_of_the_page_says_and_never_shows_it(tab: Tab) -> None:
    [cookie] = [c for c in tab.page.context.cookies() if c["name"] == "access_token"]
    claims = tab.at("#own-claims")
    user_id = tab.events("joined")[-1]["user"]["id"]
    for text in ("iss", "the login session", "last proof of who it is", user_id):
        expect(claims).to_contain_text(text)
    before = claims.locator("div", has_text="jti").inner_text()
    tab.page.evaluate("() => fetch('/api/auth/refresh', { method: 'POST' })")
    tab.area("Account").area("Console")
    expect(claims.locator("div", has_text="jti")).not_to_have_text(before)
    assert cookie["value"].split(".")[2] not in tab.page.content()


def test_a_ticket_is_made_and_stays_masked(tab: Tab) -> None:
    with tab.page.expect_response("**/api/ws/ticket") as answered:
        tab.page.get_by_role("button", name="Make a ticket").click()
    ticket = answered.value.json()["ticket"]
    expect(tab.at("#ticket-made")).to_contain_text("ends in")
    assert ticket not in tab.page.content()


def usable(page: Page) -> None:
    assert low_contrast(page) == []
    assert spilled(page) == []
    assert nameless(page) == []
    assert repeated_ids(page) == []
    assert too_small(page) == []


@pytest.mark.slow
def test_an_open_frame_can_be_used_by_everybody(visitor: Visitor, tab: Tab) -> None:
    visitor.context.grant_permissions(["clipboard-read", "clipboard-write"])
    copied(sent(tab, "nonsense", json.dumps({"room": "x" * 300})), "JavaScript")
    for scheme, width in (("light", 1280), ("dark", 360)):
        tab.page.set_viewport_size({"width": width, "height": 800})
        tab.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type] # of a tuple
        usable(tab.page)
