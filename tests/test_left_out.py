from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.tools import need

ROOT = Path(__file__).parents[1]
SAMPLE = """
import pytest

@pytest.mark.slow
def test_slow(): pass

@pytest.mark.slow
@pytest.mark.parametrize("n", range(2))
def test_slow_too(n): pass

def test_skipped(): pytest.skip("no such program here")

@pytest.mark.skip(reason="not on this system")
def test_marked(): pass

def test_quick(): pass
"""


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_run_ends_with_a_line_that_says_what_it_left_out(tmp_path: Path, workers: str) -> None:
    assert last_line(tmp_path, workers) == (
        "Left out: 3 slow on purpose (make test-slow); 1 skipped (no such program here); "
        "1 skipped (not on this system)"
    )


def test_slow_tests_that_are_asked_for_are_not_left_out(tmp_path: Path) -> None:
    assert last_line(tmp_path, "0", "-m", "slow") == "Left out: nothing"


def last_line(folder: Path, workers: str, *options: str) -> str:
    """The last line but pytest's count, of a run of `SAMPLE` with the hooks of the suite."""
    (folder / "test_sample.py").write_text(SAMPLE)
    (folder / "pytest.ini").write_text(
        "[pytest]\nmarkers = slow\naddopts = -m 'not slow' -p tests.support.left_out\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-n", workers, "-p", "no:cacheprovider"]
    run = subprocess.run(
        [*command, *options],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    [line] = [line for line in run.stdout.splitlines() if line.startswith("Left out: ")]
    return line


def test_a_missing_program_skips_a_test_and_fails_it_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no-such-program is not on PATH: for this"):
        need("for this", "no-such-program")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no-such-program is not on PATH"):
        need("for this", "no-such-program")
    assert need("for this", "no-such-program", "sh").name == "sh"
