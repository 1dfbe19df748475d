"""Packages from npm, as a test's Node programs import them."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.tools import missing, need

PINNED = {"axe-core": "4.14.1", "faye-websocket": "0.11.4", "ws": "8.23.0"}


@contextmanager
def npm_packages(*names: str) -> Iterator[Path]:
    """A folder with these packages installed. Without the registry the test is skipped; in CI it
    fails."""
    npm = need("tests with clients from npm need it (apt-get install npm)", "npm")
    with tempfile.TemporaryDirectory(prefix="usher-npm-") as name:
        folder = Path(name)
        (folder / "package.json").write_text('{"private": true, "type": "module"}')
        wanted = [f"{name}@{PINNED[name]}" for name in names]
        flags = ["--no-audit", "--no-fund", "--no-save", "--ignore-scripts"]
        done = subprocess.run(
            [npm, "install", *flags, *wanted],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode != 0:
            missing(f"npm cannot install {wanted}: {done.stderr[-300:]}")
        yield folder


def start_node(folder: Path, script: str, **variables: str) -> subprocess.Popen[str]:
    """A Node that runs a module in this folder."""
    node = need("the tests of clients in Node need it (apt-get install nodejs)", "node")
    return subprocess.Popen(
        [node, "--input-type=module", "--eval", script],
        cwd=folder,
        env={"PATH": os.environ["PATH"], **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def shown(process: subprocess.Popen[str], timeout: float = 60) -> list[Any]:
    """What a script showed, line by line as JSON, once it has ended well."""
    with process:
        out, _ = process.communicate(timeout=timeout)
    assert process.returncode == 0, out
    return [json.loads(line) for line in out.splitlines()]
