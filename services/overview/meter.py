"""The figures of one node over the last 15 minutes, in a bounded ring in memory.

Nothing here is called for a join or a message: the counters of services/metrics.py are read once
per tick, and the ring holds what was added to them in each step.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping

import msgspec

from services.metrics import Metrics, cut_quantile

STEP_SECONDS = 5.0
STEPS = 180
"""15 minutes."""
STEPS_PER_MINUTE = 12
TICK_SECONDS = 2.0


class Series(msgspec.Struct, frozen=True):
    """One value for each step of `step_seconds`, oldest first; the last step is the newest that is
    complete. There are at most 180 steps, and fewer after a start.

    Attributes:
        sockets: joined sockets at the end of the step.
        joins, messages: how many in the step. Messages are those that sockets sent into rooms.
        revocation_p50, revocation_p99: seconds from recording a revocation (a logout, for example)
            to closing its sockets on the node; null in a step without one.
    """

    sockets: list[int]
    joins: list[int]
    messages: list[int]
    revocation_p50: list[float | None]
    revocation_p99: list[float | None]


class Report(msgspec.Struct, frozen=True):
    """What a node tells the others. `cuts`: closed sockets of 15 minutes, by bucket of
    `Metrics.cuts`."""

    sockets: int
    rooms: int
    joins_per_minute: int
    messages_per_minute: int
    cuts: dict[int, int]
    series: Series


class _Step(msgspec.Struct, frozen=True, gc=False):
    sockets: int
    joins: int
    messages: int
    cuts: dict[int, int]


class Meter:
    """Measures one node.

    Args:
        sockets: returns the number of joined sockets.
        rooms: returns the number of channels with a socket on this node.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        metrics: Metrics,
        sockets: Callable[[], int],
        rooms: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._metrics, self._sockets, self._rooms, self._clock = metrics, sockets, rooms, clock
        self._steps: deque[_Step] = deque(maxlen=STEPS)
        self._ends = clock() + STEP_SECONDS
        self._before = self._read()

    def _read(self) -> tuple[int, int, Mapping[int, int]]:
        joined, said = self._metrics.joins.count("joined"), self._metrics.frames.count("message")
        return joined, said, dict(self._metrics.cuts)

    async def tick(self) -> None:
        """Close the steps that are over. A late tick closes several; what happened meanwhile counts
        for the first of them."""
        late = self._clock() - self._ends
        if late < 0:
            return
        missed = min(STEPS, int(late // STEP_SECONDS))
        self._ends += (int(late // STEP_SECONDS) + 1) * STEP_SECONDS
        self._steps.append(self._step())
        for _ in range(missed):
            self._steps.append(self._step())

    def _step(self) -> _Step:
        joins, messages, cuts = self._since()
        self._before = self._read()
        return _Step(self._sockets(), joins, messages, cuts)

    def _since(self) -> tuple[int, int, dict[int, int]]:
        """What was added since the last complete step."""
        joined, said, cuts = self._read()
        joined_before, said_before, cuts_before = self._before
        fresh = {b: n - cuts_before.get(b, 0) for b, n in cuts.items() if n != cuts_before.get(b)}
        return joined - joined_before, said - said_before, fresh

    def report(self) -> Report:
        """The figures of now, with the step that is not complete yet in all but the series."""
        joins, messages, cuts = self._since()
        steps = list(self._steps)
        minute = steps[-STEPS_PER_MINUTE:]
        total = Counter(cuts)
        for step in steps:
            total.update(step.cuts)
        return Report(
            self._sockets(),
            self._rooms(),
            joins + sum(step.joins for step in minute),
            messages + sum(step.messages for step in minute),
            dict(total),
            Series(
                [step.sockets for step in steps],
                [step.joins for step in steps],
                [step.messages for step in steps],
                [cut_quantile(step.cuts, 0.5) for step in steps],
                [cut_quantile(step.cuts, 0.99) for step in steps],
            ),
        )
