"""`python -m benchmarks.processes`: several processes on one port beside one."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.support.server import ROOT


@pytest.mark.slow
def test_a_quick_run_compares_one_process_with_two() -> None:
    # Without a share there is nothing that root has to set up.
    command = [sys.executable, "-m", "benchmarks.processes", "--quick", "--rounds", "1"]
    done = subprocess.run(
        [*command, "--share", "0"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "| | 1 process | 2 processes | ratio |" in done.stdout
    busiest = re.search(r"joins, busiest process, [^|]*\| 100\.00 \| ([\d.]+)", done.stdout)
    assert busiest is not None
    assert 50 <= float(busiest[1]) < 100
