"""One version for the server, the clients and the chart."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.version import COPIES, SOURCE, differing, version, write
from services.settings.settings import VERSION
from tests.support.databases import kinds
from tests.support.server import ROOT, Client, usher

database_kind = kinds("sqlite")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the files that name the version."""
    for path, _ in (SOURCE, *COPIES):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    return tmp_path


def test_the_server_the_clients_and_the_chart_have_one_version() -> None:
    assert version() == VERSION
    assert differing() == []


def test_a_new_version_is_written_everywhere_and_nothing_else_changes(tree: Path) -> None:
    write("12.34.56", tree)
    assert version(tree) == "12.34.56"
    assert differing(tree) == []
    for path, _ in (SOURCE, *COPIES):
        changed = (tree / path).read_text("utf-8")
        assert changed.replace("12.34.56", VERSION) == (ROOT / path).read_text("utf-8")


@pytest.mark.parametrize("path", sorted({path for path, _ in COPIES}))
def test_a_file_with_another_version_is_found(tree: Path, path: str) -> None:
    text = (tree / path).read_text("utf-8")
    (tree / path).write_text(text.replace(VERSION, "0.0.9", 1), "utf-8")
    assert differing(tree) == [path]


@pytest.mark.parametrize("wrong", ["1.2", "v1.2.3", "1.2.3rc1", "1.2.3\n"])
def test_a_version_that_npm_or_pip_would_read_differently_is_refused(
    tree: Path, wrong: str
) -> None:
    with pytest.raises(ValueError, match="three numbers"):
        write(wrong, tree)
    assert differing(tree) == []


def test_usher_tells_its_version_on_the_command_line_at_the_start_and_in_its_metrics() -> None:
    command = [sys.executable, str(ROOT / "server.py"), "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"usher {VERSION}\n"
    with usher("sqlite") as server:
        assert f"Usher {VERSION} is ready" in server.log
        text = Client(server).get("/metrics").text.decode()
        assert f'usher_build_info{{version="{VERSION}"}} 1.0' in text
