"""A bare Debian in a folder, in which programs run by chroot: what a new machine has, no more."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.support.server import ROOT
from tests.support.tools import absent, find_program

PACKAGES = "python3,python3-venv"
WHEELS = "wheels"
"""The folder below the root from which pip installs: nothing in a bare root needs a network."""
PIP_CONF = f"[global]\nno-index = true\nfind-links = /{WHEELS}\n"
QUICK = ("--dpkgopt=force-unsafe-io", "--dpkgopt=path-exclude=/usr/share/doc/*")


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
    options = ["--quiet", "--mode=root", "--variant=minbase", f"--include={PACKAGES}", *QUICK]
    done = subprocess.run(
        [program, *options, suite, folder], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        absent(f"mmdebstrap cannot make a {suite} here: {done.stderr.strip()[-300:]}")
    (folder / "etc/pip.conf").write_text(PIP_CONF, "utf-8")
    return folder


def python_version(root: Path) -> str:
    """The Python of the bare root, as 3.11."""
    said = in_bare(root, "python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])")
    return said.stdout.strip()


def download(folder: Path, python: str, requirements: Sequence[str | Path]) -> Path:
    """The wheels of what is required, for another Python of this machine's kind."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
    command += ["--dest", str(folder), "--only-binary", ":all:", "--python-version", python]
    command += ["--constraint", str(ROOT / "constraints.txt")]
    done = subprocess.run(
        [*command, *requirements], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


def in_bare(
    root: Path, *command: str | Path, check: bool = True, user: str = "root", **variables: str
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


BARE_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
}


def bare_command(root: Path, *command: str | Path, user: str = "root") -> list[str]:
    """The command that runs a program in it."""
    return [_chroot(), f"--userspec={user}", str(root), *map(str, command)]


def _chroot() -> str:
    return shutil.which("chroot", path="/usr/sbin:/sbin:/usr/bin:/bin") or "chroot"
