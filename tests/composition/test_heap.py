"""composition/heap.py: what Argon2 took is given back, and not while it is needed."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from services.accounts.passwords import Passwords
from services.composition import heap as module
from services.composition.heap import Heap

HASHES = """
import asyncio
from services.accounts.passwords import Passwords
from services.composition.heap import Heap, use_one_arena

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 1e6

async def main():
    pools = [Passwords(workers=4) for _ in range(3)]
    heap = Heap(pools[0])

    async def hashed_and_given_back():
        await asyncio.gather(*(each.hash("x") for each in pools for _ in range(4)))
        await heap.give_back()
        await heap.give_back()
        return resident()

    print(await hashed_and_given_back(), await hashed_and_given_back())

assert use_one_arena({})
asyncio.run(main())
"""
MOST_MB = 75.0
"""Measured: 45. Without giving back 105, with arenas for threads 284."""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has arenas and trims")
def test_the_memory_of_hashes_is_given_back() -> None:
    """In a process of its own: the arenas of this one are there already."""
    environment = {k: v for k, v in os.environ.items() if k != "MALLOC_ARENA_MAX"}
    found = subprocess.run(
        [sys.executable, "-c", HASHES], capture_output=True, text=True, env=environment, check=True
    )
    before, after = map(float, found.stdout.split())
    # Without it, several hashes stay in each of the arenas of twelve threads.
    assert max(before, after) < MOST_MB


@pytest.mark.gen_test
async def test_memory_is_given_back_once_nothing_is_hashed(monkeypatch: pytest.MonkeyPatch) -> None:
    trims: list[int] = []
    passwords = Passwords(workers=1)
    monkeypatch.setattr(module, "trim", lambda: trims.append(passwords.calls))
    heap = Heap(passwords)
    try:
        for _ in range(3):  # what was hashed at the start is given back once
            await heap.give_back()
        assert trims == [0]
        for _ in range(3):  # not while passwords are hashed
            await passwords.hash("correct horse battery staple")
            await heap.give_back()
        assert trims == [0]
        for _ in range(3):
            await heap.give_back()
        assert trims == [0, 3]
    finally:
        passwords.close()


@pytest.mark.parametrize(
    ("name", "value"),
    [("MALLOC_ARENA_MAX", "4"), ("GLIBC_TUNABLES", "glibc.malloc.arena_max=4")],
)
def test_the_environment_may_say_how_many_arenas_there_are(name: str, value: str) -> None:
    assert not module.use_one_arena({name: value})
