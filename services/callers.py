"""On whose behalf a task runs, which decides its share of the database and of password hashing.

It is a context variable of the task: a handler sets it once, and every call below runs in that
lane without passing it on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

import msgspec

Kind = Literal["node", "users", "unauthenticated"]
"""The node's own work; whoever has shown who they are, or a device that we know; anybody else."""


class Caller(msgspec.Struct, frozen=True):
    """Attributes:
    kind: which share is used.
    key: who within it: an address, a user, a device.
    """

    kind: Kind
    key: str = ""


UNNAMED = Caller("users")


class Callers:
    """Knows on whose behalf the running task works; users' where nobody has said it."""

    def __init__(self) -> None:
        self._current: ContextVar[Caller | None] = ContextVar("caller", default=None)

    @property
    def current(self) -> Caller:
        """For whom the running task works."""
        return self._current.get() or UNNAMED

    def enter(self, kind: Kind, key: str = "") -> None:
        """Work for somebody from now on, in this task and in those that it begins."""
        self._current.set(Caller(kind, key))

    @contextmanager
    def on_behalf_of(self, kind: Kind, key: str = "") -> Iterator[None]:
        """Work for somebody for a while."""
        token = self._current.set(Caller(kind, key))
        try:
            yield
        finally:
            self._current.reset(token)
