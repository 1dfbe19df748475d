"""What a soak found: the table of docs/reliability.md, and which promises were broken."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

from tests.soak.crowd import Crowd, Period
from tests.soak.installation import Held

MEMORY_SHARE, MEMORY_MB = 1.25, 20.0
"""A heap that was larger for a moment is not given back whole."""
SPARE_TASKS, SPARE_DESCRIPTORS = 10, 10
"""Of what was under way at the moment: a refresh of a look-up, an HTTP connection."""
GONE_WITH_SOCKETS = ("usher:session", "usher:sessions", "usher:room", "usher:usage")


@dataclass(frozen=True)
class Sample:
    """What both nodes and Redis held at one time."""

    name: str
    nodes: list[Held]
    keys: Counter[str]
    joined: int

    def __str__(self) -> str:
        held = " + ".join(f"{n.rss:.0f} MB {n.descriptors} fd {n.tasks} tasks" for n in self.nodes)
        ended = sum(n for kind, n in self.keys.items() if "no end" not in kind)
        return f"{self.name}: {self.joined} joined; {held}; {ended} keys"

    def total(self, what: str) -> float:
        return float(sum(getattr(node, what) for node in self.nodes))


@dataclass
class Report:
    """The outcome of a run."""

    crowd: Crowd
    samples: list[Sample]
    lost: int
    told_lost: int
    alive: int
    seconds: float
    broken: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.alive:
            self.broken.append(f"{self.alive} sockets of ended sessions are open")
        if self.crowd.late:
            self.broken.append(f"{len(self.crowd.late)} times late, such as {self.crowd.late[0]}")
        if self.lost:
            self.broken.append(f"{self.lost} acknowledged messages lost without a word")
        if self.crowd.repeated:
            self.broken.append(f"{self.crowd.repeated} messages came twice to one socket")
        before, after = self._named("before"), self._named("after")
        if after.total("rss") > before.total("rss") * MEMORY_SHARE + MEMORY_MB:
            self.broken.append("memory grew")
        empty, again = self._named("empty"), self._named("empty again")
        for what, spare in (("tasks", SPARE_TASKS), ("descriptors", SPARE_DESCRIPTORS)):
            for first, second in ((before, after), (empty, again)):
                if second.total(what) > first.total(what) + spare:
                    self.broken.append(f"{what} grew from {first.name} to {second.name}")
        for kind, count in again.keys.items():
            if "no end" in kind and count > empty.keys[kind]:
                self.broken.append(f"{count} keys {kind}, {empty.keys[kind]} before")
            if kind.startswith(GONE_WITH_SOCKETS) and count:
                self.broken.append(f"{count} keys {kind} without a socket")

    def _named(self, name: str) -> Sample:
        return next(sample for sample in self.samples if sample.name == name)

    def text(self) -> str:
        """For people, and for docs/reliability.md."""
        crowd = self.crowd
        rows = [_row(period) for period in crowd.periods if period.name != "gone"]
        acknowledged = sum(period.acknowledged for period in crowd.periods)
        logouts = sum(period.logouts for period in crowd.periods)
        kinds = {kind: n for kind, n in self._named("empty again").keys.items()}
        lines = [
            "| minute | closed otherwise | joins | messages acknowledged, refused | logouts "
            "acknowledged, refused | closed after, p99 and longest (s) | whole again after (s) |",
            "|-|-|-|-|-|-|-|",
            *rows,
            "",
            f"{self.seconds:.0f} s; {acknowledged:,} messages acknowledged, {crowd.delivered:,} "
            f"delivered live, {crowd.from_history:,} read from history; {logouts:,} logouts, "
            f"{crowd.tried_back:,} tries to come back, of which {crowd.came_back} worked.",
            f"Alive after their logout: {self.alive}. Late: {len(crowd.late)}. Lost without a "
            f"word: {self.lost}. Lost and told: {self.told_lost} ({crowd.gaps} times). Twice: "
            f"{crowd.repeated}. This process was late by {crowd.lag:.2f} s at most.",
            *(f"- {sample}" for sample in self.samples),
            f"Keys left: {kinds}",
            f"Tasks: {self._named('after').nodes[0].kinds}",
            "BROKEN: " + "; ".join(self.broken) if self.broken else "All of it held.",
        ]
        return "\n".join(lines)


def _row(period: Period) -> str:
    took = sorted(period.seconds_to_close)
    closed = f"{took[math.ceil(len(took) * 0.99) - 1]:.2f}, {took[-1]:.2f}" if took else "none"
    closes = ", ".join(f"{n} × {code}" for code, n in sorted(period.closes.items())) or "none"
    whole = "" if period.whole_again is None else f"{period.whole_again:.0f}"
    return (
        f"| {period.name} | {closes} | {period.joins:,} | {period.acknowledged:,}, "
        f"{period.refused:,} | {period.logouts:,}, {period.logouts_refused:,} | {closed} | {whole} |"
    )
