"""The embedded redis-server: start, stop, and never two at once."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from services.embedded.redis_server import SOCKET_PATH_BYTES
from services.errors import StoreUnavailable
from services.redis.store_redis import RedisStore
from tests.embedded.servers import (
    BINARY,
    ROOT,
    data_dir,
    embedded,
    environment,
    loop,
    mode,
    replaced,
    say,
    seen_back,
    written,
)
from tests.support.redis import PATIENCE, alive, answers, run, until, within

__all__ = ["data_dir", "loop"]

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
