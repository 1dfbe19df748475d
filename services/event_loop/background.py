"""Background loops that survive their own errors and stop on request."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from services.errors import StoreUnavailable, UsherError
from services.event_loop.callers import Callers
from services.event_loop.tasks import end_tasks
from services.metrics import Metrics

log = logging.getLogger("usher.background")


class Background:
    """The background loops of one server.

    Args:
        callers: used to run the loops in the node's own lane.
    """

    def __init__(self, metrics: Metrics, callers: Callers | None = None) -> None:
        self._metrics, self._callers = metrics, callers or Callers()
        self._tasks: set[asyncio.Task[None]] = set()

    def every(self, seconds: float, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Run `work` repeatedly, with a pause of `seconds` (± 10 %) between runs.

        The random part prevents nodes that were started together from running in step.
        """
        task = asyncio.get_running_loop().create_task(self._loop(seconds, name, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _loop(self, seconds: float, name: str, work: Callable[[], Awaitable[None]]) -> None:
        self._callers.enter("node", name)
        while True:
            await asyncio.sleep(seconds * random.uniform(0.9, 1.1))  # noqa: S311 - no secret
            try:
                await work()
            except StoreUnavailable as error:  # the store logs it once, not every time
                self._metrics.loop_errors.labels(loop=name).inc()
                log.debug("%s: %s", name, error.evidence)
            except UsherError as error:
                self._metrics.loop_errors.labels(loop=name).inc()
                log.warning("%s: %s: %s", name, error.code, error.evidence)
            except Exception:  # a loop must survive any error of its work; counted and logged
                self._metrics.loop_errors.labels(loop=name).inc()
                log.exception("%s failed; it will be tried again", name)

    async def close(self) -> None:
        """Stop all loops and wait for their end."""
        await end_tasks(*self._tasks)
