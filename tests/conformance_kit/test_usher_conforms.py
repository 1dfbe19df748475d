"""Usher keeps every promise of the contract that the kit checks."""

from __future__ import annotations

import asyncio

import pytest

from conformance.provider import running
from conformance.runner import Report, run
from conformance.table import CASES, Case
from conformance.target import Target
from conformance.verdict import Outcome
from tests.conformance_kit.installation import one_node, two_nodes
from tests.support.server import TORNADO

LONG = frozenset(case.id for case in CASES if case.seconds)
"""Cases that wait on purpose."""


def checked(target: Target, cases: list[Case]) -> Report:
    assert target.provider is not None
    with running(target.provider) as provider:
        return asyncio.run(run(target, cases, provider))


def all_kept(report: Report, *, but: frozenset[str] = frozenset()) -> None:
    others = {one.id: one for one in report.results if one.outcome is not Outcome.KEPT}
    assert set(others) <= but, others
    assert report.left == ()


def test_a_node_keeps_what_is_quickly_checked() -> None:
    with one_node("sqlite") as target:
        all_kept(checked(target, [case for case in CASES if case.id not in LONG]))
        # Again, at once: the kit's provider has another key now.
        all_kept(checked(target, [case for case in CASES if case.id == "provider-sign-in"]))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_node_keeps_what_takes_its_time() -> None:
    with one_node("sqlite") as target:
        # Tokens live 15 minutes here; test_defects.py has `expired`.
        cases = [case for case in CASES if case.id in LONG]
        all_kept(checked(target, cases), but=frozenset({"expired"}))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_node_with_tornados_sockets_keeps_every_promise() -> None:
    with one_node(TORNADO) as target:
        all_kept(checked(target, list(CASES)), but=frozenset({"expired"}))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_nodes_keep_every_promise() -> None:
    with two_nodes("postgresql") as target:
        all_kept(checked(target, list(CASES)), but=frozenset({"expired"}))
