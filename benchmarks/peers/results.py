"""What was measured: samples in a file, medians, ratios, and the tables of docs/performance.md."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

from benchmarks.peers.sample import Values
from benchmarks.peers.subjects import SUBJECTS, USHER, Subject

FULL_PERCENT = 90
MEASURED = {
    "join": "a join",
    "request": "request and reply",
    "pipelined": "delivery, pipelined",
    "one by one": "delivery, one by one",
}
SERVER, OTHERS = "server's core: server", "server's core: others"
GENERATOR, REDIS = "load's core: generator", "load's core: Redis"


@dataclass
class Results:
    """One run, or several that were put together.

    Attributes:
        runs: for each run its date and the machine's load before and after it.
        machine: what a reader needs to know about it.
        versions: of each server.
        samples: of each server, one for each round.
    """

    runs: list[str] = field(default_factory=list)
    machine: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    samples: dict[str, list[Values]] = field(default_factory=dict)

    def middle(self, subject: str, name: str) -> float:
        """The median of the rounds."""
        return median(sample[name] for sample in self.samples[subject])

    def against(self, subject: str, name: str) -> list[float]:
        """What it is of Usher's, round by round, from the lowest to the highest."""
        pairs = zip(self.samples[subject], self.samples[USHER], strict=False)
        return sorted(theirs[name] / ours[name] for theirs, ours in pairs if ours[name] > 0)

    def measured(self) -> list[Subject]:
        """The servers that there are samples of, in the order of the table."""
        return [subject for subject in SUBJECTS if subject.name in self.samples]


def load(paths: Sequence[Path]) -> Results:
    """Put the results of several runs together; versions are of the last."""
    whole = Results()
    for path in paths:
        one = Results(**json.loads(path.read_text("utf-8")))
        whole.runs += one.runs
        whole.machine |= one.machine
        whole.versions |= one.versions
        for subject, samples in one.samples.items():
            whole.samples.setdefault(subject, []).extend(samples)
    return whole


def save(results: Results, path: Path) -> None:
    """Write results as JSON, with figures as precise as they are."""
    content = asdict(results)
    content["samples"] = {
        subject: [{name: float(f"{value:.5g}") for name, value in one.items()} for one in samples]
        for subject, samples in results.samples.items()
    }
    path.write_text(json.dumps(content, indent=1) + "\n", "utf-8")


def figure(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def rate(results: Results, subject: str, name: str) -> str:
    """A rate, with `>` where the generator's core was the limit."""
    load = results.middle(subject, f"{name} {GENERATOR}") + results.middle(
        subject, f"{name} {REDIS}"
    )
    return (">" if load > FULL_PERCENT else "") + figure(results.middle(subject, f"{name} per s"))


def tables(results: Results) -> str:
    """All tables, in Markdown."""
    return "\n".join((*_figures(results), "", *_ratios(results), "", *_shares(results), ""))


def _head(first: str, columns: Sequence[str]) -> Iterator[str]:
    yield f"| {first} | " + " | ".join(columns) + " |"
    yield "|-" * (len(columns) + 1) + "|"


def _figures(results: Results) -> Iterator[str]:
    yield from _head("CPU µs (per s)", (*MEASURED.values(), "idle socket, KiB"))
    for subject in results.measured():
        cells = [
            f"{figure(results.middle(subject.name, f'{name} CPU'))} "
            f"({rate(results, subject.name, name)})"
            for name in MEASURED
        ]
        cells.append(figure(results.middle(subject.name, "idle KiB")))
        yield f"| {subject.title} | " + " | ".join(cells) + " |"


def _ratios(results: Results) -> Iterator[str]:
    if USHER not in results.samples:
        return
    names = [f"{name} CPU" for name in MEASURED] + ["idle KiB"]
    yield from _head("÷ Usher (rounds)", (*MEASURED.values(), "idle socket"))
    for subject in results.measured():
        if subject.name == USHER:
            continue
        found = [results.against(subject.name, name) for name in names]
        cells = [
            f"{figure(median(one))} ({figure(one[0])}-{figure(one[-1])})" if one else "-"
            for one in found
        ]
        yield f"| {subject.title} | " + " | ".join(cells) + " |"


def _shares(results: Results) -> Iterator[str]:
    yield from _head("% of a core: server + others; generator + Redis", tuple(MEASURED.values()))
    for subject in results.measured():
        cells = []
        for name in MEASURED:
            server, others, generator, store = (
                results.middle(subject.name, f"{name} {share}")
                for share in (SERVER, OTHERS, GENERATOR, REDIS)
            )
            cells.append(f"{server:.0f} + {others:.0f}; {generator:.0f} + {store:.0f}")
        yield f"| {subject.title} | " + " | ".join(cells) + " |"


def idle_servers(results: Results) -> list[str]:
    """Measurements in which neither the server's core nor the load's was full."""
    found = []
    for subject in results.measured():
        for name, title in MEASURED.items():
            server, generator = (
                sum(results.middle(subject.name, f"{name} {share}") for share in pair)
                for pair in ((SERVER, OTHERS), (GENERATOR, REDIS))
            )
            if max(server, generator) < FULL_PERCENT:
                found.append(f"{subject.title}, {title}: {server:.0f} % of its core")
    return found
