"""Worker threads for calls to providers.

Each provider has its own threads, so that one that hangs does not block the others.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from services.oauth.errors import ProviderBusy, ProviderUnavailable
from services.oauth.http import CALL_SECONDS

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
        give_up: seconds until a call fails because there is no answer.
    """

    def __init__(
        self,
        name: str,
        threads: int = THREADS,
        max_waiting: int = MAX_WAITING,
        give_up: float = GIVE_UP_SECONDS,
    ) -> None:
        self._name, self._give_up = name, give_up
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=f"oauth-{name}")
        self._places = threading.BoundedSemaphore(threads + max_waiting)

    async def run(self, work: Callable[[], T], to_its_end: bool = False) -> T:
        """Do blocking work in a thread.

        Args:
            to_its_end: whether work that has begun in time is waited for as long again, because
                what it brings is brought only once.

        Raises:
            ProviderBusy: too much is waiting, or the threads are ending.
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
        answer = asyncio.wrap_future(future)
        try:
            # Not `wait_for`: work that `close` drops would look like a caller that is cancelled.
            done, _ = await asyncio.wait((answer,), timeout=self._give_up)
            if not done and to_its_end and future.running():
                await asyncio.wait((answer,), timeout=self._give_up)
        finally:
            future.cancel()  # what has not begun never does
            answer.cancel()
        if answer.cancelled():
            raise _late_or_stopping(self._name, stopping=bool(done))
        return answer.result()

    def close(self) -> None:
        """Drops what waits and lets the threads end. Does not block."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _late_or_stopping(name: str, stopping: bool) -> ProviderUnavailable:
    if stopping:
        return ProviderBusy(f"{name}: stopping")
    return ProviderUnavailable(f"{name}: no answer in time")
