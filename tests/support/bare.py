"""A bare Debian in a folder, in which programs run by chroot: what a new machine has, no more."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from tests.support.server import ROOT
from tests.support.tools import absent, find_program

PACKAGES = "python3,python3-venv"
WHEELS = "wheels"
"""The folder below the root from which pip installs: nothing in a bare root needs a network."""
PIP_CONF = f"[global]\nno-index = true\nfind-links = /{WHEELS}\n"
LEFT_OUT = ("doc", "locale", "man", "zoneinfo")
"""Folders of /usr/share: a third of the files, which are copied several times."""
OLDER_PYTHON = ("async-timeout",)
"""Needed by Python 3.11.2, which is Debian 12's, and not by 3.11.3: pip's --python-version does not
tell them apart."""

BARE_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
}
NOTHING: Mapping[str, str] = MappingProxyType({})


def make_bare(folder: Path) -> Path:
    """Make it. Where that does not work, the test is skipped.

    Args:
        folder: made; a file system that allows devices and programs.
    """
    if os.geteuid() != 0:
        absent("a bare Debian needs root rights: mmdebstrap and chroot")
    program = find_program("mmdebstrap", "mmdebstrap")
    try:
        suite = platform.freedesktop_os_release()["VERSION_CODENAME"]
    except (OSError, KeyError):
        absent("this system has no name of a Debian release in os-release")
    options = ["--quiet", "--mode=root", "--variant=minbase", f"--include={PACKAGES}"]
    options += ["--dpkgopt=force-unsafe-io"]
    options += [f"--dpkgopt=path-exclude=/usr/share/{each}/*" for each in LEFT_OUT]
    done = subprocess.run(
        [program, *options, suite, folder], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        absent(f"mmdebstrap cannot make a {suite} here: {done.stderr.strip()[-300:]}")
    (folder / "etc/pip.conf").write_text(PIP_CONF, "utf-8")
    (folder / WHEELS).mkdir()
    (folder / "usr/local/bin/python").symlink_to("/usr/bin/python3")  # as in the image of Python
    if min(sys.version_info[:2], _version(folder)) < (3, 11):
        absent("Python 3.10 has other requirements than later ones, and pip cannot download both")
    return folder


@contextmanager
def another(pristine: Path, folder: Path) -> Iterator[Path]:
    """A root with the same files, which can be changed: an overlay, or a copy where the kernel has
    none.

    Args:
        folder: made, with all changes in it.
    """
    root = folder / "root"
    for each in ("root", "changes", "work"):
        (folder / each).mkdir(parents=True)
    layers = f"lowerdir={pristine},upperdir={folder / 'changes'},workdir={folder / 'work'}"
    mount = ["mount", "-t", "overlay", "overlay", "-o", layers, str(root)]
    mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    if not mounted:
        subprocess.run(["cp", "--archive", f"{pristine}/.", root], check=True)
    try:
        yield root
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", root], check=True)
        shutil.rmtree(folder, ignore_errors=True)


def _version(root: Path) -> tuple[int, int]:
    said = in_bare(root, "python3", "-c", "import sys; print(*sys.version_info[:2])").stdout
    major, minor = map(int, said.split())
    return major, minor


def download(root: Path, folder: Path) -> None:
    """The wheels of what Usher needs, for the Python of a bare root."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
    command += ["--python-version", "{}.{}".format(*_version(root)), "--only-binary", ":all:"]
    command += ["--constraint", "constraints.txt", "--dest", str(folder)]
    done = subprocess.run(
        [*command, "--requirement", "requirements.txt", *OLDER_PYTHON],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def in_bare(
    root: Path,
    *command: str | Path,
    check: bool = True,
    user: str = "root",
    variables: Mapping[str, str] = NOTHING,
) -> subprocess.CompletedProcess[str]:
    """Run a program in it, with no variables of this process."""
    done = subprocess.run(
        bare_command(root, *command, user=user),
        env={**BARE_ENVIRONMENT, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def bare_command(root: Path, *command: str | Path, user: str = "root") -> list[str]:
    """The command that runs a program in it."""
    return [_chroot(), f"--userspec={user}", str(root), *map(str, command)]


def _chroot() -> str:
    return shutil.which("chroot", path="/usr/sbin:/sbin:/usr/bin:/bin") or "chroot"
