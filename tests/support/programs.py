"""Programs that tests start, wait for, and end."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from tests.support.server import PATIENCE, Usher


def listens(port: int) -> bool:
    """Whether something takes connections there, on 127.0.0.1."""
    with socket.socket() as probe:
        probe.settimeout(PATIENCE)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask it to end, and kill it where it does not."""
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def listening(
    command: Sequence[Any],
    log: Path,
    ports: Sequence[int],
    environment: Mapping[str, str] | None = None,
) -> Iterator[None]:
    """A program that listens on these ports; what it says is added to `log`.

    Args:
        environment: further variables.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env={**os.environ, **(environment or {})}
        )
    try:
        patience = time.monotonic() + PATIENCE
        while not all(listens(port) for port in ports):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < patience, log.read_text()
            time.sleep(0.02)
        yield
    finally:
        end(process)


class Front:
    """A proxy in a process and a folder of its own. Clients may take it for an Usher."""

    url: str
    _folder: Path
    _process: subprocess.Popen[bytes]

    @property
    def as_server(self) -> Usher:
        """For clients that are made for an Usher: they ask it for its addresses only."""
        return cast("Usher", self)

    def log(self) -> str:
        """Everything that it has written so far."""
        return "".join(path.read_text() for path in sorted(self._folder.glob("*.log")))

    def close(self) -> None:
        end(self._process)
        shutil.rmtree(self._folder)

    def _start(
        self, command: Sequence[Any], ready: Callable[[], bool], environment: Mapping[str, str]
    ) -> None:
        """Start it and wait until it is ready; whatever fails, nothing is left."""
        with (self._folder / "output.log").open("ab") as output:
            self._process = subprocess.Popen(
                command, stdout=output, stderr=output, env={**os.environ, **environment}
            )
        try:
            patience = time.monotonic() + PATIENCE
            while not ready():
                assert self._process.poll() is None, self.log()
                assert time.monotonic() < patience, f"it does not listen:\n{self.log()}"
                time.sleep(0.02)
        except BaseException:
            self.close()
            raise
