"""One soak from its start to its report."""

from __future__ import annotations

import math
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path

from benchmarks import machine
from tests.soak.crowd import Crowd, Rates
from tests.soak.faults import Fault, possible
from tests.soak.installation import Held, Installation
from tests.soak.report import Report, Sample

RESERVED_FILES = 600
QUIET_SECONDS = 20.0
"""Under load, before the first fault: what is held then is what is compared with."""
CALM_SECONDS = 45.0
"""Behind the last one. Leases end after 30."""
GONE_SECONDS = 35.0
"""Behind the last socket: what closed while Redis was away is under a lease of 30 seconds."""
WHOLE_SECONDS = 240.0
Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """How much. `only`: an expression that the names of the faults to do match."""

    sockets: int
    faults: int
    period: float
    fault_seconds: float
    only: str = ""
    quiet: float = QUIET_SECONDS
    calm: float = CALM_SECONDS
    rates: Rates | None = None

    def chosen_rates(self) -> Rates:
        """In proportion to how many there are."""
        many = self.sockets
        return self.rates or Rates(
            messages=max(2.0, many / 500),
            logouts=max(1.0, many / 1250),
            hops=max(1.0, many / 1000),
            outs=max(1.0, many / 1000),
        )

    @property
    def sessions(self) -> int:
        """One for each socket and each logout, and some to spare."""
        seconds = self.quiet + self.calm + self.faults * self.period + WHOLE_SECONDS
        return self.sockets + math.ceil(self.chosen_rates().logouts * seconds) + 100


@dataclass
class Soak:
    """The parts of a run."""

    at: Installation
    crowd: Crowd
    plan: Plan
    say: Say
    errors: list[str] = field(default_factory=list)

    # ---- steps -----------------------------------------------------------------------------

    def turn_until_whole(self, seconds: float) -> float:
        """Until every socket is joined. Returns how long it took.

        Raises: AssertionError when it took longer than `seconds`.
        """
        began = time.monotonic()
        while self.crowd.joined_count < len(self.crowd.readers):
            assert time.monotonic() - began < seconds, (
                f"{self.crowd.joined_count} of {len(self.crowd.readers)} sockets are joined, "
                f"{self.crowd.period.closes}"
            )
            self.crowd.turn(0.25)
        return time.monotonic() - began

    def sample(self, name: str) -> Sample:
        """What is held now. The crowd goes on meanwhile, in this thread's pauses."""
        found: list[list[Held]] = []
        keys: list[Counter[str]] = []

        def look() -> None:
            found.append([self.at.held(node) for node in self.at.nodes])
            keys.append(self.at.keys())

        self._beside(look)
        return Sample(name, found[0], keys[0], self.crowd.joined_count)

    def _beside(self, act: Callable[[], None]) -> None:
        """Do something in a thread while the crowd goes on."""

        def guarded() -> None:
            try:
                act()
            except Exception as error:  # noqa: BLE001 - reported, whatever it was
                self.errors.append(f"{type(error).__name__}: {error}")

        thread = threading.Thread(target=guarded)
        thread.start()
        while thread.is_alive():
            self.crowd.turn(0.1)
        assert not self.errors, self.errors

    def do(self, fault: Fault) -> None:
        """One fault, and the rest of its minute."""
        period, began = self.crowd.begin(fault.name), time.monotonic()

        def wait() -> None:
            time.sleep(self.plan.fault_seconds)

        stops = "stopped" in fault.name and fault.node is not None
        if stops and fault.node is not None:
            self.crowd.running_since[fault.node] = math.inf
        self._beside(lambda: fault.act(self.at, wait))
        if stops and fault.node is not None:
            self.crowd.running_since[fault.node] = time.monotonic()
        over = time.monotonic()
        while time.monotonic() - began < self.plan.period:
            if period.whole_again is None and self._is_whole():
                period.whole_again = time.monotonic() - over
            self.crowd.turn(0.25)

    def _is_whole(self) -> bool:
        # Some are always on their way: those who hop, and who come for those who were logged out.
        missing = len(self.crowd.readers) - self.crowd.joined_count
        return missing <= max(3, len(self.crowd.readers) // 100)


def run(plan: Plan, say: Say, folder: Path | None = None) -> Report:
    """The whole soak. Nothing is left of it but the nodes' logs in `folder`."""
    machine.raise_file_limit(2 * plan.sockets + RESERVED_FILES)
    with ExitStack() as stack:
        at = Installation(plan.sockets, plan.sessions, stack)
        crowd = Crowd(at, plan.chosen_rates())
        try:
            return _run(Soak(at, crowd, plan, say))
        finally:
            crowd.close()
            crowd.reactor.close()
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
                for number, node in enumerate(at.nodes):
                    (folder / f"node-{number + 1}.log").write_text(node.log)


def _run(soak: Soak) -> Report:
    crowd, plan, say = soak.crowd, soak.plan, soak.say
    began = time.monotonic()
    samples = [soak.sample("empty")]
    crowd.begin("start")
    crowd.add(plan.sockets)
    say(f"{plan.sockets} sockets joined in {soak.turn_until_whole(WHOLE_SECONDS):.0f} s")
    crowd.is_busy = True
    crowd.begin("quiet")
    crowd.turn(plan.quiet)
    samples.append(soak.sample("before"))
    say(f"before: {samples[-1]}")
    faults = [fault for fault in possible(soak.at) if re.search(plan.only, fault.name)]
    for fault in islice(cycle(faults), plan.faults):
        soak.do(fault)
        samples.append(soak.sample(fault.name))
        say(
            f"{time.monotonic() - began:5.0f} s {samples[-1]} {crowd.period.closes} "
            f"gaps {crowd.period.gaps}, twice {crowd.period.repeated}"
        )
        for line in crowd.late[:20]:
            say(f"  {line}")
    crowd.begin("calm")
    crowd.turn(plan.calm)
    crowd.is_busy = False
    crowd.turn(5.0)
    soak.turn_until_whole(WHOLE_SECONDS)
    crowd.turn(5.0)
    samples.append(soak.sample("after"))
    lost, reported, alive = *crowd.lost(), crowd.alive_revoked
    crowd.begin("gone")
    crowd.close()
    crowd.turn(max(plan.calm, GONE_SECONDS))
    samples.append(soak.sample("empty again"))
    return Report(crowd, samples, lost, reported, alive, time.monotonic() - began)
