"""The short form of `make soak`: every kind of store fails once with few sockets."""

from __future__ import annotations

import pytest

from tests.soak.run import Plan, run


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("only", ["killed", "frozen"])
def test_a_short_soak_breaks_no_promise(only: str) -> None:
    plan = Plan(200, 3 if only == "killed" else 2, 14, 5, only, quiet=8, calm=12)
    reported: list[str] = []
    report = run(plan, reported.append)
    assert not report.broken, "\n".join((*reported, report.text()))
