"""deploy/usher.service, read by systemd's own checks."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from services.settings.settings import EXIT_STATUS
from services.settings.table import SETTINGS
from tests.support.server import ROOT

UNIT = (ROOT / "deploy/usher.service").read_text("utf-8")
ANALYZE = shutil.which("systemd-analyze")
HIGHEST_EXPOSURE = 3.0
needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed")


def value(name: str) -> str:
    found: list[str] = re.findall(rf"^{name}=(.*)$", UNIT, re.MULTILINE)
    (only,) = found
    return only


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit, with a program that exists on this machine."""
    path = tmp_path / "usher.service"
    program = f"ExecStart={sys.executable} {ROOT / 'server.py'}"
    path.write_text(re.sub(r"^ExecStart=.*$", program, UNIT, flags=re.MULTILINE), "utf-8")
    return path


def analyze(*arguments: object) -> subprocess.CompletedProcess[str]:
    assert ANALYZE is not None
    return subprocess.run(
        [ANALYZE, *map(str, arguments)], capture_output=True, text=True, check=False
    )


@needs_systemd
def test_systemd_accepts_the_unit(unit: Path) -> None:
    done = analyze("verify", "--man=no", unit)
    assert "usher.service" not in done.stderr
    assert done.returncode == 0, done.stderr


@needs_systemd
def test_the_exposure_of_the_unit_is_low(unit: Path) -> None:
    done = analyze("security", "--offline=true", "--no-pager", unit)
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd-analyze has no --offline")
    found = re.search(r"Overall exposure level for usher\.service: ([\d.]+)", done.stdout)
    assert found is not None, done.stderr
    assert float(found[1]) < HIGHEST_EXPOSURE


def test_the_unit_waits_for_a_drain_before_it_kills() -> None:
    drain = next(float(each.default or 0) for each in SETTINGS if each.name == "DRAIN_SECONDS")
    assert float(value("TimeoutStopSec")) >= drain + 20
    assert value("KillMode") == "mixed"


def test_the_unit_does_not_start_again_with_an_invalid_setting() -> None:
    assert int(value("RestartPreventExitStatus")) == EXIT_STATUS


def test_the_unit_stores_in_its_state_directory_and_sets_only_settings_that_exist() -> None:
    given = dict(pair.split("=", 1) for pair in value("Environment").split())
    assert given["USHER_DATA_DIR"] == f"/var/lib/{value('StateDirectory')}"
    known = {f"USHER_{each.name}" for each in SETTINGS}
    assert {name for name in given if name.startswith("USHER_")} <= known
