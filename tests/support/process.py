"""`python server.py` as a process: in a folder of its own, and with its own Redis."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.databases import kinds
from tests.support.redis import alive
from tests.support.server import PATIENCE, ROOT, Usher, usher_from_scratch

usher = usher_from_scratch
database_kind = kinds("sqlite")  # a process, its signals and its flags are the same on both


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder with a short path, taken away afterwards."""
    with tempfile.TemporaryDirectory(prefix="usher-t-") as name:
        yield Path(name)


def start(folder: Path, *argv: str, **settings: object) -> subprocess.CompletedProcess[str]:
    """Start it with settings that it can't start with, or flags that end it at once."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("USHER_")}
    chosen = {"PORT": 0, "DATA_DIR": folder / "data", **settings}
    environment |= {f"USHER_{name}": str(value) for name, value in chosen.items()}
    return subprocess.run(
        [sys.executable, "server.py", *argv],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def redis_of(server: Usher) -> int:
    """The process of the embedded Redis."""
    pid = int((server.data_dir / "redis" / "redis.pid").read_text())
    assert alive(pid)
    return pid
