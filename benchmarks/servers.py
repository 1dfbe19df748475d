"""Start and stop what is measured, each in its own process on its own core."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import machine
from benchmarks.errors import BenchmarkFailed
from benchmarks.ws_load import Address

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 30.0
STOP_SECONDS = 20.0
ADDRESS = re.compile(r"http://([0-9.]+|localhost):(\d+)")


@dataclass(frozen=True)
class Server:
    """A running server: its process, its embedded Redis if it has one, and where it listens."""

    pid: int
    store_pid: int | None
    address: Address


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def usher_command(data_dir: Path, port: int) -> list[str]:
    return [sys.executable, "server.py", "--port", str(port), "--data-dir", str(data_dir)]


def bare_command() -> list[str]:
    return [sys.executable, "-m", "benchmarks.bare_tornado"]


@contextmanager
def running(
    command: list[str],
    environment: Mapping[str, str],
    cores: machine.Cores | None,
    tree: Path = ROOT,
    may_end: bool = False,
) -> Iterator[Server]:
    """Run a server until the block ends. ``may_end``: or until the block ends the server.

    With ``cores`` the server has its core for itself and its embedded Redis lives on the load's
    core; without, both may use the whole machine (for preparations that are not measured).
    ``tree``: the worktree that the command is run in.
    """
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            command,
            cwd=tree,
            env=_environment(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            address = _wait_for_address(process, output.fileno())
            store_pid = machine.find_store(process.pid)
            if cores is not None:
                machine.pin(process.pid, cores.server)
                if store_pid is not None:
                    machine.pin(store_pid, cores.load)
            yield Server(process.pid, store_pid, address)
            if process.poll() is not None and not may_end:
                raise BenchmarkFailed(f"the server died: {_tail(output.fileno())}")
        finally:
            _stop(process)


def _environment(settings: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without any setting of Usher but the given ones."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("USHER_")}
    return {**kept, "PYTHONUNBUFFERED": "1", **settings}


def _tail(fileno: int) -> str:
    size = os.fstat(fileno).st_size
    return os.pread(fileno, 4_000, max(0, size - 4_000)).decode(errors="replace")


def _wait_for_address(process: subprocess.Popen[bytes], fileno: int) -> Address:
    """The address that the server prints when it listens."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        printed = os.pread(fileno, 4_000, 0).decode(errors="replace")
        # The last: where PUBLIC_URL leads to another node, it is shown first.
        found = next(reversed(list(ADDRESS.finditer(printed))), None)
        if found and _accepts(("127.0.0.1", int(found[2]))):
            return ("127.0.0.1", int(found[2]))
        if process.poll() is not None:
            raise BenchmarkFailed(f"the server did not start: {printed.strip()}")
        time.sleep(0.02)
    raise BenchmarkFailed(f"no address printed within {START_SECONDS:.0f} s")


def _accepts(address: Address) -> bool:
    try:
        socket.create_connection(address, timeout=1).close()
    except OSError:
        return False
    return True


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Send SIGTERM, wait, then send SIGKILL."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
