"""Worker threads for calls to providers: bounded, and separate for each provider."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from services.oauth.calls import ProviderCalls
from services.oauth.errors import ProviderBusy, ProviderUnavailable
from services.providers.registry import Providers
from tests.support.oauth import settings_of
from tests.support.parts import ISSUER
from tests.support.provider import provider
from tests.support.redis import PATIENCE, until, within
from tests.support.server import PATIENCE as SERVERS_PATIENCE


class Held:
    """Work that a thread does until the test lets it go."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.let_go = threading.Event()
        self.count = 0
        self._lock = threading.Lock()

    def __call__(self) -> str:
        with self._lock:
            self.count += 1
        self.begun.release()
        assert self.let_go.wait(PATIENCE)
        return "done"

    async def under_way(self, count: int) -> None:
        await until(lambda: self.count >= count)


@contextmanager
def threads(**options: Any) -> Iterator[ProviderCalls]:
    calls = ProviderCalls("test", **options)
    try:
        yield calls
    finally:
        calls.close()


def started(calls: ProviderCalls, work: Callable[[], Any], **how: Any) -> asyncio.Task[Any]:
    return asyncio.get_running_loop().create_task(calls.run(work, **how))


@pytest.mark.gen_test
async def test_work_runs_in_a_thread_and_gives_its_result_or_its_error() -> None:
    with threads() as calls:
        assert await calls.run(threading.get_ident) != threading.get_ident()
        with pytest.raises(KeyError, match="missing"):
            await calls.run(lambda: dict[str, str]()["missing"])


@pytest.mark.gen_test
async def test_as_many_calls_as_threads_are_in_progress_and_the_rest_wait() -> None:
    work = Held()
    with threads(threads=2, max_waiting=3) as calls:
        running = [started(calls, work) for _ in range(5)]
        await work.under_way(2)
        assert work.count == 2
        work.let_go.set()
        assert await within(asyncio.gather(*running)) == ["done"] * 5


@pytest.mark.gen_test
async def test_a_full_queue_is_reported_at_once() -> None:
    work = Held()
    with threads(threads=1, max_waiting=2) as calls:
        running = [started(calls, work) for _ in range(3)]
        await work.under_way(1)
        with pytest.raises(ProviderBusy, match="too many"):
            await within(calls.run(work), 1.0)
        work.let_go.set()
        await within(asyncio.gather(*running))
        assert await calls.run(work) == "done", "the places are free again"


@pytest.mark.gen_test
async def test_a_cancelled_caller_releases_its_slot_only_when_the_thread_is_done() -> None:
    work = Held()
    with threads(threads=1, max_waiting=0, give_up=0.5) as calls:
        with pytest.raises(ProviderUnavailable, match="no answer in time"):
            await calls.run(work)
        with pytest.raises(ProviderBusy):
            await calls.run(work)
        work.let_go.set()
        await until(lambda: calls._places._value == 1)
        assert await calls.run(lambda: "free") == "free"


@pytest.mark.gen_test
async def test_work_that_waited_too_long_never_begins() -> None:
    first, second = Held(), Held()
    with threads(threads=1, max_waiting=1, give_up=0.5) as calls:
        before = started(calls, first)
        await first.under_way(1)
        with pytest.raises(ProviderUnavailable):
            await calls.run(second, to_its_end=True)
        with pytest.raises(ProviderUnavailable):
            await before
        first.let_go.set()
        second.let_go.set()
        assert await calls.run(lambda: second.count) == 0


@pytest.mark.gen_test
async def test_work_whose_result_must_not_be_lost_is_waited_for_once_it_has_begun() -> None:
    late = Held()
    with threads(threads=1, give_up=1.5) as calls:
        patient = started(calls, late, to_its_end=True)
        with pytest.raises(ProviderUnavailable):
            await started(calls, lambda: "behind it")
        late.let_go.set()
        assert await within(patient) == "done", "its time was up, and it was under way"


@pytest.mark.gen_test
async def test_but_not_for_ever() -> None:
    work = Held()
    with threads(threads=1, give_up=0.1) as calls:
        with pytest.raises(ProviderUnavailable, match="no answer in time"):
            await within(calls.run(work, to_its_end=True))
        work.let_go.set()


@pytest.mark.gen_test
async def test_a_caller_that_is_cancelled_takes_waiting_work_with_it_and_no_other() -> None:
    first, second = Held(), Held()
    with threads(threads=1) as calls:
        running, waiting = started(calls, first), started(calls, second)
        await first.under_way(1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        first.let_go.set()
        assert await within(running) == "done"
        assert await calls.run(lambda: second.count) == 0


@pytest.mark.gen_test
async def test_closing_notifies_waiters_and_lets_work_in_progress_end() -> None:
    work = Held()
    with threads(threads=1) as calls:
        running, waiting = started(calls, work), started(calls, work)
        await work.under_way(1)
        calls.close()
        with pytest.raises(ProviderBusy, match="stopping"):
            await within(waiting, 1.0)
        with pytest.raises(ProviderBusy, match="stopping"):
            await calls.run(work)
        work.let_go.set()
        assert await within(running) == "done"


@pytest.mark.gen_test
async def test_a_provider_that_hangs_blocks_no_other() -> None:
    with provider() as hanging, provider() as sound:
        hanging.misbehave(discovery="held")
        providers = Providers(
            (settings_of(hanging, "hanging"), settings_of(sound, "sound")), ISSUER
        )
        loop = asyncio.get_running_loop()
        ask = providers.get("hanging").ask
        stuck = [loop.create_task(ask(lambda p: p.check_issuer(None))) for _ in range(20)]
        await asyncio.to_thread(hanging.wait_for, hanging.path("discovery"), 1, SERVERS_PATIENCE)
        await within(providers.get("sound").ask(lambda p: p.check_issuer(sound.issuer)), 4.0)
        assert not any(call.done() for call in stuck)
        hanging.behave()
        for call in stuck:
            with pytest.raises(Exception, match="iss is missing"):
                await within(call)
        providers.close()
