"""Programs of examples/, started as their docs say."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.server import PATIENCE, ROOT


@contextmanager
def running_example(program: str, *options: str, ready: str) -> Iterator[list[str]]:
    """An example until it is stopped with Ctrl+C; returns the lines that it has written.

    Args:
        program: its path below the repository.
        ready: words of the line that it writes when all of it is there.
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("USHER_", "BOARD_"))}
    process = subprocess.Popen(
        [sys.executable, program, *options],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    said: list[str] = []
    is_ready = threading.Event()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line.decode())
            if ready in said[-1]:
                is_ready.set()
        is_ready.set()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        assert is_ready.wait(3 * PATIENCE), "".join(said)
        yield said
    finally:
        process.send_signal(signal.SIGINT)
        status = process.wait(PATIENCE)
        reader.join(PATIENCE)
        assert process.stdout is not None
        process.stdout.close()
    assert status == 0, "".join(said)
