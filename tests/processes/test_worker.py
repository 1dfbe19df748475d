"""A worker's end of the link to its supervisor."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from services.errors import SettingError
from services.metrics import Metrics
from services.processes import worker as module
from services.processes.exposition import Family, families
from services.processes.link import (
    FROM_WORKER,
    Collect,
    Collected,
    FromWorker,
    Link,
    Ping,
    Pong,
    Ready,
    Reload,
    Reloaded,
    State,
    States,
)
from services.processes.worker import Worker, take_worker, worker_command
from tests.support.redis import until, within


class Supervised:
    """A worker, and the supervisor's end of its link."""

    def __init__(self, worker: Worker, link: Link) -> None:
        self.worker, self.link = worker, link
        self.ended = asyncio.Event()
        self.reloads = 0
        self._bodies: AsyncIterator[bytes] = link.bodies()

    async def next(self) -> FromWorker:
        message: FromWorker = FROM_WORKER.decode(await within(anext(self._bodies)))
        return message

    def own(self) -> list[Family]:
        return families(Metrics().registry)

    async def reload(self) -> bool:
        self.reloads += 1
        return True


@asynccontextmanager
async def supervised(number: int = 1, count: int = 2) -> AsyncIterator[Supervised]:
    ours, theirs = socket.socketpair()
    worker = Worker(number, count, theirs, [])
    pair = Supervised(worker, await Link.open(ours))
    await worker.serve(False, pair.own, pair.reload, pair.ended.set)
    assert await pair.next() == Ready(False)
    try:
        yield pair
    finally:
        await worker.close()
        pair.link.close()


@pytest.mark.gen_test
async def test_a_worker_answers_its_supervisor_and_ends_with_it() -> None:
    async with supervised() as pair:
        pair.link.send(Ping())
        assert await pair.next() == Pong()
        pair.link.send(Reload(7))
        assert await pair.next() == Reloaded(7, True)
        pair.link.send(States(("ready", "not_ready")))
        await until(lambda: pair.worker.other_states == ("not_ready",))
        for state in ("ready", "not_ready", "not_ready", "ready"):
            pair.worker.tell(state)
        assert [await pair.next(), await pair.next()] == [State("not_ready"), State("ready")]
        assert not pair.ended.is_set()
        pair.link.close()
        await within(pair.ended.wait())


@pytest.mark.gen_test
async def test_concurrent_requests_for_metrics_share_one_response() -> None:
    async with supervised() as pair:
        for _ in range(2):
            asked = [asyncio.create_task(pair.worker.expose(pair.own)) for _ in range(50)]
            message = await pair.next()
            assert isinstance(message, Collect)
            # A caller that arrives now must not get the earlier result, and shares the next one.
            asked_later = [asyncio.create_task(pair.worker.expose(pair.own)) for _ in range(50)]
            pair.link.send(Collected(message.number, {"2": pair.own()}))
            texts = await within(asyncio.gather(*asked))
            message = await pair.next()
            assert isinstance(message, Collect)
            assert not any(task.done() for task in asked_later)
            pair.link.send(Collected(message.number, {"2": pair.own()}))
            texts += await within(asyncio.gather(*asked_later))
            assert all(b'usher_sockets{process="2"}' in text for text in texts)
        pair.link.send(Ping())
        assert await pair.next() == Pong()


@pytest.mark.gen_test
async def test_without_a_reply_a_process_reports_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "COLLECT_SECONDS", 0.05)
    async with supervised(2, 2) as pair:
        text = await within(pair.worker.expose(pair.own))
        assert b'usher_sockets{process="2"}' in text
        assert b'process="1"' not in text


@pytest.mark.parametrize("whole", [0, 1, 2, 7, 1000])
def test_the_parts_of_all_are_the_whole(whole: int) -> None:
    workers: list[Any] = []
    for number in (1, 2, 3):
        ours, theirs = socket.socketpair()
        ours.close()
        workers.append(Worker(number, 3, theirs, []))
    parts = [worker.part(whole) for worker in workers]
    assert sum(parts) == whole
    assert max(parts) - min(parts) <= 1
    for worker in workers:
        worker.fail("", 1)  # whose supervisor has gone: nothing happens
        worker._socket.close()


def test_a_worker_takes_its_arguments_and_leaves_the_settings() -> None:
    ours, theirs = socket.socketpair()
    listening = socket.socket()
    words = worker_command(2, 3, theirs.detach(), [listening.detach()])
    arguments = [*words, "--port", "1"]
    worker = take_worker(arguments)
    assert worker is not None
    assert arguments == ["--port", "1"]
    assert (worker.number, worker.count, len(worker.listeners)) == (2, 3, 1)
    worker.fail("no", 2)
    with ours:
        assert b"no" in ours.recv(100)
    worker.listeners[0].close()
    worker._socket.close()


def test_arguments_not_from_a_supervisor_are_refused() -> None:
    reading, writing = os.pipe()
    try:
        for words in (["worker"], ["worker", "1", "2", str(reading), str(writing)]):
            with pytest.raises(SettingError, match="by hand"):
                take_worker(words)
    finally:
        os.close(reading)
        os.close(writing)
    assert take_worker(["--port", "1"]) is None
