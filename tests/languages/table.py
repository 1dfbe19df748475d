"""Runs each library of libraries.py against peer.py, and makes the table of docs/clients.md."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.languages.libraries import LIBRARIES, Library, Place
from tests.languages.peer import BEHIND, CASES, REFUSED, RESTART, SLEEP, Seen, peer
from tests.support.join import PROGRAMS
from tests.support.server import ROOT

DOCUMENT = ROOT / "docs/clients.md"
BEGIN, END = "<!-- made by `python -m tests.languages --write` -->", "<!-- end -->"
HEAD = (
    "language", "library", "version", "close right behind the 101", "1012 is reported as",
    "sets `Authorization`", "offers subprotocols", "answers a ping while the program sleeps",
    "shows a refused handshake", "run on",
)  # fmt: skip
RUN_SECONDS = 25
"""A probe that has not ended by then waits for data that the server has already sent."""
CLOSING = re.compile(r'^text .*"closing"', re.MULTILINE)


def main(arguments: Sequence[str]) -> int:
    """Returns the exit status: 1 where a library that is here could not be run."""
    parser = argparse.ArgumentParser(prog="python -m tests.languages")
    parser.add_argument("--write", action="store_true", help="put the table into docs/clients.md")
    parser.add_argument("--packages", action="store_true", help="only print Debian's packages")
    parser.add_argument("words", nargs="*", help="only libraries whose language or name has one")
    chosen = parser.parse_args(arguments)
    if chosen.packages:
        sys.stdout.write(" ".join(packages()) + "\n")
        return 0
    rows, failed = {}, False
    libraries = [one for one in LIBRARIES if wanted(one, chosen.words)]
    with tempfile.TemporaryDirectory(prefix="usher-languages-") as root:
        place = Place(Path(root))
        place.install(libraries)
        for library in libraries:
            if library.lacking:
                sys.stdout.write(f"skipped: {library.name}: {library.lacking}\n")
                continue
            try:
                rows[title(library)] = line_of(library, place)
            except Exception:  # noqa: BLE001 - one that fails must not keep the others from being run
                traceback.print_exc()
                failed = True
            else:
                sys.stdout.write(rows[title(library)] + "\n")
                sys.stdout.flush()
    if chosen.write:
        write(rows)
    return int(failed)


def packages() -> list[str]:
    """Debian's, of all libraries and of examples/native/join."""
    lists = (program.packages for program in (*LIBRARIES, *PROGRAMS))
    return sorted({name for names in lists for name in names.split()})


def wanted(library: Library, words: Sequence[str]) -> bool:
    return not words or any(word.lower() in title(library).lower() for word in words)


def title(library: Library) -> str:
    """What a row begins with."""
    return f"| {library.language} | {library.name} |"


def line_of(library: Library, place: Place) -> str:
    """Run it in each case; returns its row."""
    folder = Path(tempfile.mkdtemp(dir=place.root))
    command = library.command(folder, place)
    with peer() as server:
        said = {case: run([*command, server.url(case), "a-token"], folder) for case in CASES}
        for case in CASES:
            assert case in server.seen, f"it did not ask: {said[case]}"
        cells = judged(said, server.seen)
    today = time.strftime("%Y-%m-%d")
    return " ".join([title(library), " | ".join([library.version, *cells, today]), "|"])


def run(command: Sequence[str], folder: Path) -> str:
    """What a probe prints, until it ends or nothing more comes."""
    with subprocess.Popen(
        command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    ) as process:  # fmt: skip
        try:
            out, _ = process.communicate(timeout=RUN_SECONDS)
        except subprocess.TimeoutExpired:
            process.terminate()
            out, _ = process.communicate()
    return out


def judged(said: Mapping[str, str], seen: Mapping[str, Seen]) -> list[str]:
    """The cells of a row, from what the program printed and what the server saw, by case.

    Raises:
        AssertionError: the program did not go through the case that every library can.
    """
    assert CLOSING.search(said[SLEEP]), f"it was not cut while it was awake: {said[SLEEP]!r}"
    headers = seen[BEHIND].headers
    offered = headers.get("sec-websocket-protocol", "")
    return [
        behind(said[BEHIND]),
        "1012" if (end := ending(said[RESTART])) == "1012" else f"**{end}**",
        yes("authorization" in headers),
        yes("usher.v1" in offered and "usher.bearer." in offered),
        "yes" if seen[SLEEP].pong_asleep else "only while it reads",
        refusal(said[REFUSED]),
    ]


def behind(out: str) -> str:
    told, end = CLOSING.search(out), ending(out)
    if told and end == "4401":
        return (
            "`closing`, code and reason"
            if "unauthenticated" in out.partition("close ")[2]
            else "`closing` and code"
        )
    if told:
        return f"**`closing` only** (code: {end})"
    return f"**code only: {end}**" if end == "4401" else "**neither: held back**"


def ending(out: str) -> str:
    """The code that was reported for a close."""
    found = re.search(r"^close (\d+)", out, re.MULTILINE)
    return found[1] if found else "none"


def refusal(out: str) -> str:
    if "token_expired" in out:
        return "status and body"
    return "status" if "401" in out else "no"


def yes(found: bool) -> str:
    return "yes" if found else "no"


def write(rows: Mapping[str, str]) -> None:
    """Put these rows into the document; the others stay as they are."""
    before, rest = DOCUMENT.read_text("utf-8").split(BEGIN)
    old, after = rest.split(END)
    kept = {
        title(library): line
        for line in old.splitlines()
        for library in LIBRARIES
        if line.startswith(title(library))
    }
    lines = kept | dict(rows)
    table = ["| " + " | ".join(HEAD) + " |", "|" + "-|" * len(HEAD)]
    table += [lines[title(one)] for one in LIBRARIES if title(one) in lines]
    DOCUMENT.write_text(f"{before}{BEGIN}\n" + "\n".join(table) + f"\n{END}{after}", "utf-8")
