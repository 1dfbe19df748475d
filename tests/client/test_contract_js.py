"""clients/js has the behaviours of clients/contract, against a scripted and a real Usher."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from services.websocket.protocol import CloseCode
from tests.client.contract_suite import (
    real,
    test_a_behaviour_against_a_real_usher,
    test_a_behaviour_against_a_scripted_server,
)
from tests.support.contract import Driver, ScriptedRun, behaviours
from tests.support.contract_usher import RealRun
from tests.support.node import node_command
from tests.support.scripted import scripted_usher
from tests.support.server import ROOT

__all__ = [
    "real",
    "test_a_behaviour_against_a_real_usher",
    "test_a_behaviour_against_a_scripted_server",
]

DRIVER = ROOT / "tests" / "support" / "contract_driver.mjs"
ENVIRONMENT = os.environ | {"NODE_NO_WARNINGS": "1"}


@pytest.fixture(scope="module")
def driver() -> Iterator[Driver]:
    with closing(Driver([*node_command(), DRIVER], ENVIRONMENT)) as running:
        yield running


# ---- the list itself -------------------------------------------------------------------------


def test_every_item_is_run_and_named_once() -> None:
    items = [*behaviours("scripted"), *behaviours("usher")]
    names = [item["id"] for item in items]
    assert len(set(names)) == len(names) > 100
    for item in items:
        assert all(item[word] for word in ("given", "when", "then", "steps")), item["id"]


def test_every_close_code_of_usher_is_in_the_list_with_its_class() -> None:
    items = {item["id"]: item for item in behaviours("scripted")}
    for code in CloseCode:
        [said] = [s["say"] for s in items[f"close-{int(code)}"]["steps"] if "say" in s]
        assert said["data"] == {"code": code, "reason": code.reason, "retry": code.retry}
        assert f"close-{int(code)}-unannounced" in items


def test_an_unknown_step_fails(driver: Driver) -> None:
    with scripted_usher() as server:
        run = ScriptedRun(driver, server, {"options": {}})
        with pytest.raises(AssertionError, match="nobody knows what sing is"):
            run.steps([{"sing": {}}])


def test_the_readme_of_the_contract_names_every_step_and_command() -> None:
    page = (ROOT / "clients" / "contract" / "README.md").read_text("utf-8")
    for kind in (ScriptedRun, RealRun):
        for name in dir(kind):
            if name.startswith("step_"):
                assert f"`{name.removeprefix('step_')}" in page or (
                    f"{name.removeprefix('step_')}:" in page
                ), name
    script = Path(DRIVER).read_text("utf-8")
    assert "sign_in" in script
