"""Rooms in a real browser: a conversation of two people, with its channels, people and rights."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, WebSocketRoute, expect

from tests.support.accessibility import low_contrast, nameless, repeated_ids, spilled, too_small
from tests.support.browser import Tab, Visit, pressing
from tests.support.server import wait_until

SCRIPT = "<img src=x onerror=\"document.title='pwned'\">"


def opened(tab: Tab, name: str) -> Page:
    """Make a channel by its dialog, and come into its room."""
    tab.page.get_by_role("button", name="New room").click()
    tab.page.get_by_role("dialog").get_by_label("Name").fill(name)
    tab.page.get_by_role("button", name="Make the room").click()
    expect(tab.page.get_by_role("heading", level=2, name=name, exact=True)).to_be_visible()
    return tab.page


def add(page: Page, email: str) -> None:
    page.get_by_role("button", name="People and settings").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Add somebody by e-mail address").fill(email)
    dialog.get_by_role("button", name="Add", exact=True).click()
    expect(dialog.get_by_role("listitem")).to_have_count(1)
    dialog.get_by_role("button", name="Close").click()


def two_in(visit: Visit, name: str) -> tuple[Page, Tab]:
    """Two people of a room: one has made it and is in it, the other is at the rooms."""
    one, other = visit(), visit()
    page = opened(one.arrive("/#/rooms"), name)
    tab = other.arrive("/#/rooms")
    add(page, other.email)
    return page, tab


def say(page: Page, name: str, text: str) -> None:
    page.get_by_label(f"Message to {name}").fill(text)
    page.keyboard.press("Enter")
    expect(page.locator("#lines .said", has_text=text)).to_be_visible()


def test_two_people_talk_see_each_other_and_what_is_unread(visit: Visit) -> None:
    ada, grace = two_in(visit, "Kitchen")
    link = grace.at("#room-list a", "Kitchen")
    link.click()
    expect(ada.get_by_role("list", name="Here").get_by_role("listitem")).to_have_count(2)
    say(ada, "Kitchen", "Is there tea?")
    expect(grace.at("#lines .said", "Is there tea?")).to_be_visible()

    grace.page.get_by_label("Message to Kitchen").press_sequentially("So")
    expect(ada.locator(".typing")).to_contain_text("is typing")
    say(grace.page, "Kitchen", SCRIPT)
    expect(ada.locator("#lines .said", has_text=SCRIPT)).to_be_visible()

    grace.area("Account")
    say(ada, "Kitchen", "And cake?")
    say(ada, "Kitchen", "Yes.")
    grace.area("Rooms")
    expect(grace.at("#lines")).to_contain_text("Yes.")
    assert "pwned" not in ada.title() + grace.page.title()


@pytest.mark.slow
def test_what_is_sent_before_the_answer_to_the_one_before_is_sent_after_it(visit: Visit) -> None:
    visitor = visit()
    held: list[Callable[[], None]] = []
    late: list[bool] = []

    def between(socket: WebSocketRoute) -> None:
        server = socket.connect_to_server()

        def heard(frame: Any) -> None:
            if late and '"reply"' in frame:
                held.append(lambda: socket.send(frame))
            else:
                socket.send(frame)

        server.on_message(heard)

    visitor.context.route_web_socket(re.compile("/ws"), between)
    page = opened(visitor.arrive("/#/rooms"), "Stairs")
    say(page, "Stairs", "Zero")
    expect(page.get_by_label("Message to Stairs")).to_have_value("")
    late.append(True)
    say(page, "Stairs", "One")
    page.get_by_label("Message to Stairs").fill("Two")
    page.keyboard.press("Enter")
    wait_until(lambda: page.title() and held)
    late.clear()
    for frame in held:
        frame()
    expect(page.locator("#lines .said")).to_have_text(["Zero", "One", "Two"])
    expect(page.get_by_label("Message to Stairs")).to_have_value("")


def test_unread_messages_are_counted_until_their_room_is_opened(
    visit: Visit,
) -> None:
    ada, grace = two_in(visit, "Attic")
    opened(grace, "Zoo")
    say(ada, "Attic", "One")
    say(ada, "Attic", "Two")
    link = grace.at("#room-list a", "Attic")
    expect(link.locator(".unread")).to_contain_text("2")
    link.click()
    expect(link.locator(".unread")).to_have_count(0)
    expect(grace.at("#lines .new")).to_be_visible()


def test_a_room_is_opened_though_a_message_comes_to_another_during_the_press(
    visit: Visit,
) -> None:
    ada, grace = two_in(visit, "Yard")
    opened(grace, "Attic")
    opened(grace, "Zoo")
    with pressing(grace.at("#room-list a", "Attic")):
        say(ada, "Yard", "Come out!")
        expect(grace.at("#room-list a", "Yard").locator(".unread")).to_contain_text("1")
    expect(grace.page.get_by_role("heading", level=2, name="Attic", exact=True)).to_be_visible()


@pytest.mark.slow
def test_a_name_stays_selected_when_somebody_else_comes_in(visit: Visit) -> None:
    one, other = visit(), visit()
    ada = opened(one.arrive("/#/rooms"), "Library")
    other.arrive().page.close()
    add(ada, other.email)
    here = ada.get_by_role("list", name="Here").get_by_role("listitem")
    expect(here).to_have_count(1)
    here.evaluate("(item) => getSelection().selectAllChildren(item)")
    other.open("/#/rooms").joined()
    expect(here).to_have_count(2)
    assert ada.evaluate("() => String(getSelection())") == "Ada (you)"


@pytest.mark.slow
def test_a_member_is_removed_though_another_goes_during_the_press(visit: Visit) -> None:
    one = visit()
    page = opened(one.arrive("/#/rooms"), "Crew")
    page.get_by_role("button", name="People and settings").click()
    members = page.get_by_role("dialog").get_by_role("listitem")
    for count in (1, 2):
        member = visit()
        member.arrive().page.close()
        page.get_by_label("Add somebody by e-mail address").fill(member.email)
        page.get_by_role("button", name="Add", exact=True).click()
        expect(members).to_have_count(count)
    with pressing(members.first.get_by_role("button")):
        members.last.get_by_role("button").evaluate("(button) => button.click()")
        expect(members).to_have_count(1)
        members.get_by_role("button").hover()  # the dialog is smaller now
    expect(members).to_have_count(0)


def test_what_was_said_while_the_line_was_down_comes_and_is_counted(
    visit: Visit,
) -> None:
    ada, grace = two_in(visit, "Cellar")
    grace.at("#room-list a", "Cellar").click()
    expect(ada.get_by_role("list", name="Here").get_by_role("listitem")).to_have_count(2)
    grace.toggle_socket()
    expect(ada.get_by_role("list", name="Here").get_by_role("listitem")).to_have_count(1)
    say(ada, "Cellar", "First")
    say(ada, "Cellar", "Second")
    grace.toggle_socket()
    grace.joined().area("Rooms")
    expect(grace.at("#lines .away")).to_contain_text("2 messages while you were away")
    expect(grace.at("#lines .said")).to_have_text(["First", "Second"])


def test_rights_are_given_and_taken_and_a_member_leaves(visit: Visit) -> None:
    ada, grace = two_in(visit, "Hall")
    grace.at("#room-list a", "Hall").click()
    ada.get_by_role("button", name="People and settings").click()
    with ada.expect_response(lambda answer: answer.request.method == "PUT") as given:
        ada.get_by_role("dialog").get_by_role("combobox").select_option("read")
    assert given.value.ok
    ada.get_by_role("dialog").get_by_role("button", name="Close").click()
    grace.page.get_by_label("Message to Hall").fill("May I?")
    grace.page.keyboard.press("Enter")
    expect(grace.at("#say-error")).to_have_text("You may read here, but not write.")
    grace.page.get_by_role("button", name="Leave", exact=True).click()
    grace.page.get_by_role("dialog").get_by_role("button", name="Leave").click()
    expect(grace.at("#room-list a", "Hall")).to_have_count(0)


def test_an_open_room_is_left_entered_again_and_gone_when_it_is_deleted(visit: Visit) -> None:
    owner, visitor = visit(), visit()
    page = owner.arrive("/#/rooms").page
    page.get_by_role("button", name="New room").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("Square")
    dialog.get_by_label("Only for members").uncheck()
    dialog.get_by_role("button", name="Make the room").click()
    tab = visitor.arrive("/#/rooms")
    tab.at("#room-list a", "Square").click()
    leave = tab.page.get_by_role("button", name="Leave", exact=True)
    leave.click()
    tab.page.get_by_role("dialog").get_by_role("button", name="Leave").click()
    expect(tab.at(".outside")).to_contain_text("You are not in this room")
    expect(leave).to_be_hidden()
    expect(tab.at("#here-title")).to_be_hidden()
    tab.page.get_by_role("button", name="Enter", exact=True).click()
    say(tab.page, "Square", "Back again.")
    expect(leave).to_be_visible()
    expect(page.locator("#lines .said", has_text="Back again.")).to_be_visible()
    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Delete for good").click()
    expect(tab.at("#room")).to_contain_text("This room is not there")
    expect(tab.at("#room-list a", "Square")).to_have_count(0)


def test_an_address_that_nobody_has_is_said_in_words(visit: Visit) -> None:
    page = opened(visit().arrive("/#/rooms"), "Empty")
    page.get_by_role("button", name="People and settings").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Add somebody by e-mail address").fill("nobody@example.net")
    dialog.get_by_role("button", name="Add", exact=True).click()
    expect(dialog.get_by_role("alert")).to_have_text("Nobody here has this address.")


@pytest.mark.parametrize("width", [1280, 360])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_use_rooms(visit: Visit, width: int, scheme: str) -> None:
    tab = visit().arrive("/#/rooms")
    page = opened(tab, "Garden")
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]  # parametrised
    say(page, "Garden", "Hello")
    assert low_contrast(page) == []
    assert nameless(page) == []
    assert repeated_ids(page) == []
    assert spilled(page) == []
    assert too_small(page) == []
