"""A real Chromium, driven by Playwright, as people use it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Locator,
    Page,
    WebError,
    WebSocket,
    expect,
    sync_playwright,
)

from tests.support.server import PASSWORD, PATIENCE, Usher, address, wait_until
from tests.support.tools import need

ARGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
NETWORK = re.compile(r"Failed to load resource: |WebSocket connection to ")
"""What Chromium itself says of a refused call, and no script can keep from the console."""
STEPS = 60


@contextmanager
def chromium() -> Iterator[Browser]:
    """The Chromium of this machine: the one without windows where it is installed.

    The same engine, at three fifths of the CPU time of the whole program.

    While it is open, Playwright's event loop counts as running in this thread, so asyncio cannot
    run another here: use it for one module of tests, not for the session.
    """
    program = need(
        "the browser tests need it (apt-get install chromium-headless-shell)",
        "chromium-headless-shell",
        "chromium",
        "chromium-browser",
        "google-chrome",
    )
    expect.set_options(timeout=PATIENCE * 1000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=ARGS)
        try:
            yield browser
        finally:
            browser.close()


def with_authenticator(context: BrowserContext) -> Page:
    """A page with a platform authenticator that verifies its user."""
    page = context.new_page()
    link = context.new_cdp_session(page)
    link.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
    }
    link.send("WebAuthn.addVirtualAuthenticator", {"options": options})
    return page


class Tab:
    """One open page, and what passed over its sockets."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.sockets: list[WebSocket] = []
        self.received: list[dict[str, Any]] = []
        self.sent: list[dict[str, Any]] = []
        page.on("websocket", self._watch)

    def _watch(self, socket: WebSocket) -> None:
        self.sockets.append(socket)
        socket.on("framereceived", lambda text: self.received.append(json.loads(text)))
        socket.on("framesent", lambda text: self.sent.append(json.loads(text)))

    def at(self, selector: str, text: str | None = None) -> Locator:
        """The element, or those of them with this text in it."""
        return self.page.locator(selector, has_text=text)

    def joined(self) -> Tab:
        """Wait until its socket is joined."""
        expect(self.at("#state")).to_have_attribute("data-state", "joined")
        return self

    @property
    def session_id(self) -> str:
        """The session of the socket, as the page received it."""
        self.joined()
        wait_until(lambda: self.page.title() and self.events("joined"))
        return str(self.events("joined")[-1]["session_id"])

    def area(self, title: str) -> Tab:
        """Go to an area of the page, by its link."""
        self.at("#areas").get_by_role("link", name=title, exact=True).click()
        expect(self.page.get_by_role("heading", level=1, name=title, exact=True)).to_be_visible()
        return self

    def toggle_socket(self) -> None:
        """Disconnect or connect, in the console."""
        self.area("Console").at("#toggle-socket").click()

    def events(self, name: str) -> list[Any]:
        """The data of each event of this name that came in."""
        return [frame["data"] for frame in self.received if frame["event"] == name]

    def fill(self, **fields: str) -> None:
        """Type into fields, by their ids (`_` for `-`)."""
        for name, text in fields.items():
            self.at(f"#{name.replace('_', '-')}").fill(text)

    def sign_up(self, email: str, password: str = PASSWORD) -> None:
        self.fill(up_name="Ada", up_email=email, up_password=password)
        self.at("#sign-up-form [type=submit]").click()

    def sign_in(self, email: str, password: str = PASSWORD) -> None:
        self.fill(in_email=email, in_password=password)
        self.at("#sign-in-form [type=submit]").click()

    def send(self, event: str, data: str = "") -> None:
        """Send an event with the composer of the console."""
        self.area("Console")
        self.fill(event=event, data=data)
        self.at("#composer [type=submit]").click()

    # ---- the keyboard ----------------------------------------------------------------------

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def tab_to(self, selector: str) -> None:
        """Press Tab until this has the focus; each stop on the way must show where it is."""
        for _ in range(STEPS):
            self.press("Tab")
            stop = self.page.evaluate(FOCUS, selector)
            assert stop["shown"], f"no visible focus on {stop['what']}"
            if stop["there"]:
                return
        raise AssertionError(f"Tab never comes to {selector}")


FOCUS = """(selector) => {
  const element = document.activeElement;
  const { outlineStyle, outlineWidth } = getComputedStyle(element);
  const box = element.getBoundingClientRect();
  return {
    what: element.outerHTML.slice(0, 120),
    there: element.matches(selector),
    shown: element === document.body || (outlineStyle !== 'none' && parseFloat(outlineWidth) >= 2
      && box.width > 0 && box.top >= 0 && box.top < innerHeight),
  };
}"""


class Visitor:
    """A person with a browser profile of their own. What its pages complain of is kept."""

    def __init__(self, browser: Browser, server: Usher) -> None:
        self.server = server
        self.email = address()
        self.beside = ExitStack()
        """What stays open until the visitor leaves."""
        self.complaints: list[str] = []
        """Errors and warnings of the console, and exceptions that nobody caught."""
        self.expected: list[str] = []
        """Complaints with one of these in them are part of the test."""
        self.context: BrowserContext = browser.new_context(locale="en-GB")
        self.context.set_default_timeout(PATIENCE * 1000)
        self.context.on("console", self._console)
        self.context.on("weberror", self._web_error)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            where = message.location["url"].partition("?")[0]
            self.complaints.append(f"{message.text} @ {where}")

    def _web_error(self, error: WebError) -> None:
        self.complaints.append(f"not caught: {error.error}")

    def open(self, path: str = "/") -> Tab:
        """A new tab on the server's page, or on any address."""
        tab = Tab(self.context.new_page())
        tab.page.goto(path if path.startswith("http") else self.server.url + path)
        return tab

    def post(self, path: str, body: dict[str, Any] | None = None) -> int:
        """Call the API with this profile's cookies, beside the page; returns the status."""
        answer = self.context.request.post(
            self.server.url + path, data=body or {}, headers={"Origin": self.server.origin}
        )
        return answer.status

    def arrive(self, path: str = "/") -> Tab:
        """A new account, signed in, with the page open and its socket joined."""
        body = {"email": self.email, "password": PASSWORD, "name": "Ada"}
        assert self.post("/api/auth/signup", body) == 201
        return self.open(path).joined()

    def arrive_as(self, email: str) -> Tab:
        """Another login session of an account."""
        assert self.post("/api/auth/login", {"email": email, "password": PASSWORD}) == 200
        return self.open().joined()

    def close(self) -> None:
        """Leave. The pages must not have complained of anything but refused calls."""
        self.context.close()
        self.beside.close()
        expected = [re.escape(text) for text in self.expected]
        known = re.compile("|".join([NETWORK.pattern, *expected]))
        unknown = [text for text in self.complaints if not known.search(text)]
        assert unknown == []


@contextmanager
def pressing(target: Locator) -> Iterator[None]:
    """The mouse goes down on something, and up again when what is done meanwhile is seen."""
    target.hover()
    target.page.mouse.down()
    yield
    target.page.mouse.up()


Visit = Callable[..., Visitor]
"""Makes a visitor; see `visitors`."""


def credentials_of(visitor: Visitor) -> set[str]:
    """Names of the cookies that sign somebody in. `device` stays: it only knows the device."""
    return {cookie["name"] for cookie in visitor.context.cookies()} - {"device"}


@contextmanager
def visitors(browser: Browser, server: Usher) -> Iterator[Callable[..., Visitor]]:
    """Makes visitors, of this server or of another one that is named; each is somebody else, and
    all have left without complaint at the end."""
    with ExitStack() as guests:

        def new(of: Usher = server) -> Visitor:
            return guests.enter_context(closing(Visitor(browser, of)))

        yield new
