"""Administration in a real browser: the state of nodes, users, and actions with confirmation."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, Response, expect

from tests.browser.test_step_up_dialog import grow_old
from tests.support.browser import Tab, Visitor, pressing, visitors
from tests.support.checks import rows as written
from tests.support.nodes import nodes
from tests.support.provider import provider
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
from tests.support.sign_in import settings_for
from tests.support.webhook_receiver import webhook_receiver

SCRIPT = "<img src=x onerror=\"document.title='pwned'\">"
SEARCH = "(field, text) => { field.value = text; field.dispatchEvent(new Event('change')); }"


@pytest.fixture(scope="module")
def server() -> Iterator[Usher]:
    with provider() as op:
        settings = settings_for(op, "campus") | {
            "OAUTH_PROVIDERS": "campus,gone",
            "OAUTH_GONE_ISSUER": "http://127.0.0.1:9",
            "OAUTH_GONE_CLIENT_ID": "us",
            "OAUTH_GONE_CLIENT_SECRET": "s3cret-of-gone",
        }
        with usher("sqlite", WEBHOOK_PRIVATE="on", **settings) as running:
            yield running


@pytest.fixture(scope="module")
def admin(browser: Browser, server: Usher) -> Iterator[Visitor]:
    """The first account, in a browser of its own. What it complains of is found at the end."""
    with visitors(browser, server) as new:
        visitor = new()
        visitor.arrive().page.close()
        yield visitor


@pytest.fixture
def visitor(browser: Browser, server: Usher, admin: Visitor) -> Iterator[Visitor]:
    """Somebody else, who is no administrator."""
    assert admin.email
    with visitors(browser, server) as new:
        yield new()


@pytest.fixture
def page(admin: Visitor) -> Iterator[Page]:
    """The administrator's page, on Administration."""
    tab = admin.open("/#/admin")
    yield tab.page
    tab.page.close()


def go(page: Page, name: str) -> None:
    """Go to a page of administration, by its link."""
    links = page.get_by_role("navigation", name="Administration")
    links.get_by_role("link", name=name, exact=True).click()
    title = {"Audit": "Audit trail"}.get(name, name)
    expect(page.get_by_role("heading", level=2, name=title, exact=True)).to_be_visible()


def confirm(page: Page, title: str, yes: str, *texts: str) -> None:
    """Answer a question that says these texts."""
    dialog = page.get_by_role("dialog", name=title)
    for text in texts:
        expect(dialog).to_contain_text(text)
    dialog.get_by_role("button", name=yes, exact=True).click()


def find_user(page: Page, words: str) -> None:
    """Search for a user, and open the only one that is found."""
    go(page, "Users")
    page.get_by_label("Search by name, e-mail address or id").fill(words)
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(1)
    rows.get_by_role("link").click()


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


# ---- users ----------------------------------------------------------------------------------


def test_a_user_is_found_disabled_enabled_and_deleted(page: Page, visitor: Visitor) -> None:
    tab = visitor.arrive()
    find_user(page, visitor.email[:14])
    expect(page.locator(".admin-page")).to_contain_text("1 session, 1 open socket")
    page.get_by_role("button", name="Disable").click()
    question = page.get_by_role("dialog", name="Disable Ada?")
    expect(question.get_by_role("button", name="Cancel")).to_be_focused()
    page.keyboard.press("Escape")
    expect(tab.at("#state")).to_have_attribute("data-state", "joined")
    page.get_by_role("button", name="Disable").click()
    confirm(page, "Disable Ada?", "Disable", "1 session ends", "1 open socket closes at once")
    expect(tab.at("#notice-title")).to_have_text("You were signed out")
    expect(page.locator(".tag.bad", has_text="disabled")).to_be_visible()
    page.get_by_role("button", name="Enable").click()
    confirm(page, "Enable Ada?", "Enable")
    expect(page.get_by_role("button", name="Disable")).to_be_visible()
    page.get_by_role("button", name="Delete").click()
    confirm(page, "Delete Ada for good?", "Delete for good", "This cannot be undone")
    expect(page.get_by_role("heading", level=2, name="Users")).to_be_visible()
    page.get_by_label("Search by name, e-mail address or id").fill(visitor.email)
    expect(page.get_by_role("heading", name="Nobody found")).to_be_visible()


def test_a_role_changes_and_somebody_is_signed_out(page: Page, visitor: Visitor) -> None:
    tab = visitor.arrive()
    find_user(page, visitor.email)
    page.get_by_role("button", name="Make an administrator").click()
    confirm(page, "Make Ada an administrator?", "Make an administrator", "change everything")
    expect(page.get_by_role("button", name="Make a user")).to_be_visible()
    page.get_by_role("button", name="Make a user").click()
    confirm(page, "Take the administrator's rights from Ada?", "Make a user")
    page.get_by_role("button", name="Sign out everywhere").click()
    confirm(page, "Sign Ada out everywhere?", "Sign out everywhere", "They can sign in again")
    expect(tab.at("#notice")).to_be_visible()
    expect(page.locator(".admin-page")).to_contain_text("Not signed in anywhere.")


@pytest.mark.slow
def test_a_question_is_asked_though_sockets_open_during_the_press(
    page: Page, visitor: Visitor
) -> None:
    visitor.arrive()
    find_user(page, visitor.email)
    expect(page.locator(".admin-page")).to_contain_text("1 session, 1 open socket")
    with pressing(page.get_by_role("button", name="Disable")):
        visitor.open().joined()
        expect(page.locator(".admin-page")).to_contain_text("1 session, 2 open sockets")
    dialog = page.get_by_role("dialog", name="Disable Ada?")
    expect(dialog).to_contain_text("2 open sockets close at once")
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Disable")).to_be_focused()


@pytest.mark.slow
def test_a_user_is_opened_though_the_list_is_read_anew_during_the_press(
    page: Page, server: Usher
) -> None:
    user = sign_up(server)
    go(page, "Users")
    search = page.get_by_label("Search by name, e-mail address or id")
    search.fill(user.user["email"])
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(1)
    with pressing(rows.get_by_role("link")):
        assert user.call("PATCH", "/api/auth/me", {"name": "Bea"}).status == 200
        search.evaluate(SEARCH, user.user["email"][:-1])
        expect(rows.get_by_role("link")).to_have_text("Bea")
    expect(page.get_by_role("heading", level=2, name="Bea")).to_be_visible()


def test_the_last_administrator_cannot_be_taken_away(page: Page, admin: Visitor) -> None:
    find_user(page, admin.email)
    page.get_by_role("button", name="Make a user").click()
    confirm(page, "Take the administrator's rights from Ada?", "Make a user")
    expect(page.locator(".admin-page .form-error")).to_contain_text("administrator")


def test_what_users_are_called_stays_text(page: Page, server: Usher) -> None:
    user = sign_up(server)
    assert user.call("PATCH", "/api/auth/me", {"name": SCRIPT}).status == 200
    assert user.post("/api/channels", {"name": SCRIPT}).status == 201
    go(page, "Rooms")
    expect(page.get_by_role("link", name=SCRIPT, exact=True)).to_have_count(2)  # and its owner
    find_user(page, SCRIPT)
    expect(page.get_by_role("heading", level=2, name=SCRIPT)).to_be_visible()
    page.get_by_role("button", name="Disable").click()
    confirm(page, f"Disable {SCRIPT}?", "Cancel")
    assert "pwned" not in page.title()
    assert page.locator("img[src=x]").count() == 0


def test_an_invitation_is_shown_once_used_and_revoked(
    page: Page, visitor: Visitor, server: Usher
) -> None:
    go(page, "Users")
    page.get_by_role("button", name="Invite").click()
    form = page.get_by_role("dialog", name="Invite somebody")
    form.get_by_label("E-mail address").fill("x")
    form.get_by_role("button", name="Make the link").click()
    expect(form.get_by_text("This does not look like an e-mail address.")).to_be_visible()
    form.get_by_label("E-mail address").fill(visitor.email)
    form.get_by_role("button", name="Make the link").click()
    shown = page.get_by_role("dialog", name="The invitation")
    link = shown.locator("code").inner_text()
    assert link.startswith(server.pages)
    shown.get_by_role("button", name="Done").click()
    page.get_by_role("link", name="Invitations").click()
    row = page.locator(".entries li", has_text=visitor.email)
    expect(row).to_have_count(1)
    row.get_by_role("button", name="Revoke").click()
    confirm(page, "Revoke this invitation?", "Revoke", "stops working at once")
    expect(row).to_have_count(0)


def test_an_account_is_opened_for_somebody_who_sets_the_password(
    page: Page, visitor: Visitor
) -> None:
    go(page, "Users")
    page.get_by_role("button", name="Open an account").click()
    form = page.get_by_role("dialog", name="Open an account")
    form.get_by_label("Name").fill("Grace Hopper")
    form.get_by_label("E-mail address").fill("x")
    form.get_by_role("button", name="Open the account").click()
    expect(form.get_by_text("This does not look like an e-mail address.")).to_be_visible()
    form.get_by_label("E-mail address").fill(visitor.email)
    form.get_by_role("button", name="Open the account").click()
    shown = page.get_by_role("dialog", name="The account of Grace Hopper")
    link = shown.locator("code").inner_text()
    shown.get_by_role("button", name="Done").click()
    expect(page.get_by_role("link", name="Grace Hopper")).to_be_visible()

    theirs = visitor.open(link)
    theirs.page.get_by_label("New password", exact=True).fill(PASSWORD)
    theirs.page.get_by_role("button", name="Set password").click()
    expect(theirs.at("#done")).to_be_visible()
    assert visitor.post("/api/auth/login", {"email": visitor.email, "password": PASSWORD}) == 200

    page.get_by_role("button", name="Open an account").click()
    form.get_by_label("Name").fill("Another")
    form.get_by_label("E-mail address").fill(visitor.email)
    form.get_by_role("button", name="Open the account").click()
    expect(form.get_by_role("alert")).not_to_be_empty()


@pytest.mark.slow
def test_users_have_their_names_where_they_own_and_do_things(page: Page, server: Usher) -> None:
    user = sign_up(server)
    assert user.call("PATCH", "/api/auth/me", {"name": "Radia Perlman"}).status == 200
    assert user.post("/api/channels", {"name": "Bridges"}).status == 201
    go(page, "Rooms")
    expect(page.locator("tr", has_text="Bridges")).to_contain_text("Radia Perlman")
    made = "SELECT id FROM audit_events WHERE kind = 'channel.created' AND actor = ?"
    wait_until(lambda: bool(written(server, made, user.user["id"])))  # in the background
    go(page, "Audit")
    expect(page.locator("tr", has_text="channel.created").first).to_contain_text("Radia Perlman")


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
