"""Stops a PostgreSQL of the tests once its test process is gone, however that ended.

    python postgres_watch.py FOLDER    with a pipe from the test process as stdin

A worker that is killed runs no `atexit`, and its PostgreSQL is a daemon: it would stay.
"""

from __future__ import annotations

import shutil
import signal
import sys
from pathlib import Path

import psutil  # type: ignore[import-untyped]

STOP_SECONDS = 5.0


def main(folder: Path) -> None:
    sys.stdin.read()  # ends with the last process that holds the other end
    stop(folder / "d" / "postmaster.pid")
    shutil.rmtree(folder, ignore_errors=True)


def stop(pid_file: Path) -> None:
    """Ends the server that wrote this file; does nothing where there is none."""
    try:
        server = psutil.Process(int(pid_file.read_text().splitlines()[0]))
        processes = [server, *server.children(recursive=True)]
        if server.name() != "postgres":
            return
        for process in processes:
            process.send_signal(signal.SIGCONT)  # a test may have stopped them
        server.send_signal(signal.SIGQUIT)  # at once, but with its shared memory given back
    except (OSError, ValueError, IndexError, psutil.Error):
        return  # it ended in good order, or is ending just now
    _, left = psutil.wait_procs(processes, timeout=STOP_SECONDS)
    for process in left:
        process.kill()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
