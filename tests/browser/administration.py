"""An administrator at the pages of administration, and the users whom it finds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.browser import Visitor, visitors
from tests.support.provider import provider
from tests.support.server import Usher, usher
from tests.support.sign_in import settings_for

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
