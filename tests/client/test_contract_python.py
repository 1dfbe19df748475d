"""clients/python does all that clients/contract lists, against a scripted and a real Usher."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from tests.support import contract_driver
from tests.support.contract import LIST, Driver, Run, ScriptedRun, behaviours
from tests.support.contract_usher import Installations, RealRun, installations
from tests.support.scripted import scripted_usher
from tests.support.server import ROOT

SOURCES = ROOT / "clients" / "python" / "src"
# What is never awaited or never closed is told on stderr, and fails the driver.
COMMAND = [sys.executable, "-W", "always", contract_driver.__file__]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(SOURCES)}
Item = dict[str, Any]


@pytest.fixture(scope="module")
def driver() -> Iterator[Driver]:
    with closing(Driver(COMMAND, ENVIRONMENT)) as running:
        yield running


@pytest.fixture(scope="module")
def real() -> Iterator[Installations]:
    with installations() as running:
        yield running


@pytest.mark.parametrize("item", behaviours("scripted"), ids=lambda item: item["id"])
def test_a_behaviour_against_a_scripted_server(driver: Driver, item: Item) -> None:
    with scripted_usher() as server:
        run = ScriptedRun(driver, server, item)
        run.start(item["start"])
        run.steps(item["steps"])
        run.client.do("close")


@pytest.mark.parametrize("item", behaviours("usher"), ids=lambda item: item["id"])
def test_a_behaviour_against_a_real_usher(driver: Driver, real: Installations, item: Item) -> None:
    run = RealRun(driver, real.suited(item.get("settings", {})), item)
    run.start()
    run.steps(item["steps"])
    run.client.do("close")


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
