"""Programs that some tests need and a machine may lack; and tests that start one for each case."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

import pytest


def need(what: str, *names: str) -> Path:
    """The first of these programs on PATH. Without it the test is skipped; in CI it fails.

    Args:
        what: what it is for, and how one gets it.
    """
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        missing(f"{' / '.join(names)} is not on PATH: {what}")
    return Path(found)


def find_program(name: str, package: str) -> Path:
    """A program of tests/field, also where only root has its folder on PATH. Without it the test is
    skipped, in CI too: not every distribution has each of them.

    Args:
        package: Debian's.
    """
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    found = shutil.which(name, path=path)
    return Path(found) if found else absent(f"{name} is not here: apt-get install {package}")


def absent(reason: str) -> NoReturn:
    """Skip the test for what not every machine can have, in CI too."""
    pytest.skip(reason)


def missing(reason: str) -> NoReturn:
    """Skip the test for what this machine lacks; in CI it fails."""
    if os.environ.get("CI") == "true":  # a check that CI leaves out is a check nobody makes
        pytest.fail(reason)
    pytest.skip(reason)


def first_of(values: Iterable[Any], count: int) -> list[Any]:
    """Parameters of a test that cost much each: those behind the first so many, which take the same
    way through it, are left to `make test-slow`. A tuple is the values of several parameters."""
    given = list(values)
    slow = (value if isinstance(value, tuple) else (value,) for value in given[count:])
    return [*given[:count], *(pytest.param(*values, marks=pytest.mark.slow) for values in slow)]
