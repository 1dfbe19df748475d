"""The pages below a path of their host, behind nginx: one installation whose path it keeps, and one
whose path it strips, in one browser profile."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import quote, urlsplit

import pytest
from playwright.sync_api import Browser, Response, expect

from tests.support.browser import Tab, Visitor, visitors, with_authenticator
from tests.support.databases import kinds
from tests.support.path_prefix import (
    KEPT,
    PATHS,
    STRIPPED,
    Below,
    Installations,
    front,
    two_installations,
)
from tests.support.server import Client, log_in, wait_until

database_kind = kinds("sqlite")


@pytest.fixture(scope="module")
def host(database_kind: str) -> Iterator[Installations]:
    hasty = {"ACCESS_TOKEN_TTL_SECONDS": 4}
    with two_installations(database_kind, **hasty) as running, front("nginx", running):
        yield running


@pytest.fixture
def visitor(browser: Browser, host: Installations) -> Iterator[Visitor]:
    """Somebody whose pages load nothing from elsewhere, and miss nothing."""
    wrong: list[str] = []

    def look(answer: Response) -> None:
        path = urlsplit(answer.url).path
        if answer.status == 404 or not path.startswith(tuple(f"{path}/" for path in PATHS)):
            wrong.append(f"{answer.status} {path}")

    with visitors(browser, Below(host.url).as_server) as new:
        somebody = new()
        somebody.context.on("response", look)
        yield somebody
    assert wrong == []


def signed_up(visitor: Visitor, path: str) -> Tab:
    tab = visitor.open(f"{path}/")
    tab.page.get_by_role("link", name="Create an account").click()
    tab.sign_up(visitor.email)
    return tab.joined()


def signed_out(tab: Tab) -> None:
    """Sign out, and wait for the answer: whoever goes on at once is still signed in."""
    tab.at("#sign-out").click()
    expect(tab.at("#sign-in")).to_be_visible()


@pytest.mark.parametrize("path", PATHS)
def test_a_newcomer_signs_up_joins_and_signs_out_below_the_path(
    visitor: Visitor, host: Installations, path: str
) -> None:
    tab = signed_up(visitor, path)
    assert {urlsplit(line.url).path for line in tab.sockets} == {f"{path}/ws"}
    for area in ("Rooms", "Console", "Account"):
        tab.area(area)
    assert urlsplit(tab.page.url).path == f"{path}/"
    tab.page.reload()
    tab.joined()
    expect(tab.at("#account-name")).to_have_text("Ada")
    signed_out(tab)
    expect(tab.at("#notice-title")).to_be_visible()
    tab.page.reload()
    expect(tab.at("#sign-in")).to_be_visible()
    tab.sign_in(visitor.email)
    tab.joined()


@pytest.mark.slow
@pytest.mark.parametrize("path", [KEPT])
def test_who_is_signed_out_by_an_administrator_sees_it_at_once(
    visitor: Visitor, host: Installations, path: str
) -> None:
    tab = signed_up(visitor, path)
    known = host.founders[path]

    def is_cut() -> bool:
        founder = log_in(known.server, known.user["email"])
        found = founder.get(f"/api/admin/users?email={quote(visitor.email)}")
        if found.status != 200:  # on a busy machine its token has ended by now
            return False
        [user] = found.body["items"]
        return founder.post(f"/api/admin/users/{user['id']}/disconnect").status == 204

    wait_until(is_cut)
    expect(tab.at("#notice-title")).to_be_visible()
    expect(tab.at("#sign-in")).to_be_visible()


@pytest.mark.parametrize("path", [KEPT])
def test_an_access_token_that_ends_is_renewed(visitor: Visitor, path: str) -> None:
    tab = signed_up(visitor, path)
    wait_until(lambda: tab.page.title() and tab.events("token-expiring"))
    cookie = f"{path[1:]}.access_token"

    def token() -> str:
        found = {each["name"]: each["value"] for each in visitor.context.cookies()}
        return found.get(cookie, "")

    first = token()
    wait_until(lambda: tab.page.title() and token() not in ("", first))
    tab.joined()
    assert {urlsplit(line.url).path for line in tab.sockets} == {f"{path}/ws"}


@pytest.mark.slow
def test_two_installations_in_one_browser_leave_each_other_alone(visitor: Visitor) -> None:
    tabs = {path: signed_up(visitor, path) for path in PATHS}
    for tab in tabs.values():
        tab.page.reload()
        tab.joined()
    signed_out(tabs[KEPT])
    wait_until(lambda: tabs[STRIPPED].page.title() and tabs[STRIPPED].events("token-expiring"))
    tabs[STRIPPED].page.reload()
    tabs[STRIPPED].joined()
    expect(tabs[STRIPPED].at("#account-name")).to_have_text("Ada")


@pytest.mark.slow
@pytest.mark.parametrize("path", [KEPT])
def test_the_sign_in_page_leads_back_to_where_somebody_came_from(
    visitor: Visitor, host: Installations, path: str
) -> None:
    signed_out(signed_up(visitor, path))
    back = f"{path}/docs"
    tab = visitor.open(f"{path}/sign-in?next={quote(back)}")
    tab.sign_in(visitor.email)
    expect(tab.page).to_have_url(host.url + back)
    tab = visitor.open(f"{path}/sign-in")
    expect(tab.page).to_have_url(f"{host.url}{path}/")
    tab.joined()


@pytest.mark.slow
def test_a_passkey_signs_in(visitor: Visitor, host: Installations) -> None:
    tab = Tab(with_authenticator(visitor.context))
    tab.page.goto(f"{host.url}{KEPT}/#sign-up")
    tab.sign_up(visitor.email)
    tab.joined().at("#add-passkey").click()
    expect(tab.at("#passkeys li")).to_have_count(1)
    signed_out(tab)
    tab.page.goto(f"{host.url}{KEPT}/sign-in?next={quote(f'{KEPT}/docs')}")
    tab.at("#passkey-sign-in").click()
    expect(tab.page).to_have_url(f"{host.url}{KEPT}/docs")


@pytest.mark.slow
@pytest.mark.parametrize("path", [KEPT])
def test_links_to_other_pages_lead_below_the_path(visitor: Visitor, path: str) -> None:
    tab = visitor.open(f"{path}/")
    tab.page.get_by_role("link", name="Forgotten password?").click()
    expect(tab.at("#ask-title")).to_have_text("Forgotten password")
    tab.fill(email=visitor.email)
    tab.at("#ask-form [type=submit]").click()
    expect(tab.at("#sent")).to_be_visible()
    tab.page.get_by_role("link", name=re.compile("sign in", re.IGNORECASE)).first.click()
    expect(tab.at("#sign-in")).to_be_visible()
    tab = visitor.open(f"{path}/docs")
    tab.at(".brand").click()
    expect(tab.at("#sign-in")).to_be_visible()


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS)
def test_connect_your_app_shows_the_whole_url(
    visitor: Visitor, host: Installations, path: str
) -> None:
    founder = host.founders[path]
    visitor.server = Below(host.url + path).as_server
    tab = visitor.arrive_as(founder.user["email"])
    tab.page.goto(f"{host.url}{path}/#/admin/connect/browser")
    snippet = tab.at("#admin-file pre").first
    expect(snippet).to_contain_text(
        f"import {{ createUsher }} from '{host.url}{path}/client/usher.js'"
    )
    expect(snippet).to_contain_text(f"createUsher({{ url: '{host.url}{path}' }})")
    tab.page.get_by_role("tab", name="nginx").click()
    passed = "/" if path == STRIPPED else f"{path}/"
    expect(snippet).to_contain_text(f"proxy_pass http://usher{passed}api/auth/verify;")
    expect(snippet).to_contain_text(f"location {path}/ {{")
    assert Client(Below(host.url + path).as_server).get("/client/usher.js").status == 200
