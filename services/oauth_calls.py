"""Worker threads for calls to providers: a few for each, so that one that hangs holds up nobody
but those who wait for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from services.oauth_errors import ProviderBusy, ProviderUnavailable
from services.oauth_http import CALL_SECONDS

T = TypeVar("T")

THREADS = 4
MAX_WAITING = 64
GIVE_UP_SECONDS = 2 * CALL_SECONDS
"""A turn in the queue and a call. The call ends by itself; a name server may take longer."""


class ProviderCalls:
    """The threads of one provider.

    Args:
        name: of the provider.
        threads: calls at one time.
        max_waiting: calls that may wait for a thread.
    """

    def __init__(self, name: str, threads: int = THREADS, max_waiting: int = MAX_WAITING) -> None:
        self._name = name
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=f"oauth-{name}")
        self._places = threading.BoundedSemaphore(threads + max_waiting)

    async def run(self, work: Callable[[], T]) -> T:
        """Do blocking work in a thread.

        Raises:
            ProviderBusy: too much is waiting.
            ProviderUnavailable: it takes too long.
        """
        if not self._places.acquire(blocking=False):
            raise ProviderBusy(f"{self._name}: too many calls are waiting")
        try:
            future = self._pool.submit(work)
        except RuntimeError as error:
            self._places.release()
            raise ProviderBusy(f"{self._name}: stopping") from error
        # When the thread is done with it, not when the caller leaves: the work goes on.
        future.add_done_callback(lambda _: self._places.release())
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), GIVE_UP_SECONDS)
        except asyncio.TimeoutError:
            raise ProviderUnavailable(f"{self._name}: no answer in time") from None

    def close(self) -> None:
        """Drops what waits and lets the threads end. Does not block."""
        self._pool.shutdown(wait=False, cancel_futures=True)
