"""A server whose instructions are counted while it works, with valgrind's callgrind.

Counted are user-space instructions of the whole process, all threads, and nothing of the kernel.
They do not depend on what else the machine does, but for how much arrives in one turn of the loop.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.errors import BenchmarkFailed
from benchmarks.servers import ADDRESS
from benchmarks.ws_load import Address

START_SECONDS = 150.0
"""Python starts some twenty times slower here."""
STOP_SECONDS = 30.0
ASK_SECONDS = 60.0
LAUNCHER = Path(__file__).with_name("patient_server.py").resolve()
TOTALS = re.compile(r"^totals: (\d+)", re.MULTILINE)


@dataclass(frozen=True)
class CountedServer:
    """A running server under callgrind."""

    pid: int
    address: Address
    folder: Path

    def begin(self) -> None:
        """Count from zero from now on."""
        self._ask("instrumentation", "on")
        self._ask("zero")

    def end(self) -> int:
        """The instructions since `begin()`. Until the next one nothing is counted."""
        for old in self.folder.glob("counted.*"):
            old.unlink()
        self._ask("dump")
        (dump,) = self.folder.glob("counted.*")
        found = TOTALS.findall(dump.read_text())
        self._ask("instrumentation", "off")
        return sum(map(int, found))

    def run_loops(self) -> None:
        """Run the background loops that sockets leave work to."""
        os.kill(self.pid, signal.SIGUSR1)

    def _ask(self, *command: str) -> None:
        done = subprocess.run(
            ["vgdb", f"--pid={self.pid}", f"--vgdb-prefix={self.folder / 'vgdb'}", *command],
            capture_output=True,
            text=True,
            timeout=ASK_SECONDS,
            check=False,
        )
        if done.returncode:
            raise BenchmarkFailed(f"vgdb {' '.join(command)}: {done.stderr.strip()}")


def missing() -> str | None:
    """What is not installed here, or None."""
    return next((name for name in ("valgrind", "vgdb") if shutil.which(name) is None), None)


@contextmanager
def counted(tree: Path, settings: Mapping[str, str]) -> Iterator[CountedServer]:
    """Run the server of a worktree under callgrind until the block ends."""
    with tempfile.TemporaryDirectory(prefix="usher-counted-") as name:
        folder = Path(name)
        command = [
            "valgrind",
            "--tool=callgrind",
            "--instr-atstart=no",
            f"--callgrind-out-file={folder / 'counted'}",
            f"--vgdb-prefix={folder / 'vgdb'}",
            sys.executable,
            str(LAUNCHER),
        ]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("USHER_")}
        environment |= {"PYTHONHASHSEED": "0", "PYTHONUNBUFFERED": "1", **settings}
        output = folder / "output"
        with output.open("wb") as file:
            process = subprocess.Popen(
                command,
                cwd=tree,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )
        try:
            yield CountedServer(process.pid, _address(process, output), folder)
            if process.poll() is not None:
                raise BenchmarkFailed(f"the server died: {output.read_text()[-2000:]}")
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _address(process: subprocess.Popen[bytes], output: Path) -> Address:
    deadline = time.monotonic() + START_SECONDS
    while (found := ADDRESS.search(output.read_text(errors="replace"))) is None:
        if process.poll() is not None or time.monotonic() > deadline:
            raise BenchmarkFailed(f"the server did not start: {output.read_text()[-2000:]}")
        time.sleep(0.1)
    return ("127.0.0.1", int(found[2]))
