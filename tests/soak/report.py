"""The results of a soak: the table of docs/reliability.md, and broken guarantees."""

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
GONE_WITH_SOCKETS = frozenset(("usher:socket", "usher:sockets", "usher:here", "usher:sessions"))


HEAD = """\
| minute | closed otherwise | joins | messages acknowledged, refused | \
logouts acknowledged, refused | closed after, p99 and longest (s) | whole again after (s) | \
gaps told, twice |
|-|-|-|-|-|-|-|-|"""


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
        self._judge_promises()
        self._judge_growth()
        self._judge_keys()

    def _judge_promises(self) -> None:
        late = self.crowd.late
        for count, what in (
            (self.alive, "sockets of ended sessions are open"),
            (len(late), f"times late, such as {late[0]}" if late else ""),
            (self.lost, "acknowledged messages lost without a word"),
            (self.crowd.repeated, "messages came twice to one socket"),
        ):
            if count:
                self.broken.append(f"{count} {what}")

    def _judge_growth(self) -> None:
        before, after = self._named("before"), self._named("after")
        if after.total("rss") > before.total("rss") * MEMORY_SHARE + MEMORY_MB:
            self.broken.append("memory grew")
        empty, again = self._named("empty"), self._named("empty again")
        for what, spare in (("tasks", SPARE_TASKS), ("descriptors", SPARE_DESCRIPTORS)):
            for first, second in ((before, after), (empty, again)):
                if second.total(what) > first.total(what) + spare:
                    self.broken.append(f"{what} grew from {first.name} to {second.name}")

    def _judge_keys(self) -> None:
        empty, again = self._named("empty"), self._named("empty again")
        for kind, count in again.keys.items():
            if "no end" in kind and count > empty.keys[kind]:
                self.broken.append(f"{count} keys {kind}, {empty.keys[kind]} before")
            if kind in GONE_WITH_SOCKETS:
                self.broken.append(f"{count} keys {kind} without a socket")

    def _named(self, name: str) -> Sample:
        return next(sample for sample in self.samples if sample.name == name)

    def text(self) -> str:
        """For people, and for docs/reliability.md."""
        crowd = self.crowd
        rows = [_row(period) for period in crowd.periods if period.name != "gone"]
        acknowledged = sum(period.acknowledged for period in crowd.periods)
        logouts = sum(period.logouts for period in crowd.periods)
        done = (
            f"{self.seconds:.0f} s; {acknowledged:,} messages acknowledged, {crowd.delivered:,} "
            f"delivered live, {crowd.from_history:,} read from history; {logouts:,} logouts, "
            f"{crowd.tried_back:,} tries to come back, of which {crowd.came_back} worked."
        )
        held = (
            f"Alive after their logout: {self.alive}. Late: {len(crowd.late)}. Lost without a "
            f"word: {self.lost}. Lost and told: {self.told_lost} ({crowd.gaps} times). Twice: "
            f"{crowd.repeated}. This process was late by {crowd.lag:.2f} s at most."
        )
        lines = [
            *(HEAD, *rows, "", done, held),
            *(f"- {sample}" for sample in self.samples),
            f"Keys left: {dict(self._named('empty again').keys)}",
            f"Tasks: {self._named('after').nodes[0].kinds}",
            "BROKEN: " + "; ".join(self.broken) if self.broken else "All of it held.",
        ]
        return "\n".join(lines)


def _row(period: Period) -> str:
    took = sorted(period.seconds_to_close)
    closed = f"{took[math.ceil(len(took) * 0.99) - 1]:.2f}, {took[-1]:.2f}" if took else "none"
    closes = ", ".join(f"{code}: {n}" for code, n in sorted(period.closes.items())) or "none"
    whole = "" if period.whole_again is None else f"{period.whole_again:.0f}"
    cells = (
        period.name,
        closes,
        f"{period.joins:,}",
        f"{period.acknowledged:,}, {period.refused:,}",
        f"{period.logouts:,}, {period.logouts_refused:,}",
        closed,
        whole,
        f"{period.gaps}, {period.repeated}",
    )
    return f"| {' | '.join(cells)} |"
