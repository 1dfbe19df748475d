"""Programs that some tests need and a machine may lack."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

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


def missing(reason: str) -> NoReturn:
    """Skip the test for what this machine lacks; in CI it fails."""
    if os.environ.get("CI") == "true":  # a check that CI leaves out is a check nobody makes
        pytest.fail(reason)
    pytest.skip(reason)
