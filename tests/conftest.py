"""What every test has: an event loop of its own, closed behind it.

pytest-tornado 0.8 makes its loop with `IOLoop.make_current`, which Tornado 6.2 deprecated and
which leaves asyncio's own loop unset. This fixture replaces it, on uvloop where that installs,
as the server does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest
from hypothesis import settings
from tornado.ioloop import IOLoop

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


@pytest.fixture(scope="session")
def server() -> Iterator[Usher]:
    """One Usher on its defaults for all tests of a worker that need nothing special of it."""
    with usher() as running:
        yield running
