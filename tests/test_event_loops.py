"""Resources left open by a failed test block no other test."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.server import PATIENCE, ROOT

LEAVES_A_TRANSPORT_OPEN = """
import asyncio

from tornado.ioloop import IOLoop
from uvloop import new_event_loop

from tests.support.event_loops import close_loop


async def leave_open():
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    return server, await asyncio.open_connection(*server.sockets[0].getsockname())


loop = new_event_loop()
asyncio.set_event_loop(loop)
left = loop.run_until_complete(leave_open())
close_loop(IOLoop(asyncio_loop=loop, make_current=False))
"""


def test_an_open_transport_is_reported_when_its_loop_is_closed() -> None:
    pytest.importorskip("uvloop")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", LEAVES_A_TRANSPORT_OPEN],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 1
    assert "ResourceWarning: unclosed resource <" in done.stderr
