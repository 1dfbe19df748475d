"""The instruction counts of joins and messages: an increase over the recorded figures is found."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import callgrind, instructions
from benchmarks.counted_work import FIGURES, MESSAGE
from benchmarks.instructions import FILE, Build, Recorded
from tests.support.server import ROOT

A_FIGURE = FIGURES[0]


def test_each_recorded_build_has_every_figure() -> None:
    recorded = instructions.read(FILE)
    assert recorded.builds
    for build in recorded.builds.values():
        assert set(build.figures) == set(FIGURES)


def test_each_figure_is_the_last_of_its_changes_and_each_change_has_a_reason() -> None:
    recorded = instructions.read(FILE)
    last: dict[tuple[str, str], int] = {}
    for change in recorded.changes:
        assert change.reason.strip()
        for name, (before, after) in change.figures.items():
            assert last.get((change.build, name)) == before
            last[change.build, name] = after
    current = {(b, n): v for b, build in recorded.builds.items() for n, v in build.figures.items()}
    assert current == last


@pytest.mark.parametrize(
    ("value", "verdict"),
    [(1_101.0, "TOO MANY"), (1_099.0, "1.099 of 1,000"), (899.0, "write the new figure")],
)
def test_a_tenth_above_is_too_many_and_a_tenth_below_is_to_be_written(
    value: float, verdict: str
) -> None:
    (line,) = instructions.report({A_FIGURE: value}, {A_FIGURE: 1_000})
    assert verdict in line
    assert instructions.is_above(value, 1_000) == (verdict == "TOO MANY")


def test_a_figure_without_a_recorded_one_is_not_compared() -> None:
    (line,) = instructions.report({A_FIGURE: 5.0}, {})
    assert "nothing to compare with" in line
    assert not instructions.is_above(5.0, None)


def test_writing_keeps_other_figures_and_says_what_changed_and_why(tmp_path: Path) -> None:
    if callgrind.missing():
        pytest.skip("valgrind is not installed")
    file = tmp_path / "figures.json"
    before = Recorded({"a build": Build({A_FIGURE: 10, MESSAGE: 20}, {})}, [])
    instructions.write(file, before, "a build", {MESSAGE: 18.4}, "one look-up fewer", "2026-11-28")
    after = instructions.read(file)
    assert after.builds["a build"].figures == {A_FIGURE: 10, MESSAGE: 18}
    (change,) = after.changes
    assert (change.reason, change.figures) == ("one look-up fewer", {MESSAGE: (20, 18)})


def test_figures_are_written_with_a_reason_only(tmp_path: Path) -> None:
    done = counted("--write", file=tmp_path / "none.json")
    assert done.returncode == 2
    assert "--reason" in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(callgrind.missing() is not None, reason="valgrind is not installed")
def test_a_planted_slowdown_is_found_and_the_same_code_is_not_above(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    one = ("--only", MESSAGE)
    assert counted("--write", "--reason", "a trial", *one, file=figures).returncode == 0
    same = counted(*one, file=figures)
    assert same.returncode == 0, same.stdout + same.stderr

    tree = tmp_path / "tree"
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".*", "data", "tests", "results"))
    handler = tree / "handlers/websocket/socket.py"
    there = "        now = self.context.clock()\n        if self._session is not None and now"
    planted = "        for _ in range(400):\n            pass\n"
    assert there in handler.read_text()
    handler.write_text(handler.read_text().replace(there, planted + there))
    slower = counted("--tree", str(tree), *one, file=figures)
    assert slower.returncode == 1, slower.stdout + slower.stderr
    assert "TOO MANY" in slower.stdout


@pytest.mark.slow
@pytest.mark.skipif(callgrind.missing() is not None, reason="valgrind is not installed")
def test_a_build_without_figures_is_counted_and_said_not_to_be_compared(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    other = Recorded({"PyPy 3.11 riscv64": Build({MESSAGE: 1}, {})}, [])
    figures.write_text(json.dumps({"builds": {}, "changes": []}))
    instructions.write(figures, other, "PyPy 3.11 riscv64", {MESSAGE: 1}, "a trial", "2026-11-28")
    done = counted("--only", MESSAGE, file=figures)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "NOT COMPARED" in done.stdout
    assert "PyPy 3.11 riscv64" in done.stdout


def counted(*arguments: str, file: Path) -> subprocess.CompletedProcess[str]:
    """Run the command as `make instructions` does."""
    command = [sys.executable, "-m", "benchmarks.instructions", "--file", str(file), *arguments]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False
    )
