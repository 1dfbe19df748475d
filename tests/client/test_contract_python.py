"""clients/python does all that clients/contract lists, against a scripted and a real Usher."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from tests.support import contract_driver
from tests.support.contract import LIST, Driver, Run, ScriptedRun, behaviours
from tests.support.contract_usher import Installation, RealRun, installation
from tests.support.scripted import scripted_usher
from tests.support.server import ROOT

SOURCES = ROOT / "clients" / "python" / "src"
# Development mode: what is never awaited or never closed is told on stderr, and fails the driver.
COMMAND = [sys.executable, "-X", "dev", contract_driver.__file__]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(SOURCES), "PYTHONASYNCIODEBUG": "0"}
Item = dict[str, Any]


@pytest.fixture(scope="module")
def driver() -> Iterator[Driver]:
    with closing(Driver(COMMAND, ENVIRONMENT)) as running:
        yield running


@pytest.fixture(scope="module")
def real() -> Iterator[Installation]:
    with installation() as running:
        yield running


@pytest.mark.parametrize("item", behaviours("scripted"), ids=lambda item: item["id"])
def test_a_behaviour_against_a_scripted_server(driver: Driver, item: Item) -> None:
    with scripted_usher() as server:
        run = ScriptedRun(driver, server, item)
        run.start(item["start"])
        run.steps(item["steps"])
        run.client.do("close")


@pytest.mark.parametrize("item", behaviours("usher"), ids=lambda item: item["id"])
def test_a_behaviour_against_a_real_usher(driver: Driver, real: Installation, item: Item) -> None:
    with real.suited(item.get("settings", {})) as suited:
        run = RealRun(driver, suited, item)
        run.start()
        run.steps(item["steps"])
        run.client.do("close")


def test_no_item_is_left_out() -> None:
    """Every item of the list is against one of the two, and every step of it is known."""
    whole = LIST.read_text("utf-8").count('"id": "')
    runs: dict[str, type[Run]] = {"scripted": ScriptedRun, "usher": RealRun}
    items = [(item, kind) for kind in runs for item in behaviours(kind)]
    listed = {item["id"] for item, _ in items}
    assert len(listed) == len(items) > 100
    assert whole >= len(items)
    for item, kind in items:
        for step in item["steps"]:
            verb = next(iter(step))
            assert hasattr(runs[kind], f"step_{verb}"), (item["id"], verb)
            if verb == "do":
                assert hasattr(contract_driver.Driver, f"do_{step[verb]}"), (item["id"], step)
