"""A clock that does not go back when the system time is set back."""

from __future__ import annotations

import time
from collections.abc import Callable


class SteadyClock:
    """Epoch seconds that never go back within the process.

    It follows the wall clock forward (a suspended VM has lost time), and follows the monotonic
    clock if the wall clock is set back.

    Args:
        wall: epoch seconds.
        monotonic: seconds since an arbitrary time.
    """

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall, self._monotonic = wall, monotonic
        self._offset = wall() - monotonic()

    def __call__(self) -> float:
        now = self._monotonic()
        offset = self._wall() - now
        if offset <= self._offset:  # not `max`: a join reads the clock a dozen times
            return self._offset + now
        self._offset = offset
        return offset + now
