"""Cancelling tasks."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from services.event_loop.tasks import end_tasks


async def tries_again(refused: asyncio.Future[None]) -> None:
    """As a loop that keeps a connection up: what fails is tried again a little later."""
    while True:
        with suppress(OSError):
            await asyncio.wait_for(asyncio.shield(refused), 60)
        await asyncio.sleep(60)


@pytest.mark.gen_test
async def test_a_loop_ends_though_its_attempt_fails_in_the_turn_in_which_it_is_cancelled() -> None:
    """Before Python 3.12 the cancellation was lost, and the end waited for ever."""
    refused: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(tries_again(refused))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    refused.set_exception(ConnectionRefusedError())
    await asyncio.sleep(0)
    await asyncio.wait_for(end_tasks(task), 10)
    assert task.cancelled()


@pytest.mark.gen_test
async def test_what_ended_before_what_failed_and_none_are_accepted() -> None:
    async def fails() -> None:
        raise ValueError

    ended, failed = asyncio.create_task(asyncio.sleep(0)), asyncio.create_task(fails())
    await asyncio.sleep(0.01)
    await end_tasks(ended, failed, None)
    await end_tasks()
    assert ended.done()
    assert failed.done()


@pytest.mark.gen_test
async def test_a_task_that_takes_its_time_to_end_is_waited_for() -> None:
    steps: list[str] = []

    async def slow_to_end() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            for _ in range(3):
                with suppress(asyncio.CancelledError):
                    await asyncio.sleep(0.15)
            steps.append("ended")
            raise

    task = asyncio.create_task(slow_to_end())
    await asyncio.sleep(0)
    await end_tasks(task)
    assert steps == ["ended"]
