"""The guest in which more sockets are opened than this machine's kernel allows to a process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.server import ROOT

GUEST = ROOT / "benchmarks/guest"
FACTOR = 4
READINGS = """
import json, time
real = lambda: time.clock_gettime(time.CLOCK_BOOTTIME)
reading = lambda: (real(), time.monotonic(), real())
before = reading()
while real() < before[0] + 0.2:
    pass
print(json.dumps([before, reading()]))
"""


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@pytest.mark.parametrize("name", ["idle_sockets.sh", "init.sh"])
def test_shellcheck_finds_nothing_in_a_script_of_the_guest(name: str) -> None:
    done = subprocess.run(
        [program("shellcheck"), GUEST / name], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_the_clock_of_a_guest_goes_at_a_fraction_of_the_speed(tmp_path: Path) -> None:
    library = tmp_path / "slow_clock.so"
    flags = ("-Wall", "-Wextra", "-Werror", "-shared", "-fPIC")
    subprocess.run([program("gcc"), *flags, "-o", library, GUEST / "slow_clock.c"], check=True)
    slowed = {**os.environ, "LD_PRELOAD": os.fspath(library), "SLOW_CLOCK": str(FACTOR)}
    done = subprocess.run(
        [sys.executable, "-c", READINGS], env=slowed, capture_output=True, text=True, check=True
    )
    (first, before, second), (third, after, fourth) = json.loads(done.stdout)
    slack = 1e-6  # of floating point
    assert third - second <= (after - before) * FACTOR + slack
    assert (after - before) * FACTOR <= fourth - first + slack
