"""static/usher.js in a real browser: several tabs, wrong clocks, pages of other origins."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, Route, expect

from tests.support.browser import Tab, Visit, Visitor, visitors
from tests.support.foreign_site import foreign_site
from tests.support.nodes import channel, let_in, put_out
from tests.support.server import address, sign_up, usher, wait_until
from tests.support.tools import first_of

REFRESH = "/api/auth/refresh"
HOLD = """() => new Promise((held) => {
  navigator.locks.request('usher-refresh', () => new Promise((release) => {
    globalThis.release = release;
    held();
  }));
})"""
"""Takes the lock of renewals, and keeps it."""
RENEW = """async (timeoutMs) => {
  const { UsherClient } = await import('/static/usher.js');
  globalThis.renewal = new UsherClient({ timeoutMs }).refresh();
  globalThis.renewal.catch(() => {});
}"""
SHORT_WAIT = """(timeoutMs) => {
  const timeout = AbortSignal.timeout.bind(AbortSignal);
  let first = true;
  AbortSignal.timeout = (ms) => {
    if (ms !== timeoutMs || !first) return timeout(ms);
    first = false;
    return timeout(300);
  };
}"""
"""A renewal soon stops waiting for the lock; the call that follows has all of its time."""
OUTCOME = "() => globalThis.renewal.then(() => 'renewed', ({ code, name }) => code ?? name)"
WAITERS = """async () => (await navigator.locks.query()).pending
  .filter(({ name }) => name === 'usher-refresh').length"""


def refreshes(visitor: Visitor) -> list[str]:
    """The renewals of all tabs, from now on."""
    seen: list[str] = []
    visitor.context.on(
        "request", lambda asked: seen.append(asked.url) if asked.url.endswith(REFRESH) else None
    )
    return seen


def test_a_lock_that_is_never_released_stops_no_refresh(visitor: Visitor) -> None:
    frozen = visitor.arrive()
    frozen.page.evaluate(HOLD)
    for _ in range(2):
        tab = visitor.open()
        tab.page.evaluate(SHORT_WAIT, 60_001)
        tab.page.evaluate(RENEW, 60_001)
        assert tab.page.evaluate(OUTCOME) == "renewed"


def test_tabs_that_wait_for_each_other_renew_once(visitor: Visitor) -> None:
    holder = visitor.arrive()
    holder.page.evaluate(HOLD)
    tabs = [visitor.open(), visitor.open()]
    seen = refreshes(visitor)
    for tab in tabs:
        tab.page.evaluate(RENEW, 60_000)
    wait_until(lambda: holder.page.evaluate(WAITERS) == 2)
    holder.page.evaluate("globalThis.release()")
    assert [tab.page.evaluate(OUTCOME) for tab in tabs] == ["renewed", "renewed"]
    assert len(seen) == 1


@pytest.mark.parametrize("hours", first_of([1, -1], 1))
def test_a_clock_that_was_wrong_once_stops_no_renewal(visitor: Visitor, hours: int) -> None:
    tab = visitor.arrive()
    tab.page.evaluate(
        """(hours) => {
          globalThis.right = Date.now;
          Date.now = () => globalThis.right() + hours * 3_600_000;
        }""",
        hours,
    )
    tab.page.evaluate(RENEW, 10_000)
    assert tab.page.evaluate(OUTCOME) == "renewed"
    tab.page.evaluate("() => { Date.now = globalThis.right; }")  # somebody sets it right
    seen = refreshes(visitor)
    for expected in (1, 2):
        tab.page.evaluate(RENEW, 10_000)
        assert tab.page.evaluate(OUTCOME) == "renewed"
        assert len(seen) == expected


@pytest.mark.slow
def test_the_page_shows_added_and_removed_rooms(visit: Visit) -> None:
    visitor = visit()
    ann, bob = sign_up(visitor.server), sign_up(visitor.server, email=(email := address()))
    tab = visitor.arrive_as(email).area("Console")
    rooms = tab.at("#fact-rooms")
    expect(rooms).to_have_text(f"user:{bob.user['id']}")
    room = channel(ann)
    let_in(ann, room, bob)
    expect(rooms).to_contain_text(room)
    put_out(ann, room, bob)
    expect(rooms).not_to_contain_text(room)


@pytest.mark.slow
def test_a_page_of_an_allowed_origin_reads_how_long_to_wait(
    browser: Browser, database_kind: str
) -> None:
    with foreign_site() as page, usher(database_kind, ALLOWED_ORIGINS=page) as server:

        def busy(route: Route) -> None:
            answer = route.fetch()
            route.fulfill(
                response=answer, status=503, headers={**answer.headers, "retry-after": "7"}
            )

        with visitors(browser, server) as new:
            visitor = new()
            visitor.context.route("**/api/ws/ticket", busy)
            tab: Tab = visitor.open(page)
            found = tab.page.evaluate(
                """async (url) => (await fetch(url, { method: 'POST', credentials: 'include' }))
                .headers.get('Retry-After')""",
                f"{server.url}/api/ws/ticket",
            )
            assert found == "7"
