"""Every case of the kit fails on a server with a defect, and on no server without one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest

from conformance.provider import Provider, running
from conformance.runner import run
from conformance.table import CASES
from conformance.target import Target
from conformance.verdict import Outcome, Result
from tests.conformance_kit.defects import DEFECTS, OpenHouse, Planted
from tests.conformance_kit.installation import one_node
from tests.support.middle_server import Defect, between

SHORT = 2.0
"""Seconds that a planted defect is waited for. What is broken stays so on a busy machine."""
LIFE = 8
"""Seconds, of a token that is waited for."""
AT_ONCE = 4
"""For so many cases there is one more at a time: most of them wait most of the time."""
QUICK = ("wrong reason", "refuses", "replies twice", "looks at cookies", "talkative", "careless")


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    with one_node("sqlite") as running_target:
        yield running_target


@pytest.fixture(scope="module")
def provider(target: Target) -> Iterator[Provider]:
    assert target.provider is not None
    with running(target.provider) as kits_own:
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
            at_once = 1 + len(cases) // AT_ONCE
            return (await run(there, cases, self._provider, at_once=at_once)).results


@pytest.fixture(scope="module")
def kit(target: Target, provider: Provider) -> Kit:
    return Kit(target, provider)


def finds(kit: Kit, planted: Planted) -> None:
    report = kit.run(planted.make(kit.target.origin), planted.breaks, SHORT)
    missed = [result for result in report if result.outcome is not Outcome.BROKEN]
    assert not missed
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
    broken = {case_id for planted in DEFECTS.values() for case_id in planted.breaks}
    assert {case.id for case in CASES} - broken == {"expired"}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_server_between_that_changes_nothing_breaks_nothing(kit: Kit) -> None:
    ids = tuple(case.id for case in CASES if case.id != "expired")
    report = kit.run(Defect(), ids, kit.target.patience)
    assert [result for result in report if result.outcome is not Outcome.KEPT] == []


@pytest.mark.slow
def test_a_token_that_expires_is_kept_and_one_that_does_not_is_found(provider: Provider) -> None:
    with one_node("sqlite", ACCESS_TOKEN_TTL_SECONDS=LIFE) as target:
        kit = Kit(target, provider)
        kept = kit.run(Defect(), ("expired",), target.patience)
        broken = kit.run(OpenHouse(), ("expired",), SHORT)
    assert [kept[0].outcome, broken[0].outcome] == [
        Outcome.KEPT,
        Outcome.BROKEN,
    ], (kept, broken)
