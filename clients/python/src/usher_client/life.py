"""Decides what follows the end of a connection, without sockets and timers."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Literal

from usher_client.errors import End, Retry
from usher_client.wire import retry_of

MAX_ATTEMPT = 30
"""2 ** 30 exceeds every upper limit of a pause."""


@dataclass(frozen=True)
class State:
    """The state of a client.

    Args:
        code, reason, retry: how the last connection ended, while waiting or closed.
        attempt: the number of failed connections since the last stable one.
        pause: seconds until the next attempt, while waiting.
    """

    name: Literal["idle", "connecting", "refreshing", "joined", "waiting", "closed"]
    code: int | None = None
    reason: str | None = None
    retry: Retry | None = None
    attempt: int = 0
    pause: float = 0.0


@dataclass
class Life:
    """The connections of a client.

    Args:
        renew: whether the next attempt needs a newer token than the last.
        proven: whether one has joined, which shows that the app's options are valid.
    """

    backoff: float
    max_backoff: float
    attempt: int = 0
    renew: bool = False
    proven: bool = False

    def lost(self, end: End) -> State:
        """A connection or an attempt has ended. Returns `waiting` with a pause, or `closed`.

        The pauses have full jitter, so that clients do not all reconnect at once after a restart.
        """
        retry = retry_of(end)
        if end.reason == "misuse" and self.proven:
            retry = "backoff"  # a token source that has worked before is retried
        seen = State("waiting", end.code, end.reason, retry)
        if retry in {"never", "login"}:
            self.renew = False
            return replace(seen, name="closed")
        self.renew = self.renew or retry == "refresh"
        # An expired token is refreshed at once, but only once. After that, back-off applies.
        at_once = retry == "refresh" and self.attempt == 0
        self.attempt = min(self.attempt + 1, MAX_ATTEMPT)
        if at_once:
            return replace(seen, attempt=self.attempt)
        ceiling = min(self.max_backoff, self.backoff * 2 ** (self.attempt - 1))
        pause = end.after + random.uniform(0, ceiling)  # noqa: S311 - no secret
        return replace(seen, attempt=self.attempt, pause=pause)
