"""The version of a release, which the server, the clients, the image and the chart share.

VERSION in services/settings/settings.py is what counts. `python -m deploy.version 1.2.0` writes it
there and into all files of COPIES; without a version it prints it. `--check` only compares.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ("services/settings/settings.py", r'^VERSION = "(.+)"$')
COPIES = (
    ("clients/js/package.json", r'^  "version": "(.+)",$'),
    ("clients/js/README.md", r"usher-client-([\d.]+)\.tgz"),
    ("clients/js/README.md", r"\?v=([\d.]+\d)"),
    ("clients/python/src/usher_client/version.py", r'^__version__ = "(.+)"$'),
    ("deploy/Dockerfile", r'image\.version="(.+)"$'),
    ("deploy/helm/usher/Chart.yaml", r"^version: (.+)$"),
    ("deploy/helm/usher/Chart.yaml", r'^appVersion: "(.+)"$'),
    ("static/usher-app.js", r"^export const VERSION = '(.+)';$"),
)
"""Files that cannot read VERSION, each with what is in front of and behind it."""
VALID = re.compile(r"\d+\.\d+\.\d+")
"""As both SemVer (npm, Helm) and PEP 440 (pip) read it."""


def version(root: Path = ROOT) -> str:
    """The version of this tree.

    Raises:
        ValueError: there is none, or more than one.
    """
    found = set(_found(root, *SOURCE))
    if len(found) != 1:
        raise ValueError(f"{SOURCE[0]}: not one VERSION")
    return found.pop()


def differing(root: Path = ROOT) -> list[str]:
    """The files with another version, or without one."""
    wanted = {version(root)}
    return sorted({path for path, form in COPIES if set(_found(root, path, form)) != wanted})


def write(new: str, root: Path = ROOT) -> None:
    """Write a version into all files.

    Raises:
        ValueError: it is not three numbers.
    """
    if not VALID.fullmatch(new):
        raise ValueError(f"{new!r} is not three numbers, as 1.2.0")
    for path, form in (SOURCE, *COPIES):
        text = (root / path).read_text("utf-8")
        text = re.sub(form, lambda found: _with(found, new), text, flags=re.MULTILINE)
        (root / path).write_text(text, "utf-8")


def _found(root: Path, path: str, form: str) -> Iterator[str]:
    text = (root / path).read_text("utf-8")
    yield from (match[1] for match in re.finditer(form, text, re.MULTILINE))


def _with(found: re.Match[str], new: str) -> str:
    start = found.start()
    return found[0][: found.start(1) - start] + new + found[0][found.end(1) - start :]


def main() -> int:
    """Returns the exit status: 1 if --check finds a difference."""
    arguments = sys.argv[1:]
    try:
        if arguments and arguments != ["--check"]:
            write(arguments[0])
        print(version())
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    wrong = differing()
    for path in wrong:
        print(f"{path} has another version: run python -m deploy.version VERSION", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
