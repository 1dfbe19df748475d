"""services/redis/child_process.py: a child that does not outlive its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.embedded.child_process import tied_to_parent
from tests.support.redis import alive
from tests.support.server import PATIENCE, ROOT, wait_until

PARENT = """
import subprocess, sys
from services.embedded.child_process import tied_to_parent
child = subprocess.Popen(tied_to_parent(["/bin/sleep", "600"]))
print(child.pid, flush=True)
child.wait()
"""


@pytest.fixture
def parent() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", PARENT]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux'")
def test_a_child_is_ended_when_its_parent_is_killed(parent: subprocess.Popen[str]) -> None:
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    wait_until(lambda: b"sleep" in command_line(child))  # it has become the program
    assert alive(child)
    parent.send_signal(signal.SIGKILL)
    wait_until(lambda: not alive(child))


def command_line(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux'")
def test_a_child_whose_parent_was_gone_already_does_not_start() -> None:
    command = tied_to_parent(["/bin/sleep", "600"])
    command[command.index(str(os.getpid()))] = "-1"  # nobody's
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stderr) == (1, "its parent is gone\n")


def test_the_program_gets_its_arguments_and_its_exit_status_is_returned() -> None:
    command = tied_to_parent(
        [sys.executable, "-c", "import sys; sys.exit(len(sys.argv))", "a b", "--c"]
    )
    assert subprocess.run(command, timeout=PATIENCE, check=False).returncode == 3


def test_its_files_are_its_users_only() -> None:
    command = tied_to_parent([sys.executable, "-c", "import os; print(oct(os.umask(0)))"])
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert done.stdout == "0o77\n"
