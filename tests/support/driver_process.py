"""A program that reads a JSON command a line on stdin, and writes a JSON message a line."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support.server import PATIENCE


class DriverProcess(ABC):
    """The running program. What it writes that is no message is noise, and fails `close`."""

    def __init__(self, command: Sequence[str | Path], environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [str(part) for part in command],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._noise: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @abstractmethod
    def hear(self, line: str) -> bool:
        """Take a line, in the thread that reads. Returns whether it is a message."""

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if not self.hear(line):
                self._noise.append(line)

    def write(self, command: dict[str, Any]) -> None:
        """Send a command."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()

    def send_signal(self, number: signal.Signals) -> None:
        """Send the program a signal."""
        self._process.send_signal(number)

    def noise(self) -> str:
        """What it has written beside messages."""
        return "".join(self._noise)

    def close(self) -> None:
        """End it: with every client closed nothing keeps it alive."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            status = self._process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        self._reader.join(timeout=PATIENCE)
        self._process.stdout.close()
        assert (status, self._noise) == (0, [])
