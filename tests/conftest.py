"""What every test has: an event loop of its own, closed behind it; and what many share.

pytest-tornado 0.8 makes its loop with `IOLoop.make_current`, which Tornado 6.2 deprecated and
which leaves asyncio's own loop unset. This fixture replaces it, on uvloop where that installs,
as the server does.
"""

from __future__ import annotations

import asyncio
import functools
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from tornado.ioloop import IOLoop
from xdist.scheduler import LoadFileScheduling

from services.event_loop.tasks import end_tasks
from tests.support.databases import (
    KINDS,
    bring_up,
    copied_database,
    empty_database,
    postgres_template,
)
from tests.support.event_loops import close_loop
from tests.support.left_out import (
    pytest_deselected,
    pytest_sessionfinish,
    pytest_terminal_summary,
    pytest_testnodedown,
)
from tests.support.postgres import postgres_server
from tests.support.server import TORNADO, Usher, usher

__all__ = [
    "pytest_deselected",
    "pytest_sessionfinish",
    "pytest_terminal_summary",
    "pytest_testnodedown",
]

try:
    import uvloop
except ImportError:
    new_event_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
else:
    new_event_loop = uvloop.new_event_loop

LONG = (
    "test_socket_identity",
    "test_proxies_in_front",
    "test_refresh_failures",
    "test_server",
    "test_server_stop",
    "test_channel_calls",
    "test_nodes_flow",
    "test_flows",
    "test_signing_in",
    "test_browser_socket",
    "test_accounts",
    "test_giving_back",
    "test_admin_page",
    "test_login_sessions",
    "test_logout",
    "test_token_endpoint",
    "test_browser",
    "test_refresh",
    "test_contract_js",
    "test_room_history",
    "test_foreign_clients",
    "test_kept_valid",
    "test_oidc",
    "test_contract_python",
    "test_id_tokens",
    "test_socket_end",
    "test_admin",
    "test_admin_users_page",
    "test_unjoined",
    "test_postgresql",
    "test_step_up",
    "test_who_calls_nodes",
    "test_password_links",
    "test_passkeys",
    "test_who_calls",
)
"""Files that take long, the longest first."""
MAX_WORKERS = 12
"""Each has a PostgreSQL and servers of its own: 0.5 GB."""
SLOW_SECONDS = 300
"""Bounds a test that is slow on purpose; the others have pyproject.toml's."""
ON_POSTGRESQL = re.compile(r"[\[-]postgresql[]-]")

# A shared, slow machine must not fail a property for its speed; pytest-timeout is the bound.
settings.register_profile("usher", deadline=None, max_examples=60)
settings.load_profile("usher")


@pytest.fixture
def io_loop() -> Iterator[IOLoop]:
    """A running-capable loop, current for this test only; tasks left over are cancelled."""
    loop = new_event_loop()
    asyncio.set_event_loop(loop)
    io_loop = IOLoop(asyncio_loop=loop, make_current=False)
    try:
        yield io_loop
    finally:
        _cancel_tasks(loop)
        asyncio.set_event_loop(None)
        close_loop(io_loop)


def _cancel_tasks(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_until_complete(end_tasks(*asyncio.all_tasks(loop)))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())


# ---- which worker runs what ----------------------------------------------------------------


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """`-n auto`. Most tests wait for servers, so that two workers per core keep the cores busy."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return min(2 * cores, MAX_WORKERS)


class ByFileAndKind(LoadFileScheduling):  # type: ignore[misc]  # xdist has no stubs
    """`--dist loadfile` in halves: a file's tests on PostgreSQL may run beside the others."""

    def _split_scope(self, nodeid: str) -> str:
        file, _, name = nodeid.partition("::")
        return f"{file} on postgresql" if ON_POSTGRESQL.search(name) else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling | None:
    if config.getoption("dist") != "loadfile":
        return None
    config.option.loadscopereorder = False  # it would leave a file of one long test to the end
    return ByFileAndKind(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long comes first: no worker is left alone with it in the end."""
    order = {stem: place for place, stem in enumerate(LONG)}
    items.sort(key=lambda item: order.get(item.path.stem, len(LONG)))
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_SECONDS))


# ---- databases: tests/support/databases.py says which fixture is for what --------------------


@pytest.fixture(scope="session", params=KINDS)
def database_kind(request: pytest.FixtureRequest) -> str:
    """The kind of database that the test runs on."""
    return str(request.param)


@pytest.fixture(scope="session", params=("sqlite", TORNADO))
def socket_kind(request: pytest.FixtureRequest) -> str:
    """How a server of a test about sockets serves them: itself, or through Tornado's handler.

    What it asks the database has tests on both kinds in tests/sessions and tests/rooms.
    """
    return str(request.param)


@pytest.fixture
def bare_database_url(database_kind: str, tmp_path: Path) -> Iterator[str]:
    """A database of the test's own in which there is nothing at all."""
    with empty_database(database_kind, tmp_path) as url:
        yield url


@pytest.fixture(scope="session")
def up_to_date(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """The URL of a database, per kind, with today's tables and no row in them."""
    with ExitStack() as stack:

        @functools.cache
        def made(kind: str) -> str:
            if kind == "postgresql":
                return postgres_server().url(postgres_template())
            url = stack.enter_context(empty_database(kind, tmp_path_factory.mktemp(kind)))
            bring_up(url)
            return url

        yield made


@pytest.fixture
def database_url(
    database_kind: str, up_to_date: Callable[[str], str], tmp_path: Path
) -> Iterator[str]:
    """A database of the test's own, without a row: a copy, which is quicker than to make it."""
    with copied_database(up_to_date(database_kind), tmp_path) as url:
        yield url


@pytest.fixture(scope="session")
def servers() -> Iterator[Callable[[str], Usher]]:
    """The servers behind `server`. Both stay: a worker changes between the kinds file by file."""
    with ExitStack() as stack:
        yield functools.cache(lambda kind: stack.enter_context(usher(kind)))


@pytest.fixture(scope="module")  # of a session it would stay that of the first kind
def server(database_kind: str, servers: Callable[[str], Usher]) -> Usher:
    """One Usher on its defaults for all tests of a worker that need nothing special of it."""
    return servers(database_kind)
