"""Ends tasks for certain."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

AGAIN_SECONDS = 0.1


async def end_tasks(*tasks: asyncio.Future[Any] | None) -> None:
    """Cancel tasks and wait until all of them have ended. What they raise is dropped.

    A task that goes on is cancelled again. Before Python 3.12 `asyncio.wait_for` loses a
    cancellation that comes in the same turn of the loop as the end of what it waits for
    (python/cpython#86296); a loop that tries again and again would then never end.
    """
    given = [task for task in tasks if task is not None]
    pending: Iterable[asyncio.Future[Any]] = [task for task in given if not task.done()]
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=AGAIN_SECONDS)
    await asyncio.gather(*given, return_exceptions=True)
