"""The states of Administration. `STATES` has them and those of the rest of the page."""

from __future__ import annotations

from playwright.sync_api import Locator, expect

from tests.browser.states import STATES, as_admin, state
from tests.support.browser import Tab, Visitor
from tests.support.checks import rows
from tests.support.server import sign_up

__all__ = ["STATES"]

PEOPLE = ("Grace Hopper", "Alan Turing", "Katherine Johnson", "Edsger Dijkstra", "Barbara Liskov")


def people(visitor: Visitor) -> None:
    """Users with names and a channel each, once for a server."""
    if rows(visitor.server, "SELECT id FROM users WHERE name = ?", PEOPLE[0]):
        return
    for name in PEOPLE:
        first = name.split()[0].lower()
        client = sign_up(visitor.server, email=f"{first}@lantern.example")
        assert client.call("PATCH", "/api/auth/me", {"name": name}).status == 200
        assert client.post("/api/channels", {"name": f"{name.split()[1]}'s lab"}).status == 201


def on(visitor: Visitor, page: str, title: str) -> Tab:
    """A page of administration, with people around."""
    people(visitor)
    tab = as_admin(visitor).open(f"/#/admin/{page}").joined()
    expect(tab.page.get_by_role("heading", level=2, name=title, exact=True)).to_be_visible()
    return tab


def dialog(tab: Tab, button: str, title: str) -> Locator:
    """Press a button, which opens a dialog."""
    tab.page.get_by_role("button", name=button, exact=True).click()
    opened = tab.page.get_by_role("dialog", name=title)
    expect(opened).to_be_visible()
    return opened


@state
def admin_overview(visitor: Visitor) -> Tab:
    people(visitor)
    as_admin(visitor)
    other = visitor.open().joined()
    tab = visitor.open("/#/admin").joined()
    other.page.close()
    expect(tab.at(".admin-figure", "Open sockets").locator(".admin-now")).to_have_text("1")
    return tab


@state
def admin_users(visitor: Visitor) -> Tab:
    tab = on(visitor, "users", "Users")
    expect(tab.at("tbody tr")).not_to_have_count(0)
    return tab


@state
def admin_nobody_found(visitor: Visitor) -> Tab:
    tab = on(visitor, "users?q=somebody+else", "Users")
    expect(tab.page.get_by_role("heading", name="Nobody found")).to_be_visible()
    return tab


@state
def admin_user(visitor: Visitor) -> Tab:
    tab = on(visitor, "users?q=Barbara+Liskov", "Users")
    tab.page.get_by_role("link", name="Barbara Liskov").first.click()
    expect(tab.page.get_by_role("heading", level=2, name="Barbara Liskov")).to_be_visible()
    return tab


@state
def admin_open_an_account(visitor: Visitor) -> Tab:
    tab = on(visitor, "users", "Users")
    form = dialog(tab, "Open an account", "Open an account")
    form.get_by_label("Name").fill("Annie Easley")
    form.get_by_label("E-mail address").fill("annie@lantern.example")
    return tab


@state
def admin_disable_a_user(visitor: Visitor) -> Tab:
    tab = admin_user(visitor)
    dialog(tab, "Disable", "Disable Barbara Liskov?")
    return tab


@state
def admin_invite(visitor: Visitor) -> Tab:
    tab = on(visitor, "users", "Users")
    dialog(tab, "Invite", "Invite somebody")
    return tab


@state
def admin_channels(visitor: Visitor) -> Tab:
    tab = on(visitor, "channels", "Rooms")
    expect(tab.at("tbody tr")).not_to_have_count(0)
    return tab


@state
def admin_keys(visitor: Visitor) -> Tab:
    tab = admin_make_a_key(visitor)
    tab.page.get_by_role("button", name="Make the key").click()
    tab.page.get_by_role("button", name="Done").click()
    expect(tab.at(".entries li", "shop").first).to_be_visible()
    return tab


@state
def admin_make_a_key(visitor: Visitor) -> Tab:
    tab = on(visitor, "keys", "Keys")
    form = dialog(tab, "Make a key", "Make a key")
    form.get_by_label("Name").fill("shop")
    form.get_by_label("introspect").check()
    form.get_by_label("publish").check()
    return tab


@state
def admin_webhook(visitor: Visitor) -> Tab:
    """Nobody answers there: the name is reserved (RFC 2606)."""
    tab = on(visitor, "webhooks", "Webhooks")
    made = len(rows(visitor.server, "SELECT id FROM webhooks"))
    url = f"https://shop.invalid/hooks/{made + 1}"
    form = dialog(tab, "Add a webhook", "Add a webhook")
    form.get_by_label("Address").fill(url)
    form.get_by_role("button", name="Add", exact=True).click()
    tab.page.get_by_role("button", name="Done").click()
    tab.page.get_by_role("link", name=url, exact=True).click()
    tab.page.get_by_role("button", name="Send a test event").click()
    expect(tab.at("tbody tr", "webhook.test")).to_contain_text("failed")
    return tab


@state
def admin_providers(visitor: Visitor) -> Tab:
    return on(visitor, "providers", "Providers")


@state
def admin_audit(visitor: Visitor) -> Tab:
    tab = on(visitor, "audit", "Audit trail")
    expect(tab.at("tbody tr")).not_to_have_count(0)
    return tab


@state
def admin_settings(visitor: Visitor) -> Tab:
    return on(visitor, "settings", "Settings")


@state
def admin_connect(visitor: Visitor) -> Tab:
    return on(visitor, "connect", "Connect your app")
