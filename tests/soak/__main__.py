"""`make soak`: thousands of sockets, twenty minutes, a fault each minute, and a report.

python -m tests.soak --sockets 5000 --minutes 20
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from tests.soak.run import Plan, run


def main() -> int:
    """Print the report. Returns the exit status: 1 where a promise was broken."""
    parser = argparse.ArgumentParser(prog="tests.soak", description=__doc__.splitlines()[0])
    parser.add_argument("--sockets", type=int, default=5_000)
    parser.add_argument("--minutes", type=int, default=20, help="and as many faults")
    parser.add_argument("--period", type=float, default=60, help="seconds from fault to fault")
    parser.add_argument("--fault", type=float, default=20, help="seconds that a fault lasts")
    parser.add_argument("--only", default="", help="an expression: faults whose names match")
    parser.add_argument("--folder", type=Path, help="where logs of the nodes are kept")
    parser.add_argument("--calm", type=float, default=45, help="seconds behind the last fault")
    chosen = parser.parse_args()
    # So that nodes, PostgreSQL and its disk go with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    plan = Plan(
        chosen.sockets, chosen.minutes, chosen.period, chosen.fault, chosen.only, calm=chosen.calm
    )
    report = run(plan, say, chosen.folder)
    say(report.text())
    return 1 if report.broken else 0


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.exit(status)
