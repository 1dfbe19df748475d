"""The SBOM of a release: CycloneDX, written by cyclonedx-py from an environment with the wheel.

cyclonedx-py reads the main component from a pyproject.toml, but only what is written in it:
Usher's own takes its version and its dependencies from other files. So it gets one with both.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from deploy.licences import READ, requirements

SPEC = "1.6"
NAME = "usher-server"
SUMMARY = "A WebSocket authentication server"


def project(sources: Path, version: str) -> str:
    """A pyproject.toml with the version and the dependencies.

    Args:
        sources: the folder with requirements.txt.
    """
    text = (sources / "requirements.txt").read_text("utf-8")
    needed = [f"{each.name}{each.specifier}" for each in requirements(text)]
    fields = {
        "name": NAME,
        "version": version,
        "description": SUMMARY,
        "license": "MIT",
        "dependencies": needed,
    }
    # Strings and lists of strings are the same in JSON and in TOML.
    lines = (f"{name} = {json.dumps(value)}\n" for name, value in fields.items())
    return f"[project]\n{''.join(lines)}"


def command(python: str, project: Path, target: Path) -> list[str]:
    """The command that writes the SBOM of an environment.

    Args:
        python: of the environment.
        project: the file with the text of `project`.
    """
    options = ["--output-reproducible", "--pyproject", str(project), "--sv", SPEC]
    program = [sys.executable, "-m", "cyclonedx_py", "environment"]
    return [*program, *options, "--of", "JSON", "-o", str(target), python]


def complete(target: Path) -> None:
    """Add the licences that only the files of a package name, not its metadata.

    Raises:
        ValueError: a component has no licence that is known.
    """
    document = json.loads(target.read_text("utf-8"))
    for component in document["components"]:
        if component.get("licenses"):
            continue
        if component["name"] not in READ:
            raise ValueError(f"{component['name']} names no licence: see deploy/licences.py")
        component["licenses"] = [{"license": {"id": READ[component["name"]]}}]
    target.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n", "utf-8")
