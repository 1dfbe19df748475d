"""Repeated requests take effect once: on every node, after a failure, and after a crash."""

from __future__ import annotations

import asyncio

import pytest

from models.idempotency_key import IdempotencyKey
from services.backends.idempotency import (
    CLAIM_SECONDS,
    KEEP_SECONDS,
    Idempotency,
    KeyReused,
)
from services.composition.upkeep import Upkeep
from services.errors import NotFound
from tests.support.parts import Parts, node


class Act:
    """Something that is done."""

    def __init__(self) -> None:
        self.times = 0

    async def __call__(self) -> None:
        await asyncio.sleep(0.01)
        self.times += 1


async def refuse() -> None:
    raise NotFound("not there")


def idempotency(parts: Parts) -> Idempotency:
    return Idempotency(parts.database, parts.clock)


@pytest.mark.gen_test
async def test_of_many_at_once_on_two_nodes_one_acts_and_all_have_its_outcome(
    database_url: str,
) -> None:
    async with node(database_url) as here, node(database_url, clock=here.clock) as there:
        act = Act()
        both = [idempotency(here), idempotency(there)]
        await asyncio.gather(*(both[n % 2].once("me", "k", b"x", act) for n in range(50)))
        assert act.times == 1


@pytest.mark.gen_test
async def test_for_an_hour(database_url: str) -> None:
    async with node(database_url) as parts:
        act, once = Act(), idempotency(parts).once
        await once("me", "k", b"x", act)
        parts.clock.forward(KEEP_SECONDS - 1)
        await once("me", "k", b"x", act)
        assert act.times == 1
        with pytest.raises(KeyReused):
            await once("me", "k", b"y", act)
        parts.clock.forward(1)
        await once("me", "k", b"y", act)
        assert act.times == 2
        parts.clock.forward(KEEP_SECONDS + 1)
        await Upkeep(parts.database, parts.clock).purge()
        assert await parts.database.run(lambda db: IdempotencyKey.select().count(db)) == 0


@pytest.mark.gen_test
async def test_one_that_fails_lets_go(database_url: str) -> None:
    async with node(database_url) as parts:
        act, once = Act(), idempotency(parts).once
        with pytest.raises(NotFound):
            await once("me", "k", b"x", refuse)
        await once("me", "k", b"other", act)
        assert act.times == 1


@pytest.mark.gen_test
async def test_callers_and_keys_are_kept_apart(database_url: str) -> None:
    async with node(database_url) as parts:
        act, once = Act(), idempotency(parts).once
        for caller, key in (("me", "k"), ("you", "k"), ("me", "l"), ("mek", ""), ("m", "ek")):
            await once(caller, key, b"x", act)
        assert act.times == 5


@pytest.mark.gen_test
async def test_what_a_dead_process_had_in_hand_is_taken_over(database_url: str) -> None:
    async with node(database_url) as parts:
        act, once = Act(), idempotency(parts).once
        hung, begun = asyncio.Event(), asyncio.Event()

        async def dies() -> None:
            begun.set()
            await hung.wait()

        dead = asyncio.ensure_future(once("me", "k", b"x", dies))
        await begun.wait()
        waiting = asyncio.ensure_future(once("me", "k", b"x", act))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        parts.clock.forward(CLAIM_SECONDS)
        await waiting
        assert act.times == 1
        hung.set()
        await dead
        await once("me", "k", b"x", act)
        assert act.times == 1
