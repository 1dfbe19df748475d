"""`python -m benchmarks.scale`: docs/scale.md is what it prints, and its model is sound."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from benchmarks.scale.__main__ import BEGIN, DOCUMENT, END, text
from benchmarks.scale.model import INPUTS, Design, Inputs, Model, most_sockets
from benchmarks.scale.plan import BUILT_ALREADY, STEPS, designs
from benchmarks.scale.storm import storm
from tests.support.server import ROOT


@pytest.fixture(scope="module")
def inputs() -> Inputs:
    return Inputs.read()


def test_the_document_is_what_the_command_prints(inputs: Inputs) -> None:
    assert BEGIN + text(inputs) + END in DOCUMENT.read_text("utf-8")


def test_the_command_runs_small_and_gives_the_same_text_again() -> None:
    command = [sys.executable, "-m", "benchmarks.scale", "--sockets", "100000"]
    first, second = (subprocess.check_output(command, cwd=ROOT, text=True) for _ in range(2))
    assert first == second
    assert first.startswith("### 100,000 sockets on 2 nodes\n")


def test_every_input_says_where_it_is_from() -> None:
    given = json.loads(INPUTS.read_text("utf-8"))
    assert all(entry["from"] and entry["unit"] for entry in given["costs"].values())
    assert all(entry["why"] for entry in given["assumed"].values())


def test_every_step_that_is_marked_as_built_names_where() -> None:
    named = [where for _, where in BUILT_ALREADY] + [step.where for step in STEPS if step.where]
    assert all(where for _, where in BUILT_ALREADY)
    for places in named:
        for place in places.split("; "):
            assert (ROOT / place.partition(",")[0]).exists(), place


def test_a_part_is_full_where_it_is_said_to_break(inputs: Inputs) -> None:
    for part in Model(inputs, Design(), 1e7).shares():
        most = most_sockets(inputs, Design(), part)
        assert Model(inputs, Design(), most * 0.98).shares()[part] < 1
        assert Model(inputs, Design(), most * 1.02).shares()[part] > 1


def test_no_step_makes_another_part_break_at_fewer_sockets(inputs: Inputs) -> None:
    before = 0.0
    for _, design in designs():
        shares = Model(inputs, design, 1e7).shares()
        most = min(most_sockets(inputs, design, part) for part in shares)
        assert most >= before * 0.999
        before = most


def test_a_cost_that_doubles_doubles_what_depends_on_it(inputs: Inputs) -> None:
    dear = replace(inputs, costs={**inputs.costs, "join, Redis": 2 * inputs.costs["join, Redis"]})
    once, twice = (Model(one, Design(), 1e6).redis() for one in (inputs, dear))
    assert twice["joins"] == pytest.approx(2 * once["joins"])
    assert {**twice, "joins": 0} == {**once, "joins": 0}


def test_all_sockets_of_stopped_nodes_return_and_more_nodes_take_longer(inputs: Inputs) -> None:
    small = replace(inputs, assumed={**inputs.assumed, "sockets per node": 2_000})
    one = storm(small, 8, 1, drained=False)
    four = storm(small, 8, 4, drained=False)
    assert (one.returned, four.returned) == (2_000, 8_000)
    assert one.last < four.last
    assert one.database == 0 < storm(small, 8, 1, drained=False, redis_empty=True).database
