"""Every case of the kit fails on a server with a defect, and on no server without one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest

from conformance.provider import Provider, running
from conformance.runner import run
from conformance.table import CASES, Case
from conformance.target import Target
from conformance.verdict import Outcome, Result
from tests.conformance_kit.defects import DEFECTS, OpenHouse, Planted
from tests.conformance_kit.installation import one_node
from tests.support.middle_server import Defect, between

SHORT = 2.0
"""Seconds that a planted defect is waited for. What is broken stays so on a busy machine."""
LIFE = 8
"""Seconds, of a token that is waited for."""
MANY, AT_ONCE = 8, 10
"""So many cases are run side by side, and so many at one time."""
QUICK = ("wrong reason", "refuses", "replies twice", "looks at cookies", "talkative", "careless")


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    with one_node("sqlite") as running_target:
        yield running_target


def checked(target: Target, defect: Defect, ids: tuple[str, ...], patience: float) -> list[Result]:
    """Run cases against a server with a defect."""
    cases: list[Case] = [case for case in CASES if case.id in ids]
    assert len(cases) == len(ids)

    async def run_between() -> list[Result]:
        async with between(target.near, defect) as middle:
            there = replace(target, nodes=(middle.url,), patience=patience, allowance=patience / 2)
            if len(cases) < MANY:
                return [*(await run(there, cases, provider)).results]
            return await side_by_side(there, cases, provider)

    assert target.provider is not None
    with running(target.provider) as provider:
        return asyncio.run(run_between())


async def side_by_side(target: Target, cases: list[Case], provider: Provider) -> list[Result]:
    """Each case in a run of its own, with users of its own. Most of them wait most of the time."""
    places = asyncio.Semaphore(AT_ONCE)

    async def alone(case: Case) -> list[Result]:
        async with places:
            return [*(await run(target, [case], provider)).results]

    # Limits are those of the address, and so of all.
    limits = [case for case in cases if case.id.startswith("limit-")]
    results = await asyncio.gather(*(alone(case) for case in cases if case not in limits))
    results += [await alone(case) for case in limits]
    return [result for some in results for result in some]


def finds(target: Target, planted: Planted) -> None:
    report = checked(target, planted.make(target.origin), planted.breaks, SHORT)
    missed = [result for result in report if result.outcome is not Outcome.BROKEN]
    assert not missed
    kept = checked(target, planted.make(target.origin), (planted.leaves,), target.patience)
    assert [result.outcome for result in kept] == [Outcome.KEPT], kept


@pytest.mark.parametrize("name", QUICK)
def test_a_planted_defect_is_found(target: Target, name: str) -> None:
    finds(target, DEFECTS[name])


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", [name for name in DEFECTS if name not in QUICK])
def test_a_planted_defect_is_found_that_takes_its_time(target: Target, name: str) -> None:
    finds(target, DEFECTS[name])


def test_every_case_is_broken_by_a_defect() -> None:
    broken = {case_id for planted in DEFECTS.values() for case_id in planted.breaks}
    assert {case.id for case in CASES} - broken == {"expired"}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_server_between_that_changes_nothing_breaks_nothing(target: Target) -> None:
    ids = tuple(case.id for case in CASES if case.id != "expired")
    report = checked(target, Defect(), ids, target.patience)
    assert [result for result in report if result.outcome is not Outcome.KEPT] == []


@pytest.mark.slow
def test_a_token_that_expires_is_kept_and_one_that_does_not_is_found() -> None:
    with one_node("sqlite", ACCESS_TOKEN_TTL_SECONDS=LIFE) as target:
        kept = checked(target, Defect(), ("expired",), target.patience)
        broken = checked(target, OpenHouse(), ("expired",), SHORT)
    assert [kept[0].outcome, broken[0].outcome] == [
        Outcome.KEPT,
        Outcome.BROKEN,
    ], (kept, broken)
