"""``python -m benchmarks.peers``: measure Usher beside others, print tables, draw the picture.

``make bench-peers`` installs the others first.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from importlib import metadata
from pathlib import Path

from benchmarks import machine
from benchmarks.errors import BenchmarkFailed
from benchmarks.peers import publish
from benchmarks.peers.picture import picture
from benchmarks.peers.place import Place
from benchmarks.peers.results import Results, idle_servers, load, save, tables
from benchmarks.peers.sample import FULL, QUICK, Round, Sizes
from benchmarks.peers.subjects import NODE_FOLDER, PYTHON, SUBJECTS, USHER, Subject
from benchmarks.report import RESULTS, footer

ASK_VERSIONS = (
    "import sys; from importlib.metadata import version as v; print(*map(v, sys.argv[1:]))"
)
ASK_NODE = (
    "for (const p of process.argv.slice(1)) console.log(require(p + '/package.json').version)"
)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    names = [subject.name for subject in SUBJECTS]
    parser.add_argument("--quick", action="store_true", help="small and fast: does it still run?")
    parser.add_argument("--only", choices=names, action="append", help="this one (repeatable)")
    parser.add_argument("--rounds", type=int, help="instead of three")
    parser.add_argument("--into", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument(
        "--publish",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="measure nothing: put these results into docs/performance.md and the picture",
    )
    return parser.parse_args(argv)


def versions(subject: Subject) -> str:
    """The versions of what a server is made of."""
    if not subject.command:
        found = [metadata.version(name) for name in subject.packages]
        platform = f"Python {sys.version.split()[0]}"
    elif subject.command[0] == "node":
        asked = subprocess.check_output(
            ["node", "-e", ASK_NODE, *subject.packages], cwd=NODE_FOLDER
        )
        found = asked.decode().split()
        platform = "Node " + subprocess.check_output(["node", "--version"]).decode().strip()[1:]
    else:
        found = (
            subprocess.check_output([PYTHON, "-c", ASK_VERSIONS, *subject.packages])
            .decode()
            .split()
        )
        said = subprocess.check_output([PYTHON, "--version"])
        platform = said.decode().strip()
    pairs = zip(subject.packages, found, strict=True)
    return ", ".join((*(f"{name} {version}" for name, version in pairs), platform))


def measure(chosen: Sequence[Subject], sizes: Sizes) -> tuple[Results, list[float]]:
    """All rounds; the servers take turns, each round begins with the next of them."""
    cores = machine.pick_cores()
    if cores.shared:
        print("One core only: server and load share it; do not compare.", file=sys.stderr)
    results, noise = Results(machine=machine.describe(cores)), list[float]()
    results.versions = {subject.name: versions(subject) for subject in chosen}
    began, before = datetime.now().astimezone(), os.getloadavg()[0]
    with closing(Place(cores, sizes.people)) as place:
        for number in range(sizes.rounds):
            turn = number % len(chosen)
            for subject in (*chosen[turn:], *chosen[:turn]):
                print(f"… {subject.title}, round {number + 1}", file=sys.stderr, flush=True)
                noise.append(machine.calibrate_on(cores.server))
                with place.server(subject) as server:
                    values = Round(place, subject, server, sizes, cores).run()
                results.samples.setdefault(subject.name, []).append(values)
    results.runs = [
        f"{began:%Y-%m-%d %H:%M}, load {before:.1f} before and {os.getloadavg()[0]:.1f} after"
    ]
    return results, noise


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0 when everything was measured, 1 when something did not work."""
    options = _arguments(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the servers are stopped as well
    if options.publish:
        publish.publish(load(options.publish))
        return 0
    chosen = [one for one in SUBJECTS if not options.only or one.name in options.only]
    sizes = QUICK if options.quick else FULL
    try:
        results, noise = measure(chosen, replace(sizes, rounds=options.rounds or sizes.rounds))
    except (BenchmarkFailed, OSError, subprocess.CalledProcessError) as error:
        print(f"benchmark failed: {error} (make bench-peers installs the others)", file=sys.stderr)
        return 1
    for facts in (results.machine, results.versions):
        print("\n".join(f"{name}: {fact}" for name, fact in facts.items()), end="\n\n")
    print(f"{tables(results)}\n{footer(noise)}", *results.runs, sep="\n")
    for line in idle_servers(results):
        print(f"! neither core was full: {line}")
    options.into.mkdir(exist_ok=True)
    path: Path = options.into / f"peers-{datetime.now().astimezone():%Y-%m-%dT%H%M%S}.json"
    save(results, path)
    print(f"Written to {path}")
    if USHER in results.samples:
        path.with_suffix(".svg").write_text(picture(results), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
