"""Builds what is published: `make release`, or `.venv/bin/python -m deploy.release [--out dist]`.

The wheel and the source archive of Usher, those of clients/python, the npm package of clients/js,
constraints.txt, install.sh, an SBOM and SHA256SUMS. The same sources give the same bytes, with the
same Python, Node and versions of constraints.txt: dates are SOURCE_DATE_EPOCH or that of the
commit, and everything is built from a copy that has only the files of the repository.
docs/adr/0010-releases.md says why.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from deploy import sbom, version

ROOT = Path(__file__).resolve().parents[1]
UNTRACKED = shutil.ignore_patterns(
    ".git", ".venv*", "__pycache__", "node_modules", "data", "data-practice", "dist", ".*_cache"
)
"""Left out where there is no git that knows better."""
BESIDE = ("constraints.txt", "deploy/install.sh", "LICENSE", "THIRD_PARTY.md")
"""Files of the repository that are published as they are."""
SUMS = "SHA256SUMS"
NPM_QUIET = ("--no-audit", "--no-fund", "--loglevel=error")


class ReleaseError(Exception):
    """The release cannot be built here. The message says why."""


def build(out: Path, *, allow_dirty: bool = False, root: Path = ROOT) -> list[Path]:
    """Build all files of a release into a new folder.

    Args:
        out: made; an earlier release there is replaced.
        allow_dirty: build with changes that are not committed.
        root: the repository, or an unpacked source archive.

    Returns:
        The files, sorted by name.

    Raises:
        ReleaseError: a tool is missing or fails, or there are changes that are not committed.
    """
    wrong = version.differing(root)
    if wrong:
        raise ReleaseError(f"another version than {version.version(root)}: {', '.join(wrong)}")
    if out.exists() and any(out.iterdir()) and not (out / SUMS).exists():
        raise ReleaseError(f"{out} has other files: choose an empty folder")
    with tempfile.TemporaryDirectory(prefix="usher-release-") as name:
        place = Path(name)
        epoch = _epoch(root, allow_dirty)
        sources = copy_sources(root, place / "usher", epoch)
        environment = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch), "LC_ALL": "C.UTF-8"}
        made = place / "dist"
        made.mkdir()
        hatchling = [sys.executable, "-m", "hatchling", "build", "-d", str(made)]
        _run(hatchling, sources, environment)
        _run(hatchling, sources / "clients" / "python", environment)
        _pack_npm(sources / "clients" / "js", made, environment)
        for beside in BESIDE:
            shutil.copy(sources / beside, made)
        _describe(sources, made, place / "installed", environment)
        _sum(made)
        # Only a complete release takes the place of an earlier one.
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(made, out)
    return sorted(out.iterdir())


def copy_sources(root: Path, target: Path, epoch: int) -> Path:
    """Copy the files of the repository, with modes and dates that do not depend on the machine."""
    listed = _git(root, "ls-files", "-z")
    if listed is None:
        shutil.copytree(root, target, ignore=UNTRACKED)
    else:
        for name in filter(None, listed.split("\0")):
            if (root / name).is_file():  # a deleted one is listed until that is committed
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(root / name, target / name)
    for path in target.rglob("*"):
        is_program = path.is_dir() or path.stat().st_mode & 0o100
        path.chmod(0o755 if is_program else 0o644)
        os.utime(path, (epoch, epoch))
    return target


def _sum(folder: Path) -> None:
    """Write SHA256SUMS, which `sha256sum --check` reads."""
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
        for path in sorted(folder.iterdir())
    ]
    (folder / SUMS).write_text("".join(lines), "utf-8")


def _epoch(root: Path, allow_dirty: bool) -> int:
    """The time of the release, in seconds since 1970."""
    if not allow_dirty and _git(root, "status", "--porcelain"):
        raise ReleaseError("there are changes that are not committed: commit, or --allow-dirty")
    given = os.environ.get("SOURCE_DATE_EPOCH")
    committed = given or _git(root, "log", "-1", "--format=%ct")
    # An unpacked source archive: its files have the time of the release.
    return int(committed or (root / "pyproject.toml").stat().st_mtime)


def _git(root: Path, *words: str) -> str | None:
    """What git says; None if it is not there, or this is no repository of its own."""
    if not (root / ".git").exists() or shutil.which("git") is None:
        return None
    return _run(["git", *words], root)


def _pack_npm(folder: Path, out: Path, environment: dict[str, str]) -> None:
    if shutil.which("npm") is None:
        raise ReleaseError("npm is missing, for the package of clients/js (apt-get install npm)")
    _run(["npm", "install", "--ignore-scripts", *NPM_QUIET], folder, environment)
    _run(["npm", "pack", "--pack-destination", str(out), *NPM_QUIET], folder, environment)


def _describe(sources: Path, out: Path, place: Path, environment: dict[str, str]) -> None:
    """Install the wheel into an empty environment, and list what is there."""
    [wheel] = out.glob("usher_server-*.whl")
    _run([sys.executable, "-m", "venv", "--without-pip", str(place)], sources, environment)
    python = str(place / "bin" / "python")
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"]
    limits = ["--no-compile", "--only-binary", ":all:", "-c", str(sources / "constraints.txt")]
    _run([*pip, "install", "--quiet", *limits, str(wheel)], sources, environment)
    number = version.version(sources)
    project = place / "pyproject.toml"
    project.write_text(sbom.project(sources, number), "utf-8")
    target = out / f"usher_server-{number}.cdx.json"
    _run(sbom.command(python, project, target), sources, environment)
    try:
        sbom.complete(target)
    except ValueError as error:
        raise ReleaseError(str(error)) from error


def _run(command: Sequence[str], folder: Path, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(  # noqa: S603 - the commands are those of this file
        command,
        cwd=folder,
        env=environment,
        umask=0o022,  # npm packs files with the modes that they have
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip()
        raise ReleaseError(f"{' '.join(command[:4])} … failed:\n{said}")
    return done.stdout


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m deploy.release", description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="default: dist")
    parser.add_argument("--allow-dirty", action="store_true", help="with uncommitted changes")
    arguments = parser.parse_args()
    try:
        files = build(arguments.out.resolve(), allow_dirty=arguments.allow_dirty)
    except ReleaseError as error:
        print(f"usher: no release: {error}", file=sys.stderr)
        return 1
    for path in files:
        print(f"{path.stat().st_size:>10}  {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
