"""What every test has: an event loop of its own, closed behind it; and what many share.

pytest-tornado 0.8 makes its loop with `IOLoop.make_current`, which Tornado 6.2 deprecated and
which leaves asyncio's own loop unset. This fixture replaces it, on uvloop where that installs,
as the server does.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import settings
from tornado.ioloop import IOLoop

from tests.support.databases import KINDS, empty_database
from tests.support.server import Usher, usher

try:
    import uvloop
except ImportError:
    new_event_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
else:
    new_event_loop = uvloop.new_event_loop

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
        io_loop.close(all_fds=False)


def _cancel_tasks(loop: asyncio.AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())


# ---- databases: tests/support/databases.py says which fixture is for what --------------------


@pytest.fixture(scope="session", params=KINDS)
def database_kind(request: pytest.FixtureRequest) -> str:
    """The kind of database that the test runs on."""
    return str(request.param)


@pytest.fixture
def database_url(database_kind: str, tmp_path: Path) -> Iterator[str]:
    """An empty database of the test's own."""
    with empty_database(database_kind, tmp_path) as url:
        yield url


@pytest.fixture(scope="session")
def servers() -> Iterator[Callable[[str], Usher]]:
    """The servers behind `server`. Both stay: a worker changes between the kinds file by file."""
    with ExitStack() as stack:
        yield functools.cache(lambda kind: stack.enter_context(usher(kind)))


@pytest.fixture(scope="session")
def server(database_kind: str, servers: Callable[[str], Usher]) -> Usher:
    """One Usher on its defaults for all tests of a worker that need nothing special of it."""
    return servers(database_kind)
