"""On one kind of database: pages send what tests/http sends. A Chromium for each module, and people
at its server; a module whose server is special has a `server` of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.support.browser import Visit, Visitor, chromium, visitors
from tests.support.databases import kinds
from tests.support.server import Usher, sign_up

database_kind = kinds("sqlite")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def founder(server: Usher) -> None:
    """Somebody has an account, so that no visitor is the first."""
    sign_up(server)


@pytest.fixture
def visit(browser: Browser, server: Usher, founder: None) -> Iterator[Visit]:
    """Makes visitors of the server; each is somebody else."""
    with visitors(browser, server) as new:
        yield new


@pytest.fixture
def visitor(visit: Visit) -> Visitor:
    return visit()
