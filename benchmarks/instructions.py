"""Compares the instructions that the server needs with those in benchmarks/instructions.json.

    python -m benchmarks.instructions                               # count and compare
    python -m benchmarks.instructions --only "request with reply"   # one figure; repeat for more
    python -m benchmarks.instructions --write --reason "why"        # keep the figures of today

Counted are user-space instructions, with valgrind's callgrind, on fixed work: they do not change
with the machine's load. They do with the build of Python: the file has figures for each, and only
those of the same one are compared. Ends with 1 where a figure is more than a tenth above the one in
the file. A figure that is more than a tenth below is to be written, so that it is kept, too.
"""

from __future__ import annotations

import argparse
import json
import platform
import ssl
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path

import msgspec

from benchmarks import callgrind
from benchmarks.counted_work import FIGURES, counted_work
from benchmarks.machine import library_versions
from benchmarks.servers import ROOT

FILE = Path(__file__).with_name("instructions.json")
ALLOWED = 0.10
AGAIN = 5
"""Blocks that are counted again before a figure is believed to be too high."""
OPTIMIZED = ("--enable-optimizations", "--with-lto")
"""Options of Python's own build that change how many instructions it needs."""


class Build(msgspec.Struct):
    """The figures of one build of Python, and the versions that they were counted with."""

    figures: dict[str, int]
    counted_with: dict[str, str]


class Change(msgspec.Struct):
    """A change of figures: when, why, and those before (None for a new one) and after."""

    at: str
    build: str
    reason: str
    figures: dict[str, tuple[int | None, int]]


class Recorded(msgspec.Struct):
    """The contents of the file."""

    builds: dict[str, Build]
    changes: list[Change]


def this_build() -> str:
    """The name of this build of Python: its version without the patch, processor and options.

    A system's own does not tell that it is optimized, but it is in /usr.
    """
    options = sysconfig.get_config_var("CONFIG_ARGS") or ""
    names = [platform.python_implementation(), "{}.{}".format(*sys.version_info)]
    names += [platform.machine(), *(option for option in OPTIMIZED if option in options)]
    return " ".join([*names, "in /usr"] if sys.base_prefix == "/usr" else names)


def counted_with() -> dict[str, str]:
    """The versions of what takes part in the counting."""
    valgrind = subprocess.run(["valgrind", "--version"], capture_output=True, text=True, check=True)
    return {
        "python": platform.python_version(),
        "openssl": ssl.OPENSSL_VERSION.split()[1],
        "valgrind": valgrind.stdout.strip().removeprefix("valgrind-"),
        **library_versions(),
    }


def read(file: Path) -> Recorded:
    """The recorded figures; none where there is no file."""
    if not file.exists():
        return Recorded({}, [])
    return msgspec.json.decode(file.read_bytes(), type=Recorded)


def write(
    file: Path, recorded: Recorded, build: str, found: Mapping[str, float], reason: str, at: str
) -> None:
    """Record figures, and why they changed. Figures that were not counted stay."""
    versions = counted_with()
    known = recorded.builds.setdefault(build, Build({}, versions))
    changed = {name: (known.figures.get(name), round(value)) for name, value in found.items()}
    known.figures |= {name: new for name, (_, new) in changed.items()}
    known.counted_with = versions
    recorded.changes.append(Change(at, build, reason, changed))
    text = json.dumps(msgspec.to_builtins(recorded), indent=1, ensure_ascii=False)
    file.write_text(text + "\n")


def is_above(value: float, known: int | None) -> bool:
    """Whether a figure is so far above the known one that a change must not be taken."""
    return known is not None and value > known * (1 + ALLOWED)


def report(found: Mapping[str, float], known: Mapping[str, int]) -> Iterator[str]:
    """A line for each figure."""
    for name, value in found.items():
        line = f"{name:24} {value:12,.0f} instructions"
        if name not in known:
            yield f"{line}   nothing to compare with"
            continue
        ratio = value / known[name]
        line += f"   {ratio:.3f} of {known[name]:,}"
        if is_above(value, known[name]):
            line += f"   TOO MANY: above {1 + ALLOWED:.2f}"
        elif ratio < 1 - ALLOWED:
            line += "   fewer: write the new figure"
        yield line


def count(tree: Path, wanted: list[str], known: Mapping[str, int]) -> dict[str, float]:
    """Count figures. One that is too high is counted again: what disturbs only adds."""
    found = dict[str, float]()
    with counted_work(tree) as work:
        for name in wanted:
            found[name] = work.count(name)
            if is_above(found[name], known.get(name)):
                found[name] = min(found[name], work.count(name, AGAIN))
    return found


def main() -> int:
    """Count, compare, print. Returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", choices=FIGURES, metavar="FIGURE")
    parser.add_argument(
        "--write", action="store_true", help="keep what was counted; needs --reason"
    )
    parser.add_argument("--reason", default="", help="why the figures changed")
    parser.add_argument("--tree", type=Path, default=ROOT, help="the worktree to count")
    parser.add_argument("--file", type=Path, default=FILE, help="the recorded figures")
    chosen = parser.parse_args()
    if chosen.write != bool(chosen.reason.strip()):
        parser.error("--write and --reason belong together")
    if (name := callgrind.missing()) is not None:
        parser.error(f"{name} is not there: apt-get install valgrind")
    began, build, recorded = time.monotonic(), this_build(), read(chosen.file)
    known = recorded.builds[build].figures if build in recorded.builds else {}
    wanted = chosen.only or list(FIGURES)
    found = count(chosen.tree.resolve(), wanted, {} if chosen.write else known)
    print(f"{build}; counted in {time.monotonic() - began:.0f} s")
    print(*report(found, known), sep="\n")
    if chosen.write:
        today = datetime.now(timezone.utc).date().isoformat()
        write(chosen.file, recorded, build, found, chosen.reason.strip(), today)
        return 0
    if not known:
        print(f"NOT COMPARED: {chosen.file.name} has no figures of {build}.")
        print("It has some of:", ", ".join(recorded.builds) or "no build", "(--write adds others)")
        return 0
    for what, here in counted_with().items():
        if (there := recorded.builds[build].counted_with.get(what)) != here:
            print(f"recorded with {what} {there}, counted with {here}")
    return int(any(is_above(value, known.get(name)) for name, value in found.items()))


if __name__ == "__main__":
    sys.exit(main())
