"""PROCESSES: several server processes on one port, as one server."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from benchmarks.machine import find_store
from services.event_loop.tasks import end_tasks
from tests.support.databases import kinds, slow
from tests.support.nodes import channel, let_in
from tests.support.preloaded import run_command
from tests.support.redis import until
from tests.support.server import (
    PATIENCE,
    Client,
    Usher,
    ask,
    close_code,
    connect,
    event,
    receive,
    sign_up,
    usher,
    wait_until,
)

# Two processes on one database file are what SQLite knows least; nodes are tested on PostgreSQL.
database_kind = kinds("sqlite", slow("postgresql"))
ENOUGH = 38
"""Sockets after which both processes have one: all on one has a chance of 1 in 10^11."""
MOST_SOCKETS, MOST_TICKETS = 40, 60
REDIS_UP = tuple(f'usher_redis_up{{process="{number}"}}' for number in (1, 2))


@pytest.fixture(scope="module", params=["direct", pytest.param("tornado", marks=pytest.mark.slow)])
def two(database_kind: str, request: pytest.FixtureRequest) -> Iterator[Usher]:
    """Shared by tests that kill its processes: each leaves both running."""
    limits = {"MAX_SOCKETS_PER_USER": MOST_SOCKETS, "LIMIT_TICKETS": MOST_TICKETS}
    form = {"WEBSOCKET": request.param, "LOG_FORMAT": "json"}
    with usher(database_kind, PROCESSES=2, **form, **limits) as server:
        yield server


def metrics(server: Usher) -> dict[str, float]:
    """The samples of /metrics, by name and labels as they are written."""
    text = Client(server).get("/metrics").text.decode()
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


def workers(server: Usher) -> dict[int, int]:
    """The process id of each worker, by its number."""
    listed = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(server.process.pid)],
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.findall(r"^ *(\d+) .*server\.py worker (\d+) ", listed.stdout, re.MULTILINE)
    return {int(number): int(pid) for pid, number in found}


def sockets(server: Usher) -> tuple[float, ...]:
    """How many sockets each process has."""
    reported = metrics(server)
    return tuple(reported[f'usher_sockets{{process="{number}"}}'] for number in (1, 2))


@asynccontextmanager
async def on_both_processes(server: Usher, client: Client) -> AsyncIterator[list[Any]]:
    """Sockets of one login session, at least one on each process."""
    await until(lambda: sum(sockets(server)) == 0)
    async with AsyncExitStack() as stack:
        opened: list[Any] = []
        for _ in range(ENOUGH):
            ticket = await asyncio.to_thread(client.ticket)
            socket = await stack.enter_async_context(connect(server, f"?ticket={ticket}"))
            await event(socket, "joined")
            opened.append(socket)
            assert sum(sockets(server)) == len(opened)
            if min(sockets(server)) > 0:
                break
        else:
            raise AssertionError(f"all sockets are on one process: {sockets(server)}")
        yield opened


def is_whole(server: Usher) -> bool:
    """Whether every process serves."""
    processes = Client(server).get("/readyz").body["processes"]
    return all(state == "ready" for state in processes)


@pytest.mark.gen_test(timeout=60)
async def test_a_logout_at_one_process_closes_the_sockets_of_both(two: Usher) -> None:
    ada = sign_up(two)
    async with on_both_processes(two, ada) as opened:
        assert (await asyncio.to_thread(ada.post, "/api/auth/logout")).status == 204
        codes = await asyncio.gather(*map(close_code, opened))
        assert codes == [4410] * len(opened)


@pytest.mark.gen_test(timeout=60)
async def test_metrics_are_whole_whichever_process_is_asked(two: Usher) -> None:
    ada = sign_up(two)
    async with on_both_processes(two, ada) as opened:
        for _ in range(10):  # each a new connection
            reported = metrics(two)
            assert sum(reported[f'usher_sockets{{process="{n}"}}'] for n in (1, 2)) == len(opened)
            assert all(reported[f'usher_process_up{{process="{n}"}}'] == 1 for n in (1, 2))
            assert reported['usher_embedded_redis_restarts_total{process="supervisor"}'] == 0
            assert {f'usher_database_up{{process="{n}"}}' for n in (1, 2)} <= reported.keys()
    text = Client(two).get("/metrics").text.decode()
    families = re.findall(r"^# TYPE (\w+) ", text, re.MULTILINE)
    assert len(families) == len(set(families))


@pytest.mark.gen_test(timeout=60)
async def test_a_user_on_both_processes_is_present_once_and_receives_every_message(
    two: Usher,
) -> None:
    ada = sign_up(two)
    room = channel(ada)
    async with on_both_processes(two, ada) as opened:
        for socket in opened:
            assert (await ask(socket, "presence", {"room": room}))["data"]["users"] == [
                {"id": ada.user["id"], "name": "Ada"}
            ]
        said = await ask(opened[0], "message", {"room": room, "data": "tea"})
        received = await asyncio.gather(*(event(socket, "message") for socket in opened[1:]))
        assert {message["id"] for message in received} == {said["data"]["id"]}


@pytest.mark.gen_test(timeout=60)
async def test_limits_hold_over_both_processes(two: Usher) -> None:
    ada = sign_up(two)
    async with AsyncExitStack() as stack:
        reported = []
        for _ in range(MOST_SOCKETS + 3):
            ticket = await asyncio.to_thread(ada.ticket)
            socket = await stack.enter_async_context(connect(two, f"?ticket={ticket}"))
            frame = await receive(socket)
            reported.append(frame["data"].get("code", frame["event"]))
        assert reported == ["joined"] * MOST_SOCKETS + [4429] * 3
        assert min(sockets(two)) > 0
    left = MOST_TICKETS - len(reported)
    statuses = [ada.post("/api/ws/ticket").status for _ in range(left + 3)]
    assert statuses == [201] * left + [429] * 3


@pytest.mark.gen_test(timeout=90)
async def test_a_killed_process_comes_back_and_the_sockets_of_the_other_go_on(two: Usher) -> None:
    ada, bob = sign_up(two), sign_up(two)
    restarts = metrics(two)['usher_process_restarts_total{process="2"}']
    async with on_both_processes(two, ada) as opened:
        first, second = sockets(two)
        before = workers(two)
        os.kill(before[2], signal.SIGKILL)
        reading = {asyncio.create_task(close_code(socket)): socket for socket in opened}
        for _ in range(int(second)):
            ended, _ = await asyncio.wait(
                reading, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED
            )
            task = ended.pop()
            assert task.result() == 1006
            del reading[task]
        await end_tasks(*reading)
        assert len(reading) == first
        for socket in reading.values():
            assert (await ask(socket, "heartbeat"))["ok"]
        # What arrives meanwhile waits, and is not refused.
        assert [sign_up(two).user["role"] for _ in range(4)] == ["user"] * 4
        await until(lambda: is_whole(two))
        after = workers(two)
        assert after[1] == before[1]
        assert after[2] != before[2]
        assert metrics(two)['usher_process_restarts_total{process="2"}'] == restarts + 1
    async with on_both_processes(two, bob):
        pass
    assert "process 2 ended by itself (SIGKILL); it is started again" in two.log


@pytest.mark.slow
@pytest.mark.gen_test(timeout=120)
async def test_what_a_killed_process_had_is_gone_when_its_lease_is_over(two: Usher) -> None:
    ada = sign_up(two)
    room = channel(ada)
    async with on_both_processes(two, ada) as opened:
        first, second = sockets(two)
        bob = sign_up(two)
        let_in(ada, room, bob)
        await until(lambda: live_sockets(ada) == len(opened))
        os.kill(workers(two)[2], signal.SIGKILL)
        await until(lambda: is_whole(two))
        assert live_sockets(ada) > first
        await until(lambda: live_sockets(ada) == first, 60)
    await until(lambda: live_sockets(ada) == 0)
    assert second > 0


def live_sockets(client: Client) -> int:
    """How many sockets the login session is said to have."""
    (session,) = client.get("/api/sessions").body["items"]
    count: int = session["live_sockets"]
    return count


def test_a_process_that_is_told_to_stop_is_replaced_and_no_connection_refused(two: Usher) -> None:
    before = workers(two)
    os.kill(before[1], signal.SIGTERM)
    wait_until(lambda: is_over(before[1]))
    for _ in range(20):
        assert Client(two).get("/healthz").status == 200
    wait_until(lambda: is_whole(two))
    assert workers(two)[2] == before[2]


@pytest.mark.gen_test(timeout=60)
async def test_a_redis_that_was_killed_comes_back_for_both_processes(two: Usher) -> None:
    name = 'usher_embedded_redis_restarts_total{process="supervisor"}'
    restarts = metrics(two)[name]
    ada = sign_up(two)
    room = channel(ada)
    async with on_both_processes(two, ada) as opened:
        store = find_store(two.process.pid)
        assert store is not None
        os.kill(store, signal.SIGKILL)
        await until(lambda: metrics(two)[name] == restarts + 1)
        await until(lambda: all(metrics(two)[up] == 1 for up in REDIS_UP))
        for socket in opened:
            assert (await ask(socket, "heartbeat"))["ok"]
        said = None
        while said is None or not said["ok"]:  # the rooms are subscribed to anew
            said = await ask(opened[0], "message", {"room": room, "data": "tea"})
        heard = await asyncio.gather(*(event(socket, "message") for socket in opened[1:]))
        assert {message["id"] for message in heard} == {said["data"]["id"]}


@pytest.mark.gen_test(timeout=90)
async def test_sigterm_closes_the_sockets_of_all_processes_and_leaves_none(two: Usher) -> None:
    ada = sign_up(two)
    async with on_both_processes(two, ada) as opened:
        left, began = workers(two), len(two.output)
        closing = [asyncio.create_task(close_code(socket)) for socket in opened]
        two.process.send_signal(signal.SIGTERM)
        assert await asyncio.gather(*closing) == [1012] * len(opened)
    assert await asyncio.to_thread(two.end) == 0
    assert len(left) == 2
    assert all(map(is_over, left.values()))
    logged = [json.loads(line) for line in two.output[began:] if line.startswith("{")]
    stopping = [each["process"] for each in logged if "stopping" in each.get("message", "")]
    assert sorted(stopping) == [1, 2]
    closed = {each["process"] for each in logged if each.get("kind") == "socket.closed"}
    assert closed == {1, 2}
    two.restart()
    assert ada.get("/api/auth/me").status == 200


def test_workers_of_a_killed_supervisor_end_and_the_server_can_be_started_again(
    two: Usher,
) -> None:
    ada = sign_up(two)
    left = workers(two)
    two.end(signal.SIGKILL)
    wait_until(lambda: all(map(is_over, left.values())))
    two.restart()
    assert ada.get("/api/auth/me").status == 200


def is_over(pid: int) -> bool:
    """Whether a process has ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_both_processes_read_their_secrets_anew(two: Usher) -> None:
    ada = sign_up(two)
    done = run_command(two.environment, "rotate-jwt", "--json", timeout=PATIENCE * 2)
    reported = json.loads(done.stdout)
    assert (reported["reloaded"], reported["secrets"]) == (two.process.pid, 2)

    def have_read() -> list[int]:
        logged = [json.loads(line) for line in list(two.output) if line.startswith("{")]
        read = "settings are read anew: USHER_JWT_SECRETS"
        return sorted(line["process"] for line in logged if line.get("message") == read)

    wait_until(lambda: have_read() == [1, 2])
    for _ in range(6):
        assert ada.get("/api/auth/me").status == 200


@pytest.mark.parametrize("processes", [1, 2])
def test_a_port_in_use_is_one_line_and_status_2(two: Usher, processes: int) -> None:
    settings: dict[str, object] = {
        "PORT": two.port,
        "PROCESSES": processes,
        "DATA_DIR": f"{two.data_dir}-other",
    }
    environment = {k: v for k, v in two.environment.items() if not k.startswith("USHER_")}
    environment |= {f"USHER_{name}": str(value) for name, value in settings.items()}
    ended = run_command(environment, timeout=PATIENCE)
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"usher: USHER_PORT: got {two.port} on 127.0.0.1 (Address already in")


def test_a_certificate_that_is_not_there_is_one_line_for_all_processes(two: Usher) -> None:
    pair = {"USHER_TLS_CERTIFICATE": "/nowhere/c.pem", "USHER_TLS_KEY": "/nowhere/k.pem"}
    ended = run_command(two.environment | pair | {"USHER_PORT": "0"}, timeout=PATIENCE)
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith("usher: USHER_TLS_CERTIFICATE: got /nowhere/c.pem (No such file")


def test_a_worker_is_not_started_by_hand(two: Usher) -> None:
    for words in (["worker"], ["worker", "1", "2", "9999", "9998"], ["worker", "1", "2", "0", "1"]):
        ended = run_command(two.environment, *words, timeout=PATIENCE)
        assert ended.returncode == 2
        (line,) = ended.stderr.splitlines()
        assert line.startswith("usher: worker: got a start by hand, takes nothing")
