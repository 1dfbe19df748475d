"""The tests of every client library: a module imports them, and defines the fixture `driver`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.contract import Driver, ScriptedRun, behaviours
from tests.support.contract_usher import Installations, RealRun, installations
from tests.support.scripted import scripted_usher

Item = dict[str, Any]


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
