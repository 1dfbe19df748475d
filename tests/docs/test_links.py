"""Links between the documents: the file is there, and so is the heading."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.server import ROOT

DOCUMENTS = sorted(
    {
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "clients").glob("*/README.md"),
        *(ROOT / "examples").glob("*/README.md"),
    }
)
FENCED = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\((?!\w+:)([^)\s#]*)(?:#([^)\s]+))?\)")


def _anchors(document: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a document."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", document.read_text("utf-8")), re.MULTILINE)
    shown = (re.sub(r"\[([^]]*)]\([^)]*\)", r"\1", heading) for heading in headings)
    return {re.sub(r"[^\w\- ]", "", one.strip().lower()).replace(" ", "-") for one in shown}


def test_every_link_between_documents_leads_to_a_file_and_a_heading() -> None:
    dead, seen = [], 0
    for document in DOCUMENTS:
        for path, anchor in LINK.findall(FENCED.sub("", document.read_text("utf-8"))):
            seen += 1
            there = document.parent / path if path else document
            known = there.exists() and (
                not anchor or there.suffix != ".md" or anchor in _anchors(there)
            )
            if not known:
                dead.append(f"{document.relative_to(ROOT)}: {path}#{anchor}")
    assert seen > len(DOCUMENTS)
    assert dead == []
