"""examples/board, started as docs/your-app.md says: with a browser, and without a user."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.browser import chromium
from tests.support.examples import running_example
from tests.support.server import PASSWORD, PATIENCE, address, free_port

PICTURE = os.environ.get("BOARD_PICTURE")
"""Where to put a picture of the page, for docs."""


@dataclass
class Board:
    """Where everything is, as run.py prints it."""

    page: str
    backend: str
    usher: str


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    with started(tmp_path_factory.mktemp("board") / "data") as found:
        yield found


@contextmanager
def started(folder: Path, *options: str) -> Iterator[Board]:
    """run.py, until what it starts is there."""
    ports = [str(free_port()) for _ in range(3)]
    chosen = ("--ports", *ports, "--data-dir", str(folder), *options)
    with running_example("examples/board/run.py", *chosen, ready="Open the page.") as said:
        reported = dict(line.split() for line in said if len(line.split()) == 2)
        yield Board(reported["Page"], reported["Backend"], reported["Usher"])


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


def post(board: Board, headers: dict[str, str]) -> tuple[int, Any]:
    body = json.dumps({"text": "hello"}).encode()
    request = urllib.request.Request(
        f"{board.backend}/posts", body, {"Content-Type": "application/json", **headers}
    )
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Bearer x"}, {"Cookie": "access_token=x"}]
)
def test_a_post_without_a_signed_in_user_is_401(board: Board, headers: dict[str, str]) -> None:
    assert post(board, headers)[0] == 401
    with urllib.request.urlopen(f"{board.backend}/posts", timeout=PATIENCE) as answer:
        assert [one["text"] for one in json.load(answer)["items"]].count("hello") == 0


def signed_up(browser: Browser, board: Board, name: str) -> Page:
    """Somebody new, by the sign-in page, from which they come back to the board."""
    page = browser.new_context(viewport={"width": 720, "height": 560}).new_page()
    page.goto(board.page)
    page.get_by_role("link", name="Sign in").click()
    page.get_by_role("link", name="Create an account").click()
    for field, text in (("name", name), ("email", address()), ("password", PASSWORD)):
        page.locator(f"#up-{field}").fill(text)
    page.locator("#sign-up-form [type=submit]").click()
    expect(page.locator("#who")).to_have_text(name)
    assert page.url == f"{board.page}/"
    expect(page.locator("body")).to_have_attribute("data-state", "joined")
    return page


def say(page: Page, text: str) -> None:
    page.locator("#text").fill(text)
    page.get_by_role("button", name="Post").click()


def test_what_one_posts_another_sees_live(board: Board, browser: Browser) -> None:
    ada, ben = signed_up(browser, board, "Ada"), signed_up(browser, board, "Ben")
    say(ada, "Tea at four?")
    expect(ben.locator("#posts li")).to_have_text(["AdaTea at four?"])
    say(ben, "<b>Yes</b>, please")
    expect(ada.locator("#posts li")).to_have_text(["Ben<b>Yes</b>, please", "AdaTea at four?"])
    expect(ada.locator("#count")).to_have_text("2 posts")
    if PICTURE:
        ada.screenshot(path=PICTURE)
    # Whoever signs out can neither post nor listen any more.
    ada.get_by_role("button", name="Sign out").click()
    expect(ada.get_by_role("link", name="Sign in")).to_be_visible()
    say(ben, "Ada?")
    expect(ben.locator("#posts li")).to_have_count(3)
    for person in (ada, ben):
        person.context.close()


def test_an_unauthenticated_user_reads_and_is_shown_where_to_sign_in(
    board: Board, browser: Browser
) -> None:
    page = browser.new_context().new_page()
    page.goto(board.page)
    expect(page.get_by_role("link", name="Sign in")).to_be_visible()
    expect(page.locator("#form")).to_be_hidden()
    page.context.close()


@pytest.mark.slow
def test_a_page_on_another_site_has_tokens_in_place_of_cookies(
    browser: Browser, tmp_path: Path
) -> None:
    with started(tmp_path / "data", "--another-site") as board:
        assert board.page.startswith("http://127.0.0.1:")
        page = browser.new_context().new_page()
        page.goto(board.page)
        page.locator("#email").fill(address())
        page.locator("#password").fill(PASSWORD)
        page.get_by_role("button", name="Sign up").click()
        expect(page.locator("body")).to_have_attribute("data-state", "joined")
        say(page, "From afar")
        expect(page.locator("#posts li")).to_have_count(1)
        # The tokens were in the page's memory, and no cookie of Usher's came to anybody.
        assert page.context.cookies() == []
        page.reload()
        expect(page.get_by_role("button", name="Sign up")).to_be_visible()
        expect(page.get_by_role("link", name="Sign in")).to_be_hidden()
        page.context.close()
