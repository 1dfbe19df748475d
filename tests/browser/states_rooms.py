"""The states of Rooms. `STATES` has them and those of the rest of the page."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.states import signed_up, state
from tests.browser.states_admin import STATES
from tests.support.browser import Tab, Visitor
from tests.support.raw import by_header, event, joined
from tests.support.server import Client, sign_up

__all__ = ["STATES"]

SAID = (
    ("Grace Hopper", "Is the lantern room open this evening?"),
    ("Grace Hopper", "I would bring the new lens."),
    ("Alan Turing", "It is. Mind the <b>third</b> step."),
)


def named(visitor: Visitor, name: str) -> Client:
    client = sign_up(visitor.server)
    assert client.call("PATCH", "/api/auth/me", {"name": name}).status == 200
    return client


def talk(visitor: Visitor, right: str = "write") -> Tab:
    """Three people in a channel in which something was said."""
    others = {name: named(visitor, name) for name, _ in SAID}
    owner = others["Alan Turing"]
    signed_up(visitor)
    answer = owner.post("/api/channels", {"name": "Lantern room"})
    path = f"/api/channels/{answer.body['id']}"
    for email in (visitor.email, others["Grace Hopper"].user["email"]):
        assert owner.post(f"{path}/members", {"email": email, "right": right}).status == 200
    room = f"channel:{answer.body['id']}"
    sockets = {  # open until the visitor leaves, so that the pictures have who is here
        name: visitor.beside.enter_context(joined(visitor.server, by_header(client.token)))
        for name, client in others.items()
    }
    tab = visitor.open(f"/#/rooms/{room}").joined()
    for name, text in SAID:
        data = {"room": room, "data": {"text": text}}
        sockets[name].send(event("message", 1, data))
        expect(tab.at("#lines .said", text)).to_be_visible()
    expect(tab.at("#lines .said")).to_have_count(len(SAID))
    expect(tab.at("#here li")).to_have_count(3)
    return tab


@state
def rooms(visitor: Visitor) -> Tab:
    return talk(visitor)


@state
def rooms_people_and_settings(visitor: Visitor) -> Tab:
    tab = talk(visitor, "manage")
    tab.page.get_by_role("button", name="People and settings").click()
    expect(tab.page.get_by_role("dialog").get_by_role("listitem")).to_have_count(2)
    return tab


@state
def rooms_new_channel(visitor: Visitor) -> Tab:
    tab = signed_up(visitor).open("/#/rooms").joined()
    tab.page.get_by_role("button", name="New room").click()
    expect(tab.page.get_by_role("dialog", name="New room")).to_be_visible()
    return tab
