"""The processes of an example: started together, watched, and stopped together."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Mapping

START_SECONDS = 60.0
STOP_SECONDS = 15.0
Parts = Mapping[str, subprocess.Popen[bytes]]


def wait_for(url: str, parts: Parts, example: str) -> None:
    """Wait until something answers there. Ends the program where a part has ended before."""
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:  # not yet
            ended = any(process.poll() is not None for process in parts.values())
            if ended or time.monotonic() > end:
                sys.exit(f"{example}: nothing answers at {url}")
            time.sleep(0.1)


def watch(parts: Parts, example: str) -> int:
    """Wait for Ctrl+C, SIGTERM, or the end of a part. Gives the status to exit with."""
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    while not over.wait(0.2):
        for name, process in parts.items():
            if process.poll() is not None:
                print(
                    f"{example}: the {name} ended with status {process.returncode}",
                    file=sys.stderr,
                )
                return 1
    return 0


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process, with force where it does not end."""
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
