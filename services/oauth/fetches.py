"""Limits the fetches of documents that a provider publishes.

Concurrent callers share one fetch. Fetches that unauthenticated callers cause are rate-limited.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from services.oauth.errors import ProviderUnavailable

T = TypeVar("T")

UNAUTHENTICATED_SECONDS = 10.0
"""Minimum interval of fetches that unauthenticated callers cause. Otherwise, every forged token
would cause a request to the provider."""


class Fetches:
    """The fetches of one document. Callers hold `lock` while they use it.

    Attributes:
        failed: number of failed fetches, which a caller reads before it acquires the lock.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.lock = threading.Lock()
        self.failed = 0
        self._clock = clock
        self._evidence = ""
        self._unauthenticated_at = float("-inf")

    def allowed(self, unauthenticated: bool) -> bool:
        """Whether a fetch may be made now. Only fetches for unauthenticated callers are limited."""
        if unauthenticated:
            now = self._clock()
            if now - self._unauthenticated_at < UNAUTHENTICATED_SECONDS:
                return False
            self._unauthenticated_at = now
        return True

    def make(self, fetch: Callable[[], T], failed_before: int) -> T:
        """Fetch the document, unless a fetch failed while the caller waited for the lock.

        Otherwise all waiting callers would wait for a timeout one after the other.

        Args:
            failed_before: `failed` before the caller waited.

        Raises:
            ProviderUnavailable: the fetch failed, now or while the caller waited.
        """
        if self.failed != failed_before:
            raise ProviderUnavailable(self._evidence)
        try:
            return fetch()
        except ProviderUnavailable as error:
            self.failed += 1
            self._evidence = error.evidence
            raise
