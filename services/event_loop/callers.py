"""The caller that a task works for, which determines its share of the database and of hashing.

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
"""Kinds of callers: the node's own work; authenticated users and known devices; all others."""


class Caller(msgspec.Struct, frozen=True):
    """Attributes:
    kind: the share (lane) that is used.
    key: the caller within it: an address, a user, a device.
    """

    kind: Kind
    key: str = ""


UNNAMED = Caller("users")


class Callers:
    """The caller of the running task. Without one, a task works in the lane of users."""

    def __init__(self) -> None:
        self._current: ContextVar[Caller | None] = ContextVar("caller", default=None)

    @property
    def current(self) -> Caller:
        """The caller of the running task."""
        return self._current.get() or UNNAMED

    def enter(self, kind: Kind, key: str = "") -> None:
        """Set the caller of this task and of the tasks that it starts."""
        self._current.set(Caller(kind, key))

    @contextmanager
    def on_behalf_of(self, kind: Kind, key: str = "") -> Iterator[None]:
        """A context manager that sets the caller temporarily."""
        token = self._current.set(Caller(kind, key))
        try:
            yield
        finally:
            self._current.reset(token)
