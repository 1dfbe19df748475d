"""The supervisor with real processes."""

from __future__ import annotations

import asyncio
import socket
import sys

import msgspec
import pytest

from services.processes import place
from services.processes import supervisor as module
from services.processes.link import Failed, Ready, encode
from services.processes.supervisor import Supervisor, WorkerFailed
from tests.support.redis import within

PROGRAM = """
import os, signal, socket, sys, time
_, word, number, count, link, listeners, *rest = sys.argv
def say(hexed):
    socket.socket(fileno=os.dup(int(link))).sendall(bytes.fromhex(hexed))
"""
READY, FAILED = encode(Ready(False)).hex(), encode(Failed("usher: USHER_X: got 1", 2)).hex()


def supervisor(program: str, processes: int = 2, stop_seconds: float = 20.0) -> Supervisor:
    command = [sys.executable, "-S", "-E", "-c", PROGRAM + program]
    sockets = [[socket.socket()] for _ in range(processes)]
    return Supervisor(command, [], sockets, list, stop_seconds)


async def run(
    program: str, processes: int = 2, stop_seconds: float = 20.0, stops: bool = True
) -> list[bool]:
    """Run to the end; with `stops` it is stopped once all serve. Returns what it said when
    ready."""
    stopping, said = asyncio.Event(), list[bool]()

    def on_ready(anybody: bool) -> None:
        said.append(anybody)
        if stops:
            stopping.set()

    await within(supervisor(program, processes, stop_seconds).run(stopping, on_ready), 60)
    return said


@pytest.mark.gen_test(timeout=70)
async def test_workers_are_started_said_to_be_ready_once_and_stopped() -> None:
    assert await run(f"say('{READY}'); time.sleep(600)", processes=3) == [False]


@pytest.mark.gen_test(timeout=70)
async def test_a_worker_that_cannot_start_ends_the_whole_with_its_own_line_and_status() -> None:
    program = f"""
if number == "2":
    say('{FAILED}')
    sys.exit(2)
say('{READY}')
time.sleep(600)
"""
    with pytest.raises(WorkerFailed) as caught:
        await run(program)
    assert (caught.value.line, caught.value.status) == ("usher: USHER_X: got 1", 2)


@pytest.mark.gen_test(timeout=70)
async def test_a_worker_that_ends_before_it_serves_ends_the_whole() -> None:
    for end, said in (("sys.exit(3)", "exit status 3"), ("os.kill(os.getpid(), 9)", "SIGKILL")):
        with pytest.raises(WorkerFailed) as caught:
            await run(end, processes=1)
        assert (
            caught.value.line == f"usher: cannot start: process 1 ended ({said}) before it served"
        )
        assert caught.value.status == 1


@pytest.mark.gen_test(timeout=70)
async def test_a_worker_that_ends_at_once_again_and_again_ends_the_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "FIRST_DELAY_SECONDS", 0.001)
    monkeypatch.setattr(module, "STEADY_SECONDS", 1000.0)
    with pytest.raises(WorkerFailed) as caught:
        await run(f"say('{READY}'); sys.exit(4)", processes=1, stops=False)
    assert caught.value.line == "usher: stopped: process 1 ended 5 times at once (exit status 4)"
    assert caught.value.status == 1


@pytest.mark.gen_test(timeout=70)
async def test_a_worker_that_stands_still_is_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "FIRST_DELAY_SECONDS", 0.001)
    monkeypatch.setattr(module, "STEADY_SECONDS", 1000.0)
    monkeypatch.setattr(module, "PING_SECONDS", 0.02)
    with pytest.raises(WorkerFailed, match=r"process 1 ended 5 times at once \(SIGKILL\)"):
        await run(f"say('{READY}'); time.sleep(600)", processes=1, stops=False)


@pytest.mark.gen_test(timeout=70)
async def test_a_worker_that_never_serves_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "START_SECONDS", 0.1)
    monkeypatch.setattr(module, "PING_SECONDS", 0.02)
    with pytest.raises(WorkerFailed, match=r"process 1 ended \(SIGKILL\) before it served"):
        await run("time.sleep(600)", processes=1, stops=False)


@pytest.mark.gen_test(timeout=70)
async def test_what_no_worker_says_ends_the_whole() -> None:
    with pytest.raises(msgspec.DecodeError):
        await run("say('00000001c1'); time.sleep(600)", processes=2, stops=False)


@pytest.mark.gen_test(timeout=70)
async def test_a_worker_that_does_not_stop_is_killed() -> None:
    program = f"signal.signal(signal.SIGTERM, signal.SIG_IGN); say('{READY}'); time.sleep(600)"
    assert await run(program, stop_seconds=0.1) == [False]


@pytest.mark.gen_test(timeout=70)
async def test_a_program_that_is_not_there_is_a_worker_that_cannot_start() -> None:
    missing = Supervisor(["/nowhere/python"], [], [[socket.socket()]], list, 1.0)
    with pytest.raises(WorkerFailed, match="No such file or directory"):
        await within(missing.run(asyncio.Event(), lambda _: None))
