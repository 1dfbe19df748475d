"""The server of the working directory, with background loops that run on request.

Under valgrind everything takes some fifty times longer, but a second stays a second: what the
server does every second would be a fifth of what is counted, in lumps. So its loops run once each
when this process gets SIGUSR1, and otherwise hardly ever; and its timeouts are longer.
"""

from __future__ import annotations

import asyncio
import importlib
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

SLOWER = 50.0
"""How many times slower valgrind makes the server."""
CONTACT = ("sweep revocations", "read news", "end the lease")
"""Loops that must go on: without them the node closes all sockets after its lease."""
CONTACT_SECONDS = 10.0
RARELY_SECONDS = 3_600.0
LEFT_BEHIND = ("write audit lines", "note last seen", "write socket events")
"""What sockets leave to loops; run at SIGUSR1."""

Work = Callable[[], Coroutine[Any, Any, None]]


def be_patient(background: Any) -> None:
    """Change how the loops run that are started from now on.

    Args:
        background: the class `Background` of the server.
    """
    every, left_behind = background.every, list[Work]()
    running = set[asyncio.Future[None]]()

    def run_once() -> None:
        running.update(asyncio.ensure_future(work()) for work in left_behind)

    def patiently(self: object, _: float, name: str, work: Work) -> None:
        if not left_behind:
            asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, run_once)
        if name in LEFT_BEHIND:
            left_behind.append(work)
        every(self, CONTACT_SECONDS if name in CONTACT else RARELY_SECONDS, name, work)

    background.every = patiently


def multiply(module: str, name: str) -> None:
    """Multiply a constant of a module, before others import it."""
    there: Any = importlib.import_module(module)
    setattr(there, name, getattr(there, name) * SLOWER)


def multiply_timeout(function: Any) -> None:
    """Multiply the default of a function's parameter `timeout`."""
    if "timeout" in (function.__kwdefaults__ or ()):
        function.__kwdefaults__["timeout"] *= SLOWER
        return
    code, defaults = function.__code__, list(function.__defaults__)
    positional = code.co_varnames[: code.co_argcount]
    defaults[positional.index("timeout") - len(positional)] *= SLOWER
    function.__defaults__ = tuple(defaults)


if __name__ == "__main__":
    sys.path[0] = str(Path.cwd())  # of the tree to be measured, not of this file
    be_patient(importlib.import_module("services.event_loop.background").Background)
    multiply("services.event_loop.loop_watch", "STALL_SECONDS")
    multiply("services.bus.subscribed_connection", "TIMEOUT_SECONDS")
    multiply_timeout(importlib.import_module("services.storage.database").Database.open.__func__)
    multiply_timeout(importlib.import_module("services.redis.store_redis").RedisStore.__init__)
    sys.exit(importlib.import_module("server").main())
