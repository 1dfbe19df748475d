"""Administration in a real browser: nodes, keys, webhooks, providers, the audit trail."""

from __future__ import annotations

import re
import threading

import pytest
from playwright.sync_api import Browser, Page, Response, expect

from tests.browser.administration import admin, confirm, find_user, go, page, server, visitor
from tests.browser.test_step_up_dialog import grow_old
from tests.support.browser import Tab, Visitor, visitors
from tests.support.checks import rows as written
from tests.support.nodes import nodes
from tests.support.server import (
    PASSWORD,
    PATIENCE,
    Client,
    Usher,
    free_port,
    log_in,
    sign_up,
    usher,
    wait_until,
)
from tests.support.webhook_receiver import webhook_receiver

__all__ = ["admin", "page", "server", "visitor"]

# ---- who may, and getting about -------------------------------------------------------------


def test_others_have_no_administration(visitor: Visitor) -> None:
    tab = visitor.arrive("/#/admin/users")
    expect(tab.at("#areas a")).to_have_count(3)
    expect(tab.at(".area-admin")).to_have_count(0)


def test_each_page_has_an_address_a_title_and_the_focus(page: Page) -> None:
    go(page, "Users")
    expect(page).to_have_title(re.compile("^Users · Administration"))
    expect(page.get_by_role("heading", level=2, name="Users")).to_be_focused()
    go(page, "Keys")
    page.go_back()
    expect(page.get_by_role("heading", level=2, name="Users")).to_be_visible()
    page.reload()
    expect(page.get_by_role("heading", level=2, name="Users")).to_be_visible()
    page.goto(page.url.partition("#")[0] + "#/admin/users/nobody")
    expect(page.get_by_role("heading", name="Not found")).to_be_visible()


# ---- overview -------------------------------------------------------------------------------


def test_the_overview_moves_with_what_happens(page: Page, server: Usher, visitor: Visitor) -> None:
    sockets = page.locator(".admin-figure", has_text="Open sockets")
    closing = page.locator(".admin-figure", has_text="Logout to close")
    expect(sockets.locator(".admin-now")).to_have_text("1")
    before = sockets.locator("path.scale ~ path").get_attribute("d")
    tab = visitor.arrive()
    expect(sockets.locator(".admin-now")).to_have_text("2")
    expect(sockets.locator("svg")).to_have_attribute(
        "aria-label", re.compile("Open sockets in the last 15 minutes: now 2, at most 2")
    )
    expect(sockets.locator("path.scale ~ path")).not_to_have_attribute("d", before or "")
    tab.at("#sign-out").click()
    expect(sockets.locator(".admin-now")).to_have_text("1")
    expect(closing.locator(".admin-now")).to_have_text(re.compile(r"^[0-9.]+ m?s$"))
    expect(closing).to_contain_text("99 of 100 within")
    expect(page.get_by_role("region", name="Nodes").locator("tbody tr")).to_have_count(1)
    assert server.process.poll() is None


# ---- keys, webhooks, providers --------------------------------------------------------------


def test_a_key_is_shown_once_used_and_revoked(page: Page, server: Usher) -> None:
    go(page, "Keys")
    page.get_by_role("button", name="Make a key").click()
    form = page.get_by_role("dialog", name="Make a key")
    form.get_by_label("Name").fill("shop")
    form.get_by_role("button", name="Make the key").click()
    expect(form.get_by_role("alert")).to_have_text("Choose at least one thing that it may do.")
    form.get_by_label("read list users").check()
    form.get_by_role("button", name="Make the key").click()
    shown = page.get_by_role("dialog", name="The key shop")
    key = shown.locator("code").inner_text()
    shown.get_by_role("button", name="Done").click()
    row = page.locator(".entries li", has_text="shop")
    expect(row).to_contain_text("Last used never")
    expect(page.locator(".admin-once")).to_have_count(0)
    assert key not in page.content()
    assert Client(server, token=key).get("/api/admin/users?limit=1").status == 200
    page.reload()
    expect(row).to_contain_text("Last used just now")
    row.get_by_role("button", name="Revoke").click()
    confirm(page, "Revoke the key shop?", "Revoke", "refused at once")
    expect(row).to_have_count(0)
    assert Client(server, token=key).get("/api/admin/users?limit=1").status == 401


def test_a_webhook_is_tested_and_its_events_are_sent_again(page: Page) -> None:
    with webhook_receiver() as receiver:
        go(page, "Webhooks")
        page.get_by_role("button", name="Add a webhook").click()
        form = page.get_by_role("dialog", name="Add a webhook")
        form.get_by_label("Address").fill(receiver.url)
        form.get_by_role("button", name="Add", exact=True).click()
        shown = page.get_by_role("dialog", name="The secret of the webhook")
        secret = shown.locator("code").inner_text()
        shown.get_by_role("button", name="Done").click()
        page.get_by_role("link", name=receiver.url).click()
        expect(page.get_by_role("heading", name="No deliveries")).to_be_visible()
        page.get_by_role("button", name="Send a test event").click()
        rows = page.locator("tbody tr")
        expect(rows).to_contain_text(["delivered HTTP 204"])
        assert receiver.received[0].verify(secret)["type"] == "webhook.test"
        receiver.answer = lambda *_: 500
        rows.first.get_by_role("button", name="Send again").click()
        expect(rows).to_have_count(2)
        expect(rows.first).to_contain_text("HTTP 500")
        page.get_by_label("Show").select_option("delivered")
        expect(rows).to_have_count(1)
        page.get_by_role("button", name="Delete").click()
        confirm(page, "Delete this webhook?", "Delete", receiver.url)
        expect(page.get_by_role("heading", name="No webhooks")).to_be_visible()


@pytest.mark.slow
def test_a_delivery_that_takes_its_time_is_shown_when_it_has_come(page: Page) -> None:
    with webhook_receiver() as receiver:
        come = threading.Event()
        receiver.answer = lambda *_: 204 if come.wait(PATIENCE) else 500
        go(page, "Webhooks")
        page.get_by_role("button", name="Add a webhook").click()
        form = page.get_by_role("dialog", name="Add a webhook")
        form.get_by_label("Address").fill(receiver.url)
        form.get_by_role("button", name="Add", exact=True).click()
        page.get_by_role("button", name="Done").click()
        page.get_by_role("link", name=receiver.url).click()
        expect(page.get_by_role("heading", name="No deliveries")).to_be_visible()
        reads: list[Response] = []
        is_read = re.compile("/deliveries$")
        page.on("response", lambda one: reads.append(one) if is_read.search(one.url) else None)
        page.get_by_role("button", name="Send a test event").click()
        row = page.locator("tbody tr", has_text="webhook.test")
        expect(row).to_contain_text("waiting")
        wait_until(lambda: page.title() and len(reads) >= 3)  # at once, soon, and again
        come.set()
        expect(row).to_contain_text("delivered HTTP 204")
        page.get_by_role("button", name="Delete").click()
        confirm(page, "Delete this webhook?", "Delete", receiver.url)


@pytest.mark.slow
def test_providers_say_whether_they_answer(page: Page, server: Usher) -> None:
    go(page, "Providers")
    campus = page.locator(".admin-page section", has_text="Campus")
    gone = page.locator(".admin-page section", has_text="Gone")
    expect(campus.locator(".tag")).to_have_text("not asked yet")
    expect(campus).to_contain_text(f"{server.origin}/oauth/campus/callback")
    campus.get_by_role("button", name="Check now").click()
    expect(campus.locator(".tag")).to_have_text("answers")
    gone.get_by_role("button", name="Check now").click()
    expect(gone.locator(".tag")).to_have_text("does not answer")
    expect(gone.locator(".form-error")).not_to_be_empty()
    assert "s3cret" not in page.content()


# ---- audit, settings ------------------------------------------------------------------------


@pytest.mark.slow
def test_the_audit_trail_is_filtered_and_the_address_keeps_the_filter(
    page: Page, server: Usher
) -> None:
    user = sign_up(server)
    log_in(server, user.user["email"])
    entries = "SELECT id FROM audit_events WHERE subject = ?"
    wait_until(lambda: len(written(server, entries, user.user["id"])) == 3)  # in the background
    find_user(page, user.user["email"])
    page.get_by_role("link", name="What happened to this account").click()
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(3)
    page.get_by_label("What", exact=True).select_option("account.")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("account.created")
    page.reload()
    expect(rows).to_have_count(1)
    page.get_by_label("Who did it (id)").fill("nobody-of-these")
    expect(page.get_by_role("heading", name="No entries")).to_be_visible()


def test_settings_are_shown_without_secrets(page: Page) -> None:
    go(page, "Settings")
    row = page.locator("tbody tr", has_text="USHER_WEBHOOK_PRIVATE")
    expect(row).to_contain_text("on")
    expect(page.locator("tbody tr", has_text="USHER_JWT_SECRETS")).to_contain_text("secret")
    page.get_by_label("Only those that are set").check()
    expect(page.locator("tbody tr", has_text="USHER_JWT_SECRETS")).to_have_count(0)
    page.get_by_label("Search").fill("webhook_private")
    expect(page.locator("tbody tr")).to_have_count(1)
    assert "s3cret" not in page.content()


# ---- for everybody -------------------------------------------------------------------------


@pytest.mark.slow
def test_it_can_be_used_without_a_mouse(admin: Visitor) -> None:
    tab = admin.open("/#/admin/connect")
    expect(tab.page.get_by_role("tab", name="Browser")).to_be_visible()
    tab.tab_to("#admin-tab-browser")
    tab.press("ArrowRight", "ArrowRight")
    expect(tab.page.get_by_role("tab", name="Node")).to_be_focused()
    expect(tab.at("#admin-file")).to_contain_text("createServer")
    tab.press("ArrowLeft")
    expect(tab.at("#admin-file")).to_contain_text("FastAPI()")
    tab.page.close()


# ---- proof, and a server that is away -------------------------------------------------------


def test_an_act_asks_for_a_fresh_proof_and_goes_on(
    browser: Browser, server: Usher, admin: Visitor
) -> None:
    with visitors(browser, server) as new:
        visitor = new()
        tab = visitor.arrive()
        make_admin(server, admin, visitor.email)
        tab = again(visitor, tab)
        grow_old(visitor, tab)
        go(tab.page, "Keys")
        tab.page.get_by_role("button", name="Make a key").click()
        form = tab.page.get_by_role("dialog", name="Make a key")
        form.get_by_label("Name").fill("late")
        form.get_by_label("read list users").check()
        form.get_by_role("button", name="Make the key").click()
        expect(tab.at("#step-up-proof")).to_be_focused()
        tab.page.keyboard.press("Escape")
        expect(form.get_by_role("alert")).not_to_be_empty()
        form.get_by_role("button", name="Make the key").click()
        tab.fill(step_up_proof=PASSWORD)
        tab.press("Enter")
        expect(tab.page.get_by_role("dialog", name="The key late")).to_be_visible()


def make_admin(server: Usher, admin: Visitor, email: str) -> None:
    """As another administrator does it."""
    client = log_in(server, admin.email)
    [user] = client.get(f"/api/admin/users?email={email}").body["items"]
    assert client.call("PATCH", f"/api/admin/users/{user['id']}", {"role": "admin"}).status == 200


def again(visitor: Visitor, tab: Tab) -> Tab:
    """Sign in anew, as what one may has changed."""
    tab.page.close()
    visitor.context.clear_cookies()
    fresh = visitor.arrive_as(visitor.email)
    fresh.area("Administration")
    return fresh


@pytest.mark.slow
def test_the_overview_says_when_the_server_is_away_and_goes_on(browser: Browser) -> None:
    with usher("sqlite") as server, visitors(browser, server) as new:
        tab = new().arrive("/#/admin")
        note = tab.at(".admin-page [role=status]")
        expect(tab.at(".admin-now").first).to_have_text("1")
        tab.page.context.set_offline(True)
        expect(note).to_contain_text("Not up to date")
        tab.page.context.set_offline(False)
        expect(note).to_be_empty()


@pytest.mark.slow
def test_each_node_has_its_line(browser: Browser) -> None:
    ports = free_port(), free_port()
    own = ",".join(f"http://127.0.0.1:{port}" for port in ports)
    with (
        nodes("sqlite", 1, PORT=ports[0], ALLOWED_ORIGINS=own) as both,
        visitors(browser, both[0]) as new,
    ):
        first, second = new(), new(both.start(PORT=ports[1]))
        second.arrive()
        assert (
            first.post("/api/auth/login", {"email": both.admin.user["email"], "password": PASSWORD})
            == 200
        )
        tab = first.open("/#/admin")
        table = tab.page.get_by_role("region", name="Nodes").locator("tbody tr")
        expect(table).to_have_count(2)
        expect(tab.at(".admin-figure", "Open sockets").locator(".admin-now")).to_have_text("2")
        lines = tab.at(".admin-figure", "Sockets on ")
        expect(lines).to_have_count(2)
        for line in lines.all():
            expect(line.locator(".admin-now")).to_have_text("1")
        expect(table.filter(has_text="this page")).to_have_count(1)
        both.redis.kill()
        expect(tab.at(".admin-page [role=status]")).to_contain_text("Not complete")
        expect(lines.first).to_be_hidden()
