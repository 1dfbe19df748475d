"""The package as users get it: built, installed into a separate environment, and run there."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from services.settings.settings import VERSION
from tests.client_python.conftest import Place
from tests.support.python_package import PROGRAM
from tests.support.server import PASSWORD, ROOT, address, sign_up

pytestmark = pytest.mark.slow
SOURCES = ROOT / "clients" / "python"
CONSUMER = """
from usher_client import Message, Usher

async def texts(usher: Usher) -> list[str]:
    room = usher.room("channel:x")
    message: Message = await anext(room)
    return [await room.send({}), message.event]
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "-d", str(folder), cwd=SOURCES)
    [found] = folder.glob("*.whl")
    return found


def run(*command: str, cwd: Path | None = None) -> str:
    environment = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_has_its_types_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "usher_client/py.typed" in names
    wanted = {path.name for path in (SOURCES / "src" / "usher_client").rglob("*.py")}
    assert {Path(name).name for name in names if name.endswith(".py")} == wanted
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"usher_client"}


def test_it_installs_into_a_clean_environment_and_works(
    wheel: Path, place: Place, tmp_path: Path
) -> None:
    run(sys.executable, "-m", "venv", str(tmp_path / "env"))
    python = str(tmp_path / "env" / "bin" / "python")
    pip = (python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
    run(*pip, "--constraint", str(ROOT / "constraints.txt"), f"{wheel}[backend]")
    run(python, "-m", "pip", "check")
    email = address()
    sign_up(place.server, email=email)
    said = run(python, "-c", PROGRAM, place.server.url, email, PASSWORD, place.channel())
    assert said.split() == [VERSION, "hello", "True"]
    # A program that uses it is checked by its types, as they are installed.
    consumer = tmp_path / "consumer.py"
    consumer.write_text(CONSUMER)
    checked = ("--strict", "--python-executable", python, "--config-file", os.devnull)
    run(sys.executable, "-m", "mypy", *checked, str(consumer), cwd=tmp_path)
