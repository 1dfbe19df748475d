"""docs/security.md: the tests that it names exist, and its sums are those of its tables."""

from __future__ import annotations

import re
from collections import Counter

from tests.support.server import ROOT

TEXT = (ROOT / "docs" / "security.md").read_text()
VERDICTS = ("holds", "partly", "no", "yours", "n/a")


def _named() -> list[tuple[str, str]]:
    """Files and tests; `::test` alone is of the file before it."""
    found, file = [], ""
    for name, test in re.findall(r"`([a-z_/]*(?:\.py)?)(?:::(test_\w+))?`", TEXT):
        file = name if name.endswith(".py") else file
        if test or name.endswith(".py"):
            found.append((file, test))
    return found


def test_every_test_that_is_named_is_there() -> None:
    named = _named()
    assert len(named) > 90
    for file, test in named:
        path = ROOT / "tests" / file if not file.startswith("tests/") else ROOT / file
        source = path.read_text()
        assert not test or f"def {test}(" in source, f"{file}::{test}"


def test_the_sum_is_that_of_the_tables() -> None:
    sums: Counter[str] = Counter()
    rows = re.findall(r"^\| (\d+\.\d+\.\d+[^|]*) \| ([a-z/]+) \|", TEXT, re.MULTILINE)
    for number, verdict in rows:
        assert verdict in VERDICTS, number
        sums[verdict] += _count(number)
    reported = re.search(
        r"Of (\d+) requirements (\d+) hold, (\d+) hold partly, (\d+) do not hold yet, "
        r"(\d+) is yours and (\d+) do not apply",
        TEXT,
    )
    assert reported is not None
    assert [sum(sums.values()), *(sums[v] for v in VERDICTS)] == [int(n) for n in reported.groups()]


def _count(numbers: str) -> int:
    """How many requirements a row is about: one, two, or the first to the last."""
    ends = [int(number.rpartition(".")[2]) for number in re.findall(r"\d+\.\d+\.\d+", numbers)]
    return ends[1] - ends[0] + 1 if len(ends) == 2 else 1
