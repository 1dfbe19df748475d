"""`make conformance`: a public suite of RFC 6455 against the product's connection code.

The suite is kosoku, which has the cases of the Autobahn testsuite. Groups 12 and 13 are
compression, which the direct form does not speak.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
GOOD = frozenset(("OK", "NON-STRICT", "INFORMATIONAL"))
SECONDS = 300
GROUPS = {
    "1": "Framing",
    "2": "Pings and pongs",
    "3": "Reserved bits",
    "4": "Opcodes",
    "5": "Fragmentation",
    "6": "UTF-8 handling",
    "7": "Close handling",
    "9": "Limits and performance",
    "10": "Automatic fragmentation",
}


class Case(NamedTuple):
    """How one case went, in the words of the suite."""

    name: str
    behavior: str
    close: str
    is_clean: bool


@contextmanager
def echo_server(*form: str) -> Iterator[int]:
    """The echo in a process of its own. Returns its port.

    Args:
        form: "tornado" for the Tornado form.
    """
    command = [sys.executable, "-m", "tests.conformance.echo", "0", *form]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.terminate()


def run_suite(port: int, folder: Path, *include: str) -> list[Case]:
    """Run the suite against an echo, and read its report.

    Args:
        include: cases or globs of cases; all but compression where there is none.
    """
    chosen = [word for case in include for word in ("-i", case)]
    command = [
        str(Path(sys.executable).with_name("kosoku")),
        *chosen,
        *("-x", "12.*", "-x", "13.*", "-o", str(folder)),
        f"ws://127.0.0.1:{port}",
    ]
    subprocess.run(command, check=False, capture_output=True, timeout=SECONDS)
    (agent,) = json.loads((folder / "index.json").read_text("utf-8")).values()
    return [_case(name, found, folder) for name, found in agent.items()]


def _case(name: str, found: dict[str, Any], folder: Path) -> Case:
    report = json.loads((folder / found["reportfile"]).read_text("utf-8"))
    return Case(name, found["behavior"], found["behaviorClose"], bool(report["wasClean"]))


def table(cases: list[Case]) -> str:
    """The result by group, as docs/protocol.md shows it."""
    total, good, unclean = Counter[str](), Counter[str](), Counter[str]()
    for case in cases:
        group = case.name.partition(".")[0]
        total[group] += 1
        good[group] += case.behavior in GOOD and case.close in GOOD
        unclean[group] += not case.is_clean
    rows = ["| group | cases | passed | ended unclean |", "|-|-|-|-|"]
    for group, title in GROUPS.items():
        counts = (total[group], good[group], unclean[group])
        rows.append(f"| {group}. {title} | {' | '.join(map(str, counts))} |")
    return "\n".join(rows)


def main() -> int:
    """Print a table of each form. Returns the exit status: 1 where the direct form fails a case or
    ends one unclean. What the Tornado form does is Tornado's."""
    with TemporaryDirectory() as folder, echo_server("tornado") as port:
        sys.stdout.write(f"Tornado form\n\n{table(run_suite(port, Path(folder)))}\n\n")
    with TemporaryDirectory() as folder, echo_server() as port:
        cases = run_suite(port, Path(folder))
    sys.stdout.write(f"Direct form\n\n{table(cases)}\n")
    bad = [case for case in cases if {case.behavior, case.close} - GOOD or not case.is_clean]
    for case in bad:
        sys.stdout.write(f"{case.name}: {case.behavior}, close {case.close}\n")
    return 1 if bad or not cases else 0


if __name__ == "__main__":
    sys.exit(main())
