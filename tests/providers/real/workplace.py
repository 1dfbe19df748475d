"""Installs and runs real providers with pinned versions, in a temporary folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

INSTALL_SECONDS = 600.0
START_SECONDS = 60.0


class Workplace:
    """A folder of one provider's.

    Attributes:
        log: what its processes wrote.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.log = folder, folder / "output.log"
        self._stack = ExitStack()

    def __enter__(self) -> Workplace:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        return path

    def pip(self, *pins: str) -> Path:
        """A virtual environment with these packages. Returns its folder of programs."""
        folder = self.folder / "venv"
        self.run([sys.executable, "-m", "venv", folder])
        self.run([folder / "bin/python", "-m", "pip", "install", "--quiet", *pins])
        return folder / "bin"

    def npm(self, *pins: str) -> None:
        """node_modules with these packages."""
        self.write("package.json", json.dumps({"private": True, "type": "module"}))
        self.run(["npm", "install", "--no-audit", "--no-fund", "--silent", *pins])

    def debian(self, *packages: str) -> Path:
        """These Debian packages and what they need that this machine lacks, unpacked and not
        installed. Returns the folder that stands for `/`."""
        root, store = self.folder / "root", self.folder / "debs"
        root.mkdir(exist_ok=True)
        store.mkdir(exist_ok=True)
        reported = self.run(["apt-get", "install", "-s", "--no-install-recommends", *packages])
        names = [line.split()[1] for line in reported.splitlines() if line.startswith("Inst ")]
        self.run(["apt-get", "download", *names], cwd=store)
        for package in sorted(store.glob("*.deb")):
            self.run(["dpkg", "-x", package, root])
        return root

    def run(
        self,
        command: Sequence[str | Path],
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> str:
        """Run something to its end. Returns what it wrote."""
        done = subprocess.run(
            [str(part) for part in command],
            cwd=cwd or self.folder,
            env={**os.environ, **(environment or {})},
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{command[0]}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.stdout

    def start(
        self,
        command: Sequence[str | Path],
        ready: str,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start a server, and wait until it answers.

        Args:
            ready: a URL that it answers in any way.
        """
        output = self._stack.enter_context(self.log.open("ab"))
        process = subprocess.Popen(
            [str(part) for part in command],
            cwd=self.folder,
            env={**os.environ, **(environment or {})},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        self._stack.callback(_end, process)
        give_up = time.monotonic() + START_SECONDS
        while not _answers(ready):
            if process.poll() is not None or time.monotonic() > give_up:
                raise RuntimeError(f"{command[0]} does not answer:\n{self.said()}")
            time.sleep(0.2)

    def said(self) -> str:
        """The end of what its processes wrote."""
        return self.log.read_text("utf-8", "replace")[-20_000:] if self.log.exists() else ""


def has(*programs: str) -> bool:
    """Whether these are on PATH."""
    return all(shutil.which(program) for program in programs)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except urllib.error.HTTPError as answer:
        answer.close()
        return True
    except OSError:
        return False


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
