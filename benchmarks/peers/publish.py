"""Puts results into the documents: docs/performance.md, docs/peers.json and docs/peers.svg."""

from __future__ import annotations

from benchmarks.peers.picture import picture
from benchmarks.peers.results import Results, save, tables
from benchmarks.servers import ROOT

DOCUMENT = ROOT / "docs" / "performance.md"
RESULTS = ROOT / "docs" / "peers.json"
PICTURE = ROOT / "docs" / "peers.svg"
BEGIN, END = "<!-- made by: python -m benchmarks.peers --publish -->\n", "<!-- end -->\n"


def block(results: Results) -> str:
    """What stands between the marks in docs/performance.md."""
    runs = "; ".join(results.runs)
    versions = "\n".join(
        f"- {subject.title}: {results.versions[subject.name]}." for subject in results.measured()
    )
    facts = results.machine
    machine = f"{facts['cpu']}, {facts['cores']} cores, {facts['kernel']}"
    rounds = len(next(iter(results.samples.values())))
    counted = f"{rounds} rounds" if rounds > 1 else "One round"
    return f"{tables(results)}\n{counted}: {runs}. {machine}.\n\n{versions}\n"


def publish(results: Results) -> None:
    """Write all three."""
    before, _, rest = DOCUMENT.read_text("utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    DOCUMENT.write_text(before + BEGIN + block(results) + END + after, "utf-8")
    save(results, RESULTS)
    PICTURE.write_text(picture(results), "utf-8")
