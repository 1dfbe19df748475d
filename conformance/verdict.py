"""How the check of a promise can end."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Broken(Exception):
    """The server does not keep the promise. The text says what was expected and what happened."""


class NotRun(Exception):
    """The promise cannot be checked here. The text says what is missing."""


class Outcome(Enum):
    KEPT = "kept"
    BROKEN = "broken"
    NOT_RUN = "not run"


@dataclass(frozen=True)
class Result:
    """How the check of one promise ended.

    Attributes:
        id, promise, section: of the case.
        detail: why it was not kept, or not run.
        seconds: how long the check took.
    """

    id: str
    promise: str
    section: str
    outcome: Outcome
    detail: str
    seconds: float


def expect(condition: object, what: str) -> None:
    """Raises Broken with this text unless the condition is true."""
    if not condition:
        raise Broken(what)


def same(found: object, expected: object, what: str) -> None:
    """Raises Broken unless both are equal."""
    expect(found == expected, f"{what}: expected {expected!r}, got {found!r}")
