"""Every state of the page, as axe-core sees it (WCAG 2.2 AA), light and dark, wide and narrow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.states import EMPTY, LOOK
from tests.browser.states_rooms import STATES
from tests.support.accessibility import cut_off, low_contrast, nameless, repeated_ids, spilled
from tests.support.browser import Visitor, visitors
from tests.support.npm import npm_packages
from tests.support.server import Usher, sign_up, usher
from tests.support.tools import first_of

TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
RUN = """async (tags) => (await axe.run(document, { runOnly: tags })).violations.map(
  ({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 160)).join(' | ')}`)"""


@pytest.fixture(scope="module")
def axe() -> Iterator[str]:
    with npm_packages("axe-core") as folder:
        yield (folder / "node_modules/axe-core/axe.min.js").read_text()


@pytest.fixture(scope="module")
def server() -> Iterator[Usher]:
    with usher("sqlite", **LOOK) as running:
        sign_up(running)
        yield running


@pytest.fixture
def visitor(request: pytest.FixtureRequest, browser: Browser, server: Usher) -> Iterator[Visitor]:
    with ExitStack() as stack:
        name = request.getfixturevalue("name")
        shown = stack.enter_context(usher("sqlite")) if name in EMPTY else server
        yield stack.enter_context(visitors(browser, shown))()


def found_by_axe(page: Page, axe: str) -> list[str]:
    page.evaluate(axe)  # not a script of the page: its policy does not meet it
    return list(page.evaluate(RUN, TAGS))


def looked_at(page: Page, axe: str, scheme: Literal["light", "dark"], width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme=scheme)
    assert found_by_axe(page, axe) == []
    assert low_contrast(page) == []
    assert spilled(page) == []


# Most are left to `make test-slow`: each costs a second of CPU time.
EVERY_TENTH_FIRST = sorted(sorted(STATES), key=lambda name: sorted(STATES).index(name) % 10 > 0)


@pytest.mark.parametrize("name", first_of(EVERY_TENTH_FIRST, len(STATES) // 10))
def test_a_state_can_be_used_by_everybody(name: str, visitor: Visitor, axe: str) -> None:
    page = STATES[name](visitor).page
    looked_at(page, axe, "light", 1280)
    looked_at(page, axe, "dark", 360)
    assert cut_off(page) == []
    page.set_viewport_size({"width": 320, "height": 640})
    assert spilled(page) == []
    assert cut_off(page) == []
    assert nameless(page) == []
    assert repeated_ids(page) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(STATES))
def test_a_state_can_be_used_in_the_other_looks_too(name: str, visitor: Visitor, axe: str) -> None:
    page = STATES[name](visitor).page
    looked_at(page, axe, "dark", 1280)
    looked_at(page, axe, "light", 360)


def test_axe_sees_a_page_that_is_wrong(browser: Browser, axe: str) -> None:
    page = browser.new_page()
    page.set_content("<html><body><main><img src=x><button></button></main></body></html>")
    found = " ".join(found_by_axe(page, axe))
    page.close()
    assert "image-alt" in found
    assert "button-name" in found
