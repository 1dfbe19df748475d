"""A real PgBouncer in front of the tests' PostgreSQL, as a hoster sets it up."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from tests.support.server import PATIENCE, free_port
from tests.support.tools import need

SERVER_CONNECTIONS = 3


@contextmanager
def pgbouncer(database_url: str, pool_mode: str = "transaction") -> Iterator[str]:
    """The URL of a database behind a PgBouncer on its defaults, with few server connections.

    Args:
        database_url: one of tests/support/databases.py.
    """
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    found = shutil.which("pgbouncer", path=path)
    binary = Path(found) if found else need("apt-get install pgbouncer", "pgbouncer")
    parts = urlsplit(database_url)
    socket_folder = parse_qs(parts.query)["host"][0]
    folder, port = Path(tempfile.mkdtemp(prefix="usher-pgb-")), free_port()
    configuration = folder / "pgbouncer.ini"
    configuration.write_text(
        f"""[databases]
* = host={socket_folder} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = {pool_mode}
default_pool_size = {SERVER_CONNECTIONS}
"""
    )
    command = [os.fspath(binary)]
    if os.geteuid() == 0:  # it refuses to run as root; the socket is its owner's only
        folder.chmod(0o755)
        command += ["-u", Path(socket_folder).owner()]
    process = subprocess.Popen(
        [*command, os.fspath(configuration)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        _wait_until_up(process)
        yield f"postgresql://postgres@127.0.0.1:{port}{parts.path}"
    finally:
        process.kill()
        process.communicate()
        shutil.rmtree(folder)


def _wait_until_up(process: subprocess.Popen[str]) -> None:
    assert process.stderr is not None
    end, said = time.monotonic() + PATIENCE, ""
    while "process up" not in said:
        line = process.stderr.readline()
        assert line, f"pgbouncer does not start: {said}"
        assert time.monotonic() < end
        said += line
