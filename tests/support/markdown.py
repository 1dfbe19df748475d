"""Reading what a document says, to hold it against the code."""

from __future__ import annotations


def table(text: str, first: str) -> list[list[str]]:
    """The rows of the markdown table whose head begins with this cell, cell by cell."""
    lines = iter(text.splitlines())
    for line in lines:
        if line.startswith(f"| {first} |"):
            next(lines)
            break
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip().strip("|").split("|")])
    assert rows, f"there is no table of {first}"
    return rows
