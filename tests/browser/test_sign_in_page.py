"""`/sign-in` in a real browser, for other apps and for native apps."""

from __future__ import annotations

import http.server
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import expect

from tests.support.accessibility import low_contrast, nameless, repeated_ids, spilled, too_small
from tests.support.browser import Tab, Visit, Visitor, credentials_of
from tests.support.checks import rows
from tests.support.native import App
from tests.support.practice_provider import STYLES, PracticeProvider, practice_provider
from tests.support.server import PASSWORD, Usher, sign_up, usher, wait_until

NAME = "The <b>Reading</b> Room"
LOGO = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 4 4"><script>window.top.ran = 1</script>'
    '<rect width="4" height="4" fill="#e4572e"/></svg>'
)


class Elsewhere:
    """A page of an allowed origin, and the port of a native app: it says what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if "favicon" not in self.path:
                    outer.asked.append(self.path)
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                self.wfile.write(b"<!doctype html><title>Elsewhere</title><p>here you are")

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def elsewhere_running() -> Iterator[Elsewhere]:
    running = Elsewhere()
    try:
        yield running
    finally:
        running.close()


@pytest.fixture(scope="module")
def shared_elsewhere() -> Iterator[Elsewhere]:
    with elsewhere_running() as running:
        yield running


@pytest.fixture(scope="module")
def practice() -> Iterator[PracticeProvider]:
    with practice_provider() as running:
        yield running


@pytest.fixture(scope="module")
def server(
    practice: PracticeProvider,
    shared_elsewhere: Elsewhere,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Usher]:
    """On SQLite only: the page asks for nothing that others do not ask for on both."""
    logo: Path = tmp_path_factory.mktemp("logo") / "logo.svg"
    logo.write_text(LOGO)
    with usher(
        "sqlite",
        OAUTH_PROVIDERS="practice",
        OAUTH_PRACTICE_ISSUER=practice.issuer,
        OAUTH_PRACTICE_CLIENT_ID="usher",
        OAUTH_PRACTICE_CLIENT_SECRET="a secret of the practice provider",
        ALLOWED_ORIGINS=shared_elsewhere.url,
        ACCESS_TOKEN_TTL_SECONDS=900,
        APP_NAME=NAME,
        APP_LOGO=logo,
        APP_ACCENT="#ffcc00",
    ) as running:
        sign_up(running)
        yield running


@pytest.fixture
def elsewhere(shared_elsewhere: Elsewhere) -> Elsewhere:
    shared_elsewhere.asked.clear()
    return shared_elsewhere


@pytest.fixture
def visitor(visit: Visit) -> Visitor:
    one = visit()
    one.context.route(STYLES, lambda route: route.fulfill(content_type="text/css", body=""))
    return one


@pytest.fixture
def app(server: Usher, elsewhere: Elsewhere) -> App:
    return App(server, f"{elsewhere.url}/callback")


def known(visitor: Visitor) -> Visitor:
    """With an account, and nobody signed in in this browser."""
    sign_up(visitor.server, email=visitor.email)
    return visitor


def consent(tab: Tab, sub: str) -> None:
    tab.page.get_by_placeholder("sub").fill(sub)
    tab.page.get_by_role("button", name="Authorize").click()


def at_the_app(tab: Tab, app: App, elsewhere: Elsewhere) -> dict[str, str]:
    """Wait until the browser has come to the app's port; returns what it brought."""
    tab.page.wait_for_url(f"{app.uri}?*")
    return app.said(elsewhere.url + elsewhere.asked[-1])


# ---- for other apps --------------------------------------------------------------------------


def test_it_ends_at_the_other_app_after_wrong_passwords_too(
    visitor: Visitor, elsewhere: Elsewhere
) -> None:
    tab = known(visitor).open(f"/sign-in?next={quote(elsewhere.url + '/board?a=1#top')}")
    expect(tab.at("#sign-in .goes-on")).to_have_text(f"to continue to 127.0.0.1:{elsewhere.port}")
    tab.sign_in(visitor.email, "not the password")
    expect(tab.at("#sign-in-form .form-error")).to_be_visible()
    assert elsewhere.asked == []
    tab.sign_in(visitor.email)
    tab.page.wait_for_url(f"{elsewhere.url}/board?a=1#top")
    assert credentials_of(visitor) == {"access_token", "refresh_token"}


@pytest.mark.slow
def test_it_ends_there_after_a_sign_up(visitor: Visitor, elsewhere: Elsewhere) -> None:
    tab = visitor.open(f"/sign-in?next={quote(elsewhere.url + '/new')}")
    tab.page.get_by_role("link", name="Create an account").click()
    tab.sign_up(visitor.email, "short")
    tab.sign_up(visitor.email, "password")
    expect(tab.at("#up-password-error")).to_be_visible()
    tab.sign_up(visitor.email)
    tab.page.wait_for_url(f"{elsewhere.url}/new")


@pytest.mark.slow
def test_it_ends_there_after_a_no_at_a_provider_and_a_second_thought(
    visitor: Visitor, elsewhere: Elsewhere
) -> None:
    target = f"{elsewhere.url}/board"
    tab = visitor.open(f"/sign-in?next={quote(target)}")
    way = tab.page.get_by_role("link", name="Continue with Practice")
    way.click()
    tab.page.get_by_role("button", name="Deny").click()
    tab.page.get_by_role("link", name="Back to sign in").click()
    expect(tab.at("#sign-in .goes-on")).to_be_visible()
    way.click()
    tab.page.get_by_role("button", name="Deny").click()
    tab.page.get_by_role("link", name="Try again").click()
    consent(tab, visitor.email)
    tab.page.wait_for_url(target)


@pytest.mark.slow
def test_a_signed_in_user_continues_at_once(visitor: Visitor, elsewhere: Elsewhere) -> None:
    visitor.arrive()
    tab = visitor.open(f"/sign-in?next={quote(elsewhere.url + '/board')}")
    assert tab.page.url == f"{elsewhere.url}/board"
    visitor.context.clear_cookies(name="access_token")
    tab = Tab(visitor.context.new_page())
    tab.page.goto(f"{visitor.server.url}/sign-in?next={quote(elsewhere.url + '/again')}")
    tab.page.wait_for_url(f"{elsewhere.url}/again")
    assert visitor.open("/sign-in").page.url == f"{visitor.server.url}/"


def test_a_return_url_of_another_site_leads_to_the_front_page(visitor: Visitor) -> None:
    tab = known(visitor).open("/sign-in?next=https://evil.example/")
    expect(tab.at("#sign-in")).to_be_visible()
    expect(tab.at(".goes-on")).to_have_count(0)
    tab.sign_in(visitor.email)
    tab.joined()
    assert tab.page.url == f"{visitor.server.url}/"


# ---- for native apps -------------------------------------------------------------------------


def test_a_password_on_the_page_ends_at_the_app(
    visitor: Visitor, app: App, elsewhere: Elsewhere
) -> None:
    tab = known(visitor).open(app.at("/sign-in"))
    asks = tab.at("#sign-in .asks")
    expect(asks).to_contain_text("A program on this computer")
    expect(asks).to_contain_text(f"127.0.0.1:{elsewhere.port}")
    tab.sign_in(visitor.email, "not the password")
    expect(tab.at("#sign-in-form .form-error")).to_be_visible()
    tab.sign_in(visitor.email)
    said = at_the_app(tab, app, elsewhere)
    came = app.exchange(said["code"])
    assert came.body["user"]["email"] == visitor.email


@pytest.mark.slow
def test_a_provider_on_the_page_ends_at_the_app(
    visitor: Visitor, app: App, elsewhere: Elsewhere
) -> None:
    tab = visitor.open(app.at("/sign-in"))
    tab.page.get_by_role("link", name="Continue with Practice").click()
    consent(tab, visitor.email)
    said = at_the_app(tab, app, elsewhere)
    assert app.exchange(said["code"]).body["user"]["email"] == visitor.email
    assert credentials_of(visitor) == set(), "the browser is not signed in"


@pytest.mark.slow
def test_a_sign_up_on_the_page_ends_at_the_app(
    visitor: Visitor, app: App, elsewhere: Elsewhere
) -> None:
    tab = visitor.open(app.at("/sign-in") + "#sign-up")
    expect(tab.at("#sign-up .asks")).to_be_visible()
    tab.sign_up(visitor.email)
    assert app.exchange(at_the_app(tab, app, elsewhere)["code"]).status == 200


@pytest.mark.slow
def test_a_denial_at_the_provider_is_reported_to_the_app(
    visitor: Visitor, app: App, elsewhere: Elsewhere
) -> None:
    tab = visitor.open(app.at("/oauth/practice/login"))
    tab.page.get_by_role("button", name="Deny").click()
    assert at_the_app(tab, app, elsewhere)["error"] == "access_denied"


def test_a_link_gives_nobodys_sign_in_away_silently(
    visitor: Visitor, app: App, elsewhere: Elsewhere
) -> None:
    visitor.arrive()
    tab = visitor.open(app.at("/sign-in"))
    expect(tab.at("#confirm-title")).to_be_focused()
    expect(tab.at("#confirm .asks")).to_contain_text(f"127.0.0.1:{elsewhere.port}")
    expect(tab.at("#confirm-name")).to_have_text("Ada")
    expect(tab.at("#confirm-email")).to_have_text(visitor.email)
    tab.page.reload()
    expect(tab.at("#confirm-go")).to_be_visible()
    assert elsewhere.asked == []
    count = (
        "SELECT count(*) FROM native_codes JOIN login_sessions ON login_sessions.id = session_id"
    )
    mine = f"{count} JOIN users ON users.id = user_id WHERE email = ?"
    assert rows(visitor.server, mine, visitor.email) == [(0,)]
    tab.at("#confirm-go").click()
    said = at_the_app(tab, app, elsewhere)
    assert app.exchange(said["code"]).body["user"]["email"] == visitor.email


@pytest.mark.slow
def test_a_denial_on_the_page_is_reported_to_the_app(
    visitor: Visitor, app: App, elsewhere: Elsewhere
) -> None:
    visitor.arrive()
    tab = visitor.open(app.at("/sign-in"))
    tab.page.get_by_role("link", name="Cancel").click()
    said = at_the_app(tab, app, elsewhere)
    assert said == {"error": "access_denied", "error_description": "cancelled"}


@pytest.mark.slow
def test_another_account_can_be_chosen(visitor: Visitor, app: App, elsewhere: Elsewhere) -> None:
    visitor.arrive()
    other = sign_up(visitor.server).user["email"]
    tab = visitor.open(app.at("/sign-in"))
    tab.at("#confirm-other").click()
    expect(tab.at("#sign-in-title")).to_be_focused()
    tab.sign_in(other)
    said = at_the_app(tab, app, elsewhere)
    assert app.exchange(said["code"]).body["user"]["email"] == other


@pytest.mark.slow
def test_a_user_who_was_signed_out_meanwhile_signs_in_again(
    visitor: Visitor, app: App, elsewhere: Elsewhere
) -> None:
    visitor.arrive()
    tab = visitor.open(app.at("/sign-in"))
    expect(tab.at("#confirm-go")).to_be_visible()
    assert visitor.post("/api/auth/logout") == 204
    tab.at("#confirm-go").click()
    expect(tab.at("#sign-in")).to_be_visible()
    tab.sign_in(visitor.email)
    assert "code" in at_the_app(tab, app, elsewhere)


@pytest.mark.slow
def test_it_works_with_the_keyboard_alone(visitor: Visitor, app: App, elsewhere: Elsewhere) -> None:
    tab = known(visitor).open(app.at("/sign-in"))
    expect(tab.at("#sign-in")).to_be_visible()
    tab.tab_to("#in-email")
    tab.page.keyboard.type(visitor.email)
    tab.tab_to("#in-password")
    tab.page.keyboard.type(PASSWORD)
    tab.press("Enter")
    assert "code" in at_the_app(tab, app, elsewhere)
    tab.page.goto(visitor.server.url + app.at("/sign-in"))
    expect(tab.at("#confirm-title")).to_be_focused()
    tab.tab_to("#confirm-go")
    tab.press("Enter")
    wait_until(lambda: tab.page.title() and len(elsewhere.asked) == 2)


def test_it_cannot_be_framed(visitor: Visitor, app: App, elsewhere: Elsewhere) -> None:
    visitor.arrive()
    visitor.expected = ["frame-ancestors", "X-Frame-Options"]
    tab = visitor.open(elsewhere.url)
    frame = "url => { document.body.innerHTML = `<iframe src='${url}'></iframe>` }"
    tab.page.evaluate(frame, visitor.server.url + app.at("/sign-in"))
    wait_until(lambda: tab.page.title() and any("frame-ancestors" in c for c in visitor.complaints))
    assert "/sign-in" not in tab.page.frames[-1].url


# ---- how it looks ----------------------------------------------------------------------------


def shown(visitor: Visitor, app: App, view: str) -> Tab:
    if view == "confirm":
        assert visitor.post("/api/auth/signup", signing_up(visitor)) == 201
    path = "/sign-in?next=/x" if view == "next" else app.at("/sign-in")
    tab = visitor.open("/oauth/nobody/login" if view == "refused" else path)
    page = tab.page
    if view == "sign-up":
        page.get_by_role("link", name="Create an account").click()
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    if view not in ("confirm", "refused"):
        expect(page.get_by_role("link", name="Continue with Practice")).to_be_visible()
    return tab


def signing_up(visitor: Visitor) -> dict[str, str]:
    return {"email": visitor.email, "password": PASSWORD, "name": "Ada " + "very " * 12}


@pytest.mark.slow
@pytest.mark.parametrize("view", ["next", "native", "sign-up", "confirm", "refused"])
def test_everybody_can_use_it(visitor: Visitor, app: App, view: str) -> None:
    tab = shown(visitor, app, view)
    for scheme in ("light", "dark"):
        tab.page.emulate_media(color_scheme=scheme)
        for width in (320, 390, 1280):
            tab.page.set_viewport_size({"width": width, "height": 800})
            page = tab.page
            found = low_contrast(page) + nameless(page) + too_small(page) + spilled(page)
            assert found + repeated_ids(page) == [], (scheme, width)


@pytest.mark.slow
def test_it_is_the_installations_own(visitor: Visitor) -> None:
    tab = visitor.open("/sign-in")
    expect(tab.at(".brand")).to_have_text(NAME)
    expect(tab.page).to_have_title(f"Sign in · {NAME}")
    loaded = "() => { const { naturalWidth, complete } = document.querySelector('.brand img');"
    wait_until(lambda: tab.page.evaluate(loaded + " return complete && naturalWidth > 0; }"))
    assert tab.page.evaluate("() => window.ran") is None
    colour = "el => getComputedStyle(el).backgroundColor"
    button = tab.at("#sign-in-form [type=submit]")
    wait_until(lambda: button.evaluate(colour) == "rgb(255, 204, 0)")


def test_a_logo_that_is_opened_by_itself_runs_no_script(visitor: Visitor) -> None:
    visitor.expected = [re.escape("Blocked script execution"), "sandbox", "Content Security Policy"]
    tab = visitor.open("/brand/logo")
    assert tab.page.evaluate("() => window.ran") is None
