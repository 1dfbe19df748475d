"""Cancels tasks reliably."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

AGAIN_SECONDS = 0.1


async def end_tasks(*tasks: asyncio.Future[Any] | None) -> None:
    """Cancel tasks and wait until all of them have ended. Their exceptions are dropped.

    A task that continues is cancelled again. Before Python 3.12, `asyncio.wait_for` loses a
    cancellation in the same iteration of the loop in which the awaited future is done
    (python/cpython#86296). A loop that retries would then never end.
    """
    given = [task for task in tasks if task is not None]
    pending: Iterable[asyncio.Future[Any]] = [task for task in given if not task.done()]
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=AGAIN_SECONDS)
    await asyncio.gather(*given, return_exceptions=True)
