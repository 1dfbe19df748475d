"""``python -m benchmarks``: measure, print a table, write a file."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

from benchmarks import machine, report
from benchmarks.errors import BenchmarkFailed
from benchmarks.harness import (
    BARE,
    CALIBRATION,
    NODES,
    TORNADO,
    USHER,
    Lab,
    Measurement,
    Sample,
)
from benchmarks.measure_fanout import Fanout
from benchmarks.measure_growth import Growth
from benchmarks.measure_joins import Joins
from benchmarks.measure_logout import Logout
from benchmarks.measure_memory import Memory
from benchmarks.measure_messages import Messages
from benchmarks.measure_presence import Presence
from benchmarks.measure_revocation import Revocation
from benchmarks.measure_tickets import Tickets
from benchmarks.sizes import FULL, QUICK, Sizes


def measurements() -> list[Measurement]:
    """Everything there is to measure, in the order of the table."""
    return [
        Joins(),
        Tickets(),
        Messages("messages", depth=1),
        Messages("pipelined", depth=16),
        Memory(),
        Logout(),
        Fanout("fanout", large=False),
        Fanout("fanout-large", large=True),
        Presence(),
        Growth(),
        Revocation(),
    ]


def _arguments(names: Sequence[str], argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small and fast: does it still run?")
    parser.add_argument("--only", choices=names, action="append", help="this one (repeatable)")
    parser.add_argument(
        "--subject", choices=(USHER, TORNADO, NODES, BARE), help="only one of the servers"
    )
    parser.add_argument("--rounds", type=int, help="instead of three; figures to quote need three")
    return parser.parse_args(argv)


def _measure(
    lab: Lab, chosen: Measurement, subjects: Sequence[str], calibration: list[float]
) -> report.Outcome:
    """All rounds of one measurement, the subjects taking turns."""
    samples: dict[str, list[Sample]] = {subject: [] for subject in subjects}
    for number in range(lab.sizes.rounds):
        for subject in subjects:
            print(f"… {chosen.name}, {subject}, round {number + 1}", file=sys.stderr, flush=True)
            before = machine.calibrate_on(lab.cores.server)
            sample = chosen.run(lab, subject)
            after = machine.calibrate_on(lab.cores.server)
            calibration += (before, after)
            samples[subject].append(sample.plus(CALIBRATION.name, (before + after) / 2))
    return report.Outcome(chosen, samples)


def _run(chosen: Sequence[Measurement], sizes: Sizes, subject: str | None) -> None:
    cores = machine.pick_cores()
    if cores.shared:
        print("One core only: server and load share it; do not compare.", file=sys.stderr)
    facts = machine.describe(cores)
    print("\n".join(f"{name}: {value}" for name, value in facts.items()), end="\n\n")
    calibration: list[float] = []
    began = time.monotonic()
    outcomes: list[report.Outcome] = []
    with (
        tempfile.TemporaryDirectory(prefix="usher-bench-") as folder,
        closing(Lab(sizes, cores, Path(folder))) as lab,
    ):
        if subject != BARE:
            print("… signing in", file=sys.stderr, flush=True)
            lab.prepare(sum(one.logins_used_up(sizes) for one in chosen))
        for one in chosen:
            subjects = [name for name in one.subjects if subject in (None, name)]
            if subjects:
                outcomes.append(_measure(lab, one, subjects, calibration))
                print(report.table(outcomes[-1]), end="\n\n", flush=True)
    print(report.footer(calibration))
    print(f"It took {(time.monotonic() - began) / 60:.1f} minutes.")
    print(f"Written to {report.write(outcomes, calibration, facts, asdict(sizes))}")


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0 when everything was measured, 1 when something did not work."""
    known = measurements()
    options = _arguments([one.name for one in known], argv)
    chosen = [one for one in known if not options.only or one.name in options.only]
    try:
        sizes = QUICK if options.quick else FULL
        _run(chosen, replace(sizes, rounds=options.rounds or sizes.rounds), options.subject)
    except (BenchmarkFailed, OSError) as error:
        print(f"benchmark failed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
