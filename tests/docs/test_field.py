"""docs/field.md: each row names a test that exists, and a version."""

from __future__ import annotations

import re

from tests.support.server import ROOT

TEXT = (ROOT / "docs" / "field.md").read_text("utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in TEXT.splitlines()
    if line.startswith("| ") and not line.startswith("| program")
]


def test_every_row_has_a_version_and_a_test_that_exists() -> None:
    assert len(ROWS) >= 8
    for row in ROWS:
        assert len(row) == 5, row
        assert re.search(r"\d+\.\d+", row[0]), row[0]
        named = re.findall(r"`([a-z_/]+\.py)(?:::(test_\w+))?`", row[4])
        assert named, row[0]
        for file, test in named:
            source = (ROOT / "tests" / file).read_text("utf-8")
            assert not test or f"def {test}(" in source, f"{file}::{test}"
