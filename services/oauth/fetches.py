"""Fetches documents that a provider publishes: one call for all who wait for it.

Unauthenticated callers can cause a fetch only now and then.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from services.oauth.errors import ProviderUnavailable

T = TypeVar("T")

UNAUTHENTICATED_SECONDS = 10.0
"""How often something that anybody may have sent has a document fetched. Who sends many must not
make us send as many."""


class Fetches:
    """The fetches of one document. Whoever looks at it holds `lock`.

    Attributes:
        failed: how many have failed, to be read before waiting for the lock.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.lock = threading.Lock()
        self.failed = 0
        self._clock = clock
        self._evidence = ""
        self._unauthenticated_at = float("-inf")

    def allowed(self, unauthenticated: bool) -> bool:
        """Whether a fetch may be made now. Fetches for unauthenticated callers are rate-limited."""
        if unauthenticated:
            now = self._clock()
            if now - self._unauthenticated_at < UNAUTHENTICATED_SECONDS:
                return False
            self._unauthenticated_at = now
        return True

    def make(self, fetch: Callable[[], T], failed_before: int) -> T:
        """Fetch, unless that has failed while the caller waited: each would wait as long again.

        Args:
            failed_before: `failed` as the caller read it.

        Raises:
            ProviderUnavailable: it failed, now or just before.
        """
        if self.failed != failed_before:
            raise ProviderUnavailable(self._evidence)
        try:
            return fetch()
        except ProviderUnavailable as error:
            self.failed += 1
            self._evidence = error.evidence
            raise
