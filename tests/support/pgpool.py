"""A real Pgpool-II in front of a PostgreSQL primary and its standby."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.postgres_pair import HOST, NAME, PostgresPair
from tests.support.programs import end
from tests.support.server import PATIENCE, free_port
from tests.support.tools import find_program

CONFIGURATION = """
backend_clustering_mode = 'streaming_replication'
listen_addresses = '{host}'
port = {port}
unix_socket_directories = '{folder}'
pcp_listen_addresses = ''
pcp_port = {pcp}
pcp_socket_dir = '{folder}'
wd_ipc_socket_dir = '{folder}'
pid_file_name = '{folder}/pgpool.pid'
logdir = '{folder}'
backend_hostname0 = '{host}'
backend_port0 = {first}
backend_hostname1 = '{host}'
backend_port1 = {second}
sr_check_user = 'postgres'
sr_check_database = 'postgres'
sr_check_period = 1
pool_passwd = ''
num_init_children = 24
load_balance_mode = off
"""


@contextmanager
def pgpool(pair: PostgresPair) -> Iterator[str]:
    """The DATABASE_URL of a Pgpool, which sends everything to the primary."""
    program = find_program("pgpool", "pgpool2")
    folder, port = Path(tempfile.mkdtemp(prefix="usher-pgp-")), free_port()
    first, second = pair.ports
    file = folder / "pgpool.conf"
    file.write_text(
        CONFIGURATION.format(
            host=HOST,
            port=port,
            pcp=free_port(),
            folder=folder,
            first=first,
            second=second,
        )
    )
    (folder / "empty").touch()
    command = [str(program), "-n", "-f", str(file), "-F", str(folder / "empty")]
    command += ["-a", str(folder / "empty")]
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        patience = time.monotonic() + PATIENCE
        while not pair.answers(port):
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < patience, (folder / "log").read_text()
            time.sleep(0.1)
        yield f"postgresql://postgres@{HOST}:{port}/{NAME}"
    finally:
        end(process)
        shutil.rmtree(folder, ignore_errors=True)
