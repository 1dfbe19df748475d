"""What a page of another site can do with the cookies of a user: nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.browser import Tab, Visitor
from tests.support.foreign_site import foreign_site
from tests.support.server import wait_until

OPEN_SOCKET = """(url) => new Promise((resolve) => {
  const socket = new WebSocket(url);
  socket.onmessage = ({ data }) => { socket.close(); resolve(JSON.parse(data).event); };
  socket.onclose = ({ code }) => resolve(code);
})"""
CALL = """([url, options]) => fetch(url, { credentials: 'include', ...options })
  .then(async (answer) => [answer.status, await answer.text()], (error) => error.name)"""


@pytest.fixture
def foreign() -> Iterator[str]:
    with foreign_site() as url:
        yield url


def test_a_foreign_page_cannot_open_a_socket_with_the_users_cookies(
    visitor: Visitor, foreign: str
) -> None:
    server = visitor.server
    own = visitor.arrive()
    assert own.page.evaluate(OPEN_SOCKET, server.ws) == "joined", "the cookies would do"
    tab = visitor.open(foreign)
    assert tab.page.evaluate(OPEN_SOCKET, server.ws) == 1006
    wait_until(lambda: tab.page.title() and visitor.complaints)
    assert "Unexpected response code: 403" in visitor.complaints[-1]


def test_a_foreign_page_cannot_use_up_a_ticket(visitor: Visitor, foreign: str) -> None:
    own = visitor.arrive()
    answer = visitor.context.request.post(
        f"{visitor.server.url}/api/ws/ticket", headers={"Origin": visitor.server.url}
    )
    url = f"{visitor.server.ws}?ticket={answer.json()['ticket']}"
    assert visitor.open(foreign).page.evaluate(OPEN_SOCKET, url) == 1006
    assert own.page.evaluate(OPEN_SOCKET, url) == "joined"


class Wire:
    """What went over the wire for a page, which its own scripts may not see."""

    def __init__(self, visitor: Visitor, tab: Tab) -> None:
        self.statuses: list[int] = []
        self.cookies: list[set[str]] = []
        self._tab = tab
        link = visitor.context.new_cdp_session(tab.page)
        link.on("Network.requestWillBeSentExtraInfo", self._asked)
        link.on("Network.responseReceivedExtraInfo", self._answered)
        link.send("Network.enable")

    def _asked(self, event: dict[str, Any]) -> None:
        kept = [c["cookie"]["name"] for c in event["associatedCookies"] if not c["blockedReasons"]]
        self.cookies.append(set(kept))

    def _answered(self, event: dict[str, Any]) -> None:
        self.statuses.append(event["statusCode"])

    def call(self, url: str, **options: Any) -> tuple[Any, int, set[str]]:
        """One `fetch`: what the page sees, the real status, and the cookies that went along."""
        count = len(self.statuses) + 1
        seen = self._tab.page.evaluate(CALL, [url, options])
        wait_until(lambda: self._tab.page.title() and len(self.statuses) == count)
        return seen, self.statuses[-1], self.cookies[-1]


def test_a_foreign_page_can_neither_read_the_api_nor_change_anything(
    visitor: Visitor, foreign: str
) -> None:
    api = f"{visitor.server.url}/api"
    own = visitor.arrive()
    visitor.expected = ["has been blocked by CORS policy"]
    wire = Wire(visitor, visitor.open(foreign))
    for mode in ("cors", "no-cors"):
        seen, status, cookies = wire.call(f"{api}/auth/me", mode=mode)
        assert (seen, status) == ("TypeError", 200), "the answer is not kept from the page"
        assert cookies >= {"access_token"}, "the check is worth nothing"
    for path in ("/auth/logout", "/auth/login", "/auth/signup", "/auth/refresh", "/ws/ticket"):
        called = wire.call(f"{api}{path}", method="POST", mode="no-cors", body="{}")
        assert called[:2] == ("TypeError", 403), path
    assert wire.call(f"{api}/sessions", method="DELETE")[0] == "TypeError"
    assert own.page.evaluate(CALL, [f"{api}/auth/me", {}])[0] == 200
    assert own.events("closing") == []
    own.joined()


def test_a_form_of_a_foreign_page_cannot_sign_a_user_out(visitor: Visitor, foreign: str) -> None:
    own = visitor.arrive()
    page = visitor.open(foreign).page
    with page.expect_response("**/api/auth/logout") as answer:
        page.evaluate(
            """(url) => {
              const form = document.createElement('form');
              Object.assign(form, { action: url, method: 'post' });
              document.body.append(form);
              form.submit();
            }""",
            f"{visitor.server.url}/api/auth/logout",
        )
    assert answer.value.status == 403
    assert "access_token" in answer.value.request.all_headers()["cookie"]
    own.page.reload()
    own.joined()


def test_a_foreign_page_cannot_frame_the_page(visitor: Visitor, foreign: str) -> None:
    visitor.arrive()
    visitor.expected = ["frame-ancestors", "X-Frame-Options", "chrome-error://"]
    tab = visitor.open(foreign)
    tab.page.evaluate(
        """(url) => new Promise((resolve) => {
          const frame = document.createElement('iframe');
          frame.onload = resolve;
          frame.src = url;
          document.body.append(frame);
        })""",
        visitor.server.url,
    )
    wait_until(lambda: tab.page.title() and any("frame-ancestors" in c for c in visitor.complaints))
    assert tab.page.frames[1].url.startswith("chrome-error:")
