"""An embedded redis-server in a folder of the test."""

from __future__ import annotations

import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.embedded.binary import find_redis_server
from services.embedded.redis_server import EmbeddedRedis
from services.redis.store_redis import RedisStore
from tests.support.redis import PATIENCE

ROOT = Path(__file__).parents[2]
BINARY = find_redis_server() or Path("redis-server")


@pytest.fixture(params=["uvloop", "asyncio"])
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def data_dir() -> Iterator[Path]:
    # Short, so that the socket lies in it: pytest's own folders are long.
    with tempfile.TemporaryDirectory(prefix="usher-test-") as folder:
        yield Path(folder)


def embedded(data_dir: Path, binary: Path = BINARY, **options: Any) -> EmbeddedRedis:
    return EmbeddedRedis(data_dir, binary, **options)


async def say(server: EmbeddedRedis, *commands: tuple[str, ...]) -> list[Any]:
    store = RedisStore(server.url, timeout=PATIENCE)
    await store.connect()
    try:
        return await store.call(*commands)
    finally:
        await store.close()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def written(folder: Path) -> list[Path]:
    """The append-only files: one in Redis 6.2, a folder of them in later servers."""
    return [path for path in folder.glob("appendonlydir/*") if path.is_file()] + [
        path for path in folder.glob("appendonly.aof") if path.is_file()
    ]


def replaced(server: EmbeddedRedis, pid: int) -> bool:
    return server.pid not in (None, pid)


def seen_back(changes: list[bool], times: int) -> bool:
    return changes.count(True) == times and changes[-1]


def environment(pid: int | None) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()
