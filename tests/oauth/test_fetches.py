"""Concurrent callers share a fetch and its failure; unauthenticated clients cause few fetches."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

import pytest

from services.oauth.errors import ProviderUnavailable
from services.oauth.fetches import UNAUTHENTICATED_SECONDS, Fetches
from tests.support.parts import Clock
from tests.support.server import PATIENCE


def fails() -> NoReturn:
    raise ProviderUnavailable("the provider hangs up")


def test_a_fetch_returns_its_result_and_a_failure_is_not_cached() -> None:
    fetches = Fetches(Clock())
    with pytest.raises(ProviderUnavailable, match="hangs up"):
        fetches.make(fails, fetches.failed)
    assert fetches.make(lambda: "document", fetches.failed) == "document"


def test_waiters_of_a_failed_fetch_do_not_retry() -> None:
    fetches, calls = Fetches(Clock()), 0
    waiting = threading.Semaphore(0)
    let_go = threading.Event()

    def fetch() -> NoReturn:
        nonlocal calls
        calls += 1
        assert let_go.wait(PATIENCE)
        fails()

    def ask() -> None:
        failed = fetches.failed
        waiting.release()
        with fetches.lock:
            fetches.make(fetch, failed)

    with ThreadPoolExecutor(10) as pool:
        asking = [pool.submit(ask) for _ in range(10)]
        for _ in asking:
            assert waiting.acquire(timeout=PATIENCE)
        let_go.set()
        for call in asking:
            with pytest.raises(ProviderUnavailable, match="hangs up"):
                call.result(PATIENCE)
    assert calls == 1


def test_unauthenticated_clients_cause_a_fetch_now_and_then_and_others_whenever_they_need_one() -> (
    None
):
    clock = Clock()
    fetches = Fetches(clock)
    assert fetches.allowed(unauthenticated=True)
    assert not fetches.allowed(unauthenticated=True)
    assert fetches.allowed(unauthenticated=False)
    clock.forward(UNAUTHENTICATED_SECONDS - 0.1)
    assert not fetches.allowed(unauthenticated=True)
    clock.forward(0.2)
    assert fetches.allowed(unauthenticated=True)
