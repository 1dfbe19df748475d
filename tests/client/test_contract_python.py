"""clients/python has the behaviours of clients/contract, against a scripted and a real Usher."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.client.contract_suite import (
    real,
    test_a_behaviour_against_a_real_usher,
    test_a_behaviour_against_a_scripted_server,
)
from tests.support import contract_driver
from tests.support.contract import LIST, Driver, Run, ScriptedRun, behaviours
from tests.support.contract_usher import RealRun
from tests.support.server import ROOT

__all__ = [
    "real",
    "test_a_behaviour_against_a_real_usher",
    "test_a_behaviour_against_a_scripted_server",
]

SOURCES = ROOT / "clients" / "python" / "src"
# Coroutines that are never awaited and unclosed resources are reported on stderr and fail the
# driver.
COMMAND = [sys.executable, "-W", "always", contract_driver.__file__]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(SOURCES)}


@pytest.fixture(scope="module")
def driver() -> Iterator[Driver]:
    with closing(Driver(COMMAND, ENVIRONMENT)) as running:
        yield running


def test_no_item_is_left_out() -> None:
    """Every item of the list is against one of the two, and every step of it is known."""
    runs: dict[str, type[Run]] = {"scripted": ScriptedRun, "usher": RealRun}
    items = json.loads(LIST.read_text("utf-8"))["behaviours"]
    run = [item["id"] for against in runs for item in behaviours(against)]
    assert sorted(run) == sorted({item["id"] for item in items})
    assert len(run) > 100
    for item in items:
        for step in item["steps"]:
            verb = next(iter(step))
            assert hasattr(runs[item["against"]], f"step_{verb}"), (item["id"], verb)
            if verb == "do":
                assert hasattr(contract_driver.Driver, f"do_{step[verb]}"), (item["id"], step)
