"""Every case of the kit fails on a server with a defect, and on no server without one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from conformance.provider import Provider
from conformance.runner import run
from conformance.table import CASES
from conformance.target import Target
from conformance.verdict import Outcome, Result
from tests.conformance_kit.defects import DEFECTS, ON_A_SERVER_OF_THEIR_OWN, Planted
from tests.conformance_kit.installation import kits_own_provider, one_node
from tests.support.middle_server import Defect, between

SHORT = 2.0
"""Seconds that a planted defect is waited for. What is broken stays so on a busy machine."""
LIFE, STEP_UP = 14, 8
"""Seconds, of a token and of a proof that are waited for."""
AT_ONCE, MOST_AT_ONCE = 2, 8
"""For so many cases there is one more at a time: most of them wait most of the time."""
QUICK = ("wrong reason", "replies twice", "looks at cookies", "talkative")


@pytest.fixture(scope="module")
def target(provider: Provider) -> Iterator[Target]:
    with one_node("sqlite", provider.settings) as running_target:
        yield replace(running_target, exhaust=False)


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with kits_own_provider() as kits_own:
        yield kits_own


class Kit:
    """Runs cases against a server with a defect."""

    def __init__(self, target: Target, provider: Provider) -> None:
        self.target, self._provider = target, provider

    def run(self, defect: Defect, ids: tuple[str, ...], patience: float) -> tuple[Result, ...]:
        return asyncio.run(self._run(defect, ids, patience))

    async def _run(
        self, defect: Defect, ids: tuple[str, ...], patience: float
    ) -> tuple[Result, ...]:
        cases = [case for case in CASES if case.id in ids]
        assert len(cases) == len(ids)
        async with between(self.target.near, defect) as middle:
            there = replace(
                self.target, nodes=(middle.url,), patience=patience, allowance=patience / 2
            )
            at_once = min(1 + len(cases) // AT_ONCE, MOST_AT_ONCE)
            return (await run(there, cases, self._provider, at_once=at_once)).results


@pytest.fixture(scope="module")
def kit(target: Target, provider: Provider) -> Kit:
    return Kit(target, provider)


def finds(kit: Kit, planted: Planted) -> None:
    report = kit.run(planted.make(kit.target.origin), planted.breaks, SHORT)
    missed = [result for result in report if result.outcome is not Outcome.BROKEN]
    assert not missed
    assert not [result for result in report if "no response" in result.detail]
    kept = kit.run(planted.make(kit.target.origin), (planted.leaves,), kit.target.patience)
    assert [result.outcome for result in kept] == [Outcome.KEPT], kept


@pytest.mark.parametrize("name", QUICK)
def test_a_planted_defect_is_found(kit: Kit, name: str) -> None:
    finds(kit, DEFECTS[name])


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", [name for name in DEFECTS if name not in QUICK])
def test_a_planted_defect_is_found_that_takes_its_time(kit: Kit, name: str) -> None:
    finds(kit, DEFECTS[name])


def test_every_case_is_broken_by_a_defect() -> None:
    planted = (*DEFECTS.values(), *ON_A_SERVER_OF_THEIR_OWN.values())
    assert {case_id for one in planted for case_id in one.breaks} == {case.id for case in CASES}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_server_between_that_changes_nothing_breaks_nothing(provider: Provider) -> None:
    ids = {case_id for planted in DEFECTS.values() for case_id in planted.breaks}
    # The server between reads for whoever does not; and what waits was waited for elsewhere.
    ids -= {case.id for case in CASES if case.seconds}
    # A server of its own: at the other, the defects have used up what an address may get wrong.
    with one_node("sqlite", provider.settings) as target:
        kit = Kit(replace(target, exhaust=False), provider)
        report = kit.run(Defect(), tuple(ids), target.patience)
    assert [result for result in report if result.outcome is not Outcome.KEPT] == []


@pytest.mark.slow
def test_what_expires_is_kept_and_what_does_not_is_found(provider: Provider) -> None:
    settings = {"ACCESS_TOKEN_TTL_SECONDS": LIFE, "STEP_UP_SECONDS": STEP_UP}
    planted = [*ON_A_SERVER_OF_THEIR_OWN.values()]
    with one_node("sqlite", provider.settings, **settings) as target:
        kit = Kit(replace(target, step_up_seconds=STEP_UP, exhaust=True), provider)
        ids = tuple(case_id for one in planted[:-1] for case_id in one.breaks)
        runs = [(Defect(), ids, target.patience)]
        runs += [(one.make(""), one.breaks, SHORT) for one in planted]
        with ThreadPoolExecutor(len(runs)) as pool:
            kept, *broken = pool.map(lambda arguments: kit.run(*arguments), runs[:-1])
        broken.append(kit.run(*runs[-1]))  # no sign-in comes after it
    assert [result for result in kept if result.outcome is not Outcome.KEPT] == []
    assert [one.outcome for (one,) in broken] == [Outcome.BROKEN] * len(planted), broken
