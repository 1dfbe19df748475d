"""The pages for mails in a real browser: forgotten passwords, and confirmed, changed and restored
addresses, with mails as files."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Request, expect

from tests.support.accessibility import low_contrast, nameless, repeated_ids, spilled, too_small
from tests.support.browser import Tab, Visitor, visitors
from tests.support.mail_server import Mailbox, link_of
from tests.support.server import PASSWORD, Client, Usher, sign_up, usher

NEW = "an otter under the old bridge 3"
VIEWS = ("forgot", "sent", "confirm", "wrong", "confirmed", "undo", "refused")


@pytest.fixture(scope="module")
def server() -> Iterator[Usher]:
    """On SQLite only: the pages ask for nothing that others do not ask for on both."""
    with usher("sqlite", APP_NAME="The <b>Reading</b> Room", APP_ACCENT="#ffcc00") as running:
        sign_up(running)
        yield running


@pytest.fixture(scope="module")
def strict() -> Iterator[Usher]:
    with usher("sqlite", EMAIL_VERIFICATION="required") as running:
        yield running


def mailbox(visitor: Visitor) -> Mailbox:
    return Mailbox(visitor.server.data_dir, visitor.email)


def new_account(visitor: Visitor) -> tuple[Client, Mailbox]:
    """Somebody who signed up by other means than this browser."""
    return sign_up(visitor.server, email=visitor.email), mailbox(visitor)


def press(tab: Tab, name: str) -> None:
    tab.page.get_by_role("button", name=name, exact=True).click()


def test_after_a_reset_the_new_password_signs_in(visitor: Visitor) -> None:
    _, box = new_account(visitor)
    asked: list[Request] = []
    visitor.context.on("request", lambda request: asked.append(request))  # noqa: PLW0108
    tab = visitor.open(f"{visitor.server.pages}/sign-in")
    tab.page.get_by_role("link", name="Forgotten password?").click()
    expect(tab.at("#ask-title")).to_be_visible()
    tab.fill(email=visitor.email)
    press(tab, "Send a mail")
    expect(tab.at("#sent-title")).to_be_focused()
    link = link_of(box.next("reset_password"))
    tab.page.goto(link)
    tab.fill(new_password=NEW)
    press(tab, "Set password")
    expect(tab.at("#done-title")).to_be_focused()
    tab.page.get_by_role("link", name="Sign in").click()
    tab.sign_in(visitor.email, NEW)
    expect(tab.at("#state")).to_have_attribute("data-state", "joined")
    token = link.partition("#token=")[2]
    assert all(token not in repr([r.url, r.headers]) for r in asked)


@pytest.mark.slow
def test_a_signed_in_user_confirms_with_one_click(visitor: Visitor) -> None:
    box = mailbox(visitor)
    tab = visitor.open(f"{visitor.server.pages}/#sign-up")
    tab.sign_up(visitor.email)
    expect(tab.at("#state")).to_have_attribute("data-state", "joined")
    tab.page.goto(link_of(box.next("verify_address")))
    expect(tab.at("#done-title")).to_be_focused()
    assert "#" not in tab.page.url


@pytest.mark.slow
def test_elsewhere_the_password_is_asked_for(visitor: Visitor) -> None:
    _, box = new_account(visitor)
    tab = visitor.open(link_of(box.next("verify_address")))
    tab.fill(password=NEW)
    press(tab, "Confirm")
    expect(tab.at("#act-form .form-error")).not_to_be_empty()
    tab.fill(password=PASSWORD)
    press(tab, "Confirm")
    expect(tab.at("#done-title")).to_be_focused()


@pytest.mark.slow
def test_the_owner_of_the_mailbox_gets_an_account_created_by_somebody_else(
    visitor: Visitor,
) -> None:
    squatter, box = new_account(visitor)
    tab = visitor.open(link_of(box.next("verify_address")))
    press(tab, "Set a new one")
    expect(tab.page.get_by_role("heading", name="Set a password")).to_be_visible()
    tab.fill(new_password=NEW)
    press(tab, "Set password")
    expect(tab.at("#done-title")).to_be_focused()
    assert squatter.get("/api/auth/me").status == 401


def test_where_it_is_required_a_sign_up_leads_to_the_mailbox_and_in(
    browser: Browser, strict: Usher
) -> None:
    with visitors(browser, strict) as new:
        visitor = new()
        box = mailbox(visitor)
        tab = visitor.open(f"{strict.pages}/sign-in#sign-up")
        tab.sign_up(visitor.email)
        expect(tab.page.get_by_role("heading", name="Look into your mailbox")).to_be_visible()
        link = link_of(box.next("verify_address"))
        tab.page.goto(f"{strict.pages}/sign-in")
        tab.sign_in(visitor.email)
        expect(tab.page.get_by_role("heading", name="Look into your mailbox")).to_be_visible()
        tab.page.goto(link)
        tab.fill(password=PASSWORD)
        press(tab, "Confirm")
        expect(tab.at("#done-title")).to_be_focused()
        tab.page.get_by_role("link", name="Go on").click()
        tab.sign_in(visitor.email)
        expect(tab.at("#state")).to_have_attribute("data-state", "joined")


@pytest.mark.slow
def test_an_address_is_changed_on_the_page_and_confirmed_by_the_mail(visitor: Visitor) -> None:
    tab = visitor.open(f"{visitor.server.pages}/#sign-up")
    tab.sign_up(visitor.email)
    tab.joined()
    new = f"new-{visitor.email}"
    tab.fill(my_email=new)
    press(tab, "Change address")
    expect(tab.at("#email-form .form-done")).not_to_be_empty()
    tab.page.goto(link_of(Mailbox(visitor.server.data_dir, new).next("change_address")))
    expect(tab.at("#done-title")).to_be_focused()
    tab.page.goto(visitor.server.pages)
    expect(tab.at("#my-email-hint")).to_contain_text(new)


def test_the_former_address_takes_the_account_back(visitor: Visitor) -> None:
    tab = visitor.open(changed(visitor))
    press(tab, "Take it back")
    expect(tab.at("#done-title")).to_be_focused()
    assert mailbox(visitor).next("reset_password")


def changed(visitor: Visitor) -> str:
    """The link that undoes a change of the address."""
    client, box = new_account(visitor)
    confirm = "/api/auth/email/confirm"
    assert client.post(confirm, {"token": box.token("verify_address")}).status == 204
    new = f"new-{visitor.email}"
    assert client.post("/api/auth/email", {"email": new}).status == 204
    token = Mailbox(visitor.server.data_dir, new).token("change_address")
    assert client.post(confirm, {"token": token}).status == 204
    return link_of(box.next("address_changed"))


def shown(visitor: Visitor, view: str) -> Tab:
    """A page in one of its states."""
    url = visitor.server.pages
    if view in ("forgot", "sent"):
        tab = visitor.open(f"{url}/forgot-password")
        if view == "sent":
            tab.fill(email=visitor.email)
            press(tab, "Send a mail")
        return tab
    if view == "undo":
        return visitor.open(changed(visitor))
    if view == "refused":
        return visitor.open(f"{url}/undo-email")
    _, box = new_account(visitor)
    tab = visitor.open(link_of(box.next("verify_address")))
    if view != "confirm":
        tab.fill(password=NEW if view == "wrong" else PASSWORD)
        press(tab, "Confirm")
    return tab


SECTIONS = {
    "forgot": "#ask",
    "sent": "#sent",
    "confirm": "#act",
    "wrong": "#act",
    "confirmed": "#done",
    "undo": "#act",
    "refused": "#refused",
}


@pytest.mark.slow
@pytest.mark.parametrize("view", VIEWS)
def test_everybody_can_use_them(visitor: Visitor, view: str) -> None:
    tab = shown(visitor, view)
    page = tab.page
    expect(tab.at(SECTIONS[view])).to_be_visible()
    if view == "wrong":
        expect(tab.at("#act-form .form-error")).not_to_be_empty()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for width in (320, 390, 1280):
            page.set_viewport_size({"width": width, "height": 800})
            found = low_contrast(page) + nameless(page) + too_small(page) + spilled(page)
            assert found + repeated_ids(page) == [], (scheme, width)
