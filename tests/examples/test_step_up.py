"""examples/step_up, run as written."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.support.server import PATIENCE, ROOT, usher


def test_the_socket_joins_is_removed_and_joins_again() -> None:
    with usher("sqlite", STEP_UP_SECONDS=4) as server:
        done = subprocess.run(
            [sys.executable, "examples/step_up/vault.py", server.url],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=PATIENCE * 2,
            env={**os.environ, "no_proxy": "*"},
            check=False,
        )
    assert done.stdout.splitlines() == [
        "in, by the sign-in just made: True",
        "out: the proof has ended",
        "refused: step_up_needed",
        "in again, on the same socket",
        "said: True",
    ], done.stderr
