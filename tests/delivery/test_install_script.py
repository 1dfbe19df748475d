"""deploy/install.sh, as far as it goes without changing this machine."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.server import ROOT

SCRIPT = ROOT / "deploy/install.sh"
PATH = "/usr/local/bin:/usr/bin:/bin"
NAME = "usher_server-1.2.3-py3-none-any.whl"


def install(*arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    command = ["sh", str(SCRIPT), *map(str, arguments)]
    return subprocess.run(
        command,
        env={"PATH": PATH, "PYTHON": sys.executable, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / NAME
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(ROOT / "deploy/usher.service", "usher_server/deploy/usher.service")
    return path


def test_shellcheck_finds_nothing_in_the_script() -> None:
    program = shutil.which("shellcheck")
    if program is None:
        pytest.skip("shellcheck is not installed: make test-delivery")
    done = subprocess.run([program, SCRIPT], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_a_dry_run_says_every_step_and_takes_none(wheel: Path) -> None:
    done = install("--dry-run", wheel)
    assert done.returncode == 0, done.stderr
    sum_ = hashlib.sha256(wheel.read_bytes()).hexdigest()
    for step in (
        "install -m 0600 /dev/null /etc/usher/usher.env",
        f"{sys.executable} -m venv /opt/usher/releases/1.2.3-{sum_[:8]}",
        f"ln -sfn /opt/usher/releases/1.2.3-{sum_[:8]} /opt/usher/current.new",
        "install the unit of the wheel as /etc/systemd/system/usher.service",
    ):
        assert f"would run: {step}\n" in done.stdout
    assert not Path("/opt/usher/releases").exists()


def test_a_wheel_of_the_current_folder_is_the_same_release(wheel: Path) -> None:
    there = subprocess.run(
        ["sh", SCRIPT, "--dry-run", NAME],
        cwd=wheel.parent,
        env={"PATH": PATH, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    assert there.stdout.replace(NAME, str(wheel)) == install("--dry-run", wheel).stdout


def test_a_dry_run_of_the_removal_keeps_settings_and_data_unless_they_are_purged() -> None:
    kept, purged = (
        install("--uninstall", "--dry-run"),
        install("--dry-run", "--uninstall", "--purge"),
    )
    assert "would run: rm -rf /opt/usher/releases\n" in kept.stdout
    assert "/var/lib/usher and the user usher (--purge removes them)" in kept.stdout
    assert "rm -rf /etc/usher" not in kept.stdout
    assert "would run: rm -rf /etc/usher /var/lib/usher\n" in purged.stdout


def test_a_wheel_is_compared_with_the_sums_beside_it(wheel: Path) -> None:
    sums = wheel.parent / "SHA256SUMS"
    sums.write_text(f"{hashlib.sha256(wheel.read_bytes()).hexdigest()}  {NAME}\n")
    assert install("--dry-run", wheel).returncode == 0
    sums.write_text(f"{'0' * 64}  {NAME}\n")
    done = install("--dry-run", wheel)
    assert done.returncode == 1
    assert done.stderr == f"install.sh: {wheel} is not the file of {sums}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "which wheel?"),
        (("--force",), "unknown option --force"),
        (("a.whl", "b.whl"), "one wheel, not two"),
        (("--purge", "a.whl"), "--purge goes with --uninstall"),
        (("--uninstall", "a.whl"), "--uninstall takes no wheel"),
    ],
)
def test_arguments_that_say_nothing_clear_are_refused(
    arguments: tuple[str, ...], said: str
) -> None:
    done = install("--dry-run", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


@pytest.mark.parametrize("name", ["missing.whl", "other-1.0-py3-none-any.whl"])
def test_a_file_that_is_no_wheel_of_usher_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "other-1.0-py3-none-any.whl").write_bytes(b"")
    done = install("--dry-run", tmp_path / name)
    assert (done.returncode, done.stdout) == (1, "")
    assert str(tmp_path / name) in done.stderr


def test_a_missing_python_is_named_with_its_package(wheel: Path) -> None:
    done = install("--dry-run", wheel, PYTHON="python3.1")
    assert done.returncode == 1
    assert "python3.1 is not there: apt-get install python3 python3-venv" in done.stderr
