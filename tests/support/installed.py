"""Usher as its wheel installs it, started by the command `usher`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.server import Usher


def run(*command: str | Path, cwd: Path | None = None, **variables: str) -> str:
    """Run a program to its end, with no Python path of this process. Returns its stdout."""
    kept = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    kept = {k: v for k, v in kept.items() if not k.startswith("USHER_")}
    done = subprocess.run(
        command, cwd=cwd, env={**kept, **variables}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def install(folder: Path, *wheels: str | Path, constraints: Path) -> Path:
    """An empty environment with these wheels. Returns its folder of programs."""
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    python = folder / "bin" / "python"
    pip: list[str | Path] = [sys.executable, "-m", "pip", "--python", python]
    options: list[str | Path] = [
        "--disable-pip-version-check",
        "--quiet",
        "--only-binary",
        ":all:",
        "--constraint",
        constraints,
    ]
    run(*pip, "install", *options, *wheels)
    return folder / "bin"


@contextmanager
def installed_usher(program: Sequence[str], **settings: object) -> Iterator[Usher]:
    """A server that this command starts, with SQLite."""
    kind = type("InstalledUsher", (Usher,), {"program": tuple(program)})
    server = kind("sqlite", **settings)
    try:
        yield server
    finally:
        server.close()
