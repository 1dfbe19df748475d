"""`make fuzz`: each target under atheris for ten minutes, then the HTTP calls under schemathesis.

    python -m tests.fuzz --seconds 600 [TARGET …]

What a fuzzer finds lies in --folder, and goes into FOUND of test_targets.py once it is mended.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from tests.fuzz.http_calls import fuzz_http
from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).resolve().parents[2]
HTTP = "http"
MAX_BYTES = 4096
ONE_INPUT_SECONDS = 10
SLACK_SECONDS = 60
_DONE = re.compile(r"Done (\d+) runs in (\d+) second")
_COVERED = re.compile(r"DONE\s+cov: (\d+) ft: (\d+) corp: (\d+)")


class Fuzzed(NamedTuple):
    """What came of one target."""

    name: str
    inputs: int
    seconds: int
    branches: int
    corpus: int
    found: list[Path]

    def __str__(self) -> str:
        counts = (self.inputs, self.seconds, self.branches, self.corpus, len(self.found))
        return f"| {self.name} | {' | '.join(f'{count:,}' for count in counts)} |"


def fuzz(name: str, seconds: int, folder: Path) -> Fuzzed:
    """One target in a process of its own.

    Raises: RuntimeError where it did not run to its end and there is no find that says why.
    """
    folder.mkdir(parents=True, exist_ok=True)
    options = (
        f"-max_total_time={seconds}",
        f"-max_len={MAX_BYTES}",
        f"-timeout={ONE_INPUT_SECONDS}",
    )
    command = [sys.executable, "-m", "tests.fuzz.one", name, str(folder), *options]
    with (folder / "log").open("w") as log:
        subprocess.run(
            command, cwd=ROOT, stderr=log, stdout=log, check=False, timeout=seconds + SLACK_SECONDS
        )
    reported = (folder / "log").read_text("utf-8", "replace")
    kinds = ("crash", "timeout", "oom", "leak", "slow-unit")
    found = [path for kind in kinds for path in folder.glob(f"{kind}-*")]
    done, covered = _DONE.search(reported), _COVERED.search(reported)
    if done is None or covered is None:
        if not found:
            raise RuntimeError(f"{name} did not run to its end:\n{reported[-2000:]}")
        return Fuzzed(name, 0, 0, 0, 0, found)
    branches, _, corpus = map(int, covered.groups())
    return Fuzzed(name, int(done[1]), int(done[2]), branches, corpus, found)


def main() -> int:
    """Print the table. Returns the exit status: 1 where something was found."""
    parser = argparse.ArgumentParser(prog="tests.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join((*TARGETS, HTTP)))
    parser.add_argument("--seconds", type=int, default=600, help="for each target")
    parser.add_argument("--folder", type=Path, default=Path("/tmp/usher-fuzz"))
    chosen = parser.parse_args()
    names = chosen.targets or [*TARGETS, HTTP]
    if unknown := set(names) - {*TARGETS, HTTP}:
        parser.error(f"no target {sorted(unknown)}")
    found = 0
    say("| target | inputs | seconds | branches | corpus | finds |\n|-|-|-|-|-|-|")
    for name in names:
        if name in TARGETS:
            fuzzed = fuzz(name, chosen.seconds, chosen.folder / name)
            say(str(fuzzed))
            found += len(fuzzed.found)
    if HTTP in names:
        found += fuzz_http(chosen.folder / HTTP, say)
    return 1 if found else 0


def say(text: str) -> None:
    """A line of the report, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
