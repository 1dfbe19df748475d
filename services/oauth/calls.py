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
"""Time in the queue and for the call. A call is bounded, but name resolution may take longer."""


class ProviderCalls:
    """Runs the calls to one provider in a thread pool of its own.

    Args:
        name: name of the provider.
        threads: maximum number of calls at one time.
        max_waiting: maximum number of calls that wait for a thread.
        give_up: seconds until a call without an answer fails.
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
        """Run blocking work in a thread.

        Args:
            to_its_end: whether to wait twice as long for work that has started, because its result
                cannot be fetched again.

        Raises:
            ProviderBusy: too many calls are waiting, or the server is stopping.
            ProviderUnavailable: there is no answer in time.
        """
        if not self._places.acquire(blocking=False):
            raise ProviderBusy(f"{self._name}: too many calls are waiting")
        try:
            future = self._pool.submit(work)
        except RuntimeError as error:
            self._places.release()
            raise ProviderBusy(f"{self._name}: stopping") from error
        # Released when the thread has finished. It continues even if the caller has gone.
        future.add_done_callback(lambda _: self._places.release())
        answer = asyncio.wrap_future(future)
        try:
            # Not `wait_for`: with it, work that `close` cancels looks like a cancelled caller.
            done, _ = await asyncio.wait((answer,), timeout=self._give_up)
            if not done and to_its_end and future.running():
                await asyncio.wait((answer,), timeout=self._give_up)
        finally:
            future.cancel()  # no effect on work that has started
            answer.cancel()
        if answer.cancelled():
            raise _timeout_or_stopping(self._name, stopping=bool(done))
        return answer.result()

    def close(self) -> None:
        """Cancel waiting calls and end the threads. Does not block."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _timeout_or_stopping(name: str, stopping: bool) -> ProviderUnavailable:
    if stopping:
        return ProviderBusy(f"{name}: stopping")
    return ProviderUnavailable(f"{name}: no answer in time")
