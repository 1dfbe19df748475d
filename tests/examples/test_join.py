"""examples/native/join with a real Usher, in each language: join, send, receive, and be cut.

One whose tools are not on the machine is skipped, in CI too: `make test-clients` installs them.
"""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.join import BUILD_SECONDS, PROGRAMS, Program
from tests.support.node import node_command
from tests.support.server import PASSWORD, PATIENCE, ROOT, Usher, address, sign_up, usher

FOLDER = ROOT / "examples/native/join"
QUICK = ("python", "node")
"""Languages that every machine with these tests has."""


def command_of(language: str) -> list[str]:
    if language == "python":
        return [sys.executable, str(FOLDER / "join.py")]
    return [*map(str, node_command()), str(FOLDER / "join.mjs")]


@pytest.fixture(scope="module")
def server() -> Iterator[Usher]:
    with usher("sqlite") as running:
        sign_up(running)  # the first is an administrator; those that follow are not
        yield running


@pytest.mark.parametrize("language", QUICK)
def test_in_a_language_of_these_tests(language: str, server: Usher) -> None:
    goes_through_all_of_it(command_of(language), server)


@pytest.mark.slow
@pytest.mark.timeout(2 * BUILD_SECONDS)
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.language)
def test_in_a_language_of_its_own_tools(program: Program, server: Usher, tmp_path: Path) -> None:
    if program.lacking:
        pytest.skip(program.lacking)
    goes_through_all_of_it(program.built(FOLDER, tmp_path), server, ends_well=program.ends_well)


@pytest.mark.parametrize("language", QUICK)
def test_a_wrong_password_is_said(language: str, server: Usher) -> None:
    done = subprocess.run(
        [*command_of(language), server.url, address(), "channel:x"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode != 0
    assert done.stdout == ""
    assert "401" in done.stderr


def test_every_example_is_run() -> None:
    run = {path.name for path in FOLDER.iterdir() if not path.name.startswith((".", "__"))}
    assert {"join.py", "join.mjs", *(program.source for program in PROGRAMS)} == run


def goes_through_all_of_it(command: list[str], server: Usher, *, ends_well: bool = True) -> None:
    """Ada's program is in the room and heard there, then she ends its session from elsewhere."""
    email = address()
    ada = sign_up(server, email=email)
    answer = ada.post("/api/channels", {"name": "tea"})
    assert answer.status == 201, answer
    room = f"channel:{answer.body['id']}"
    with running([*command, server.url, email, room]) as lines:
        assert lines.next() == "signed in as Ada"
        assert lines.next() == f"joined {room}"
        assert lines.next() == "received hello"
        [session] = [one for one in ada.get("/api/sessions").body["items"] if one["live_sockets"]]
        assert ada.call("DELETE", f"/api/sessions/{session['id']}").status == 204
        assert lines.next() == "closing 4410 session_revoked, retry: login"
        assert lines.next() == "closed 4410 session_revoked"
        assert not ends_well or lines.status() == 0


class Lines:
    """What a program prints."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout:
            for line in self._process.stdout:
                self._lines.put(line.rstrip("\n"))

    def next(self) -> str:
        try:
            return self._lines.get(timeout=3 * PATIENCE)  # some start a virtual machine first
        except queue.Empty:
            raise AssertionError("it printed no further line") from None

    def status(self) -> int:
        return self._process.wait(PATIENCE)

    def close(self) -> None:
        self._process.kill()
        self._process.wait(PATIENCE)
        self._reader.join(PATIENCE)


@contextmanager
def running(command: list[str]) -> Iterator[Lines]:
    process = subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    lines = Lines(process)
    try:
        yield lines
    finally:
        lines.close()


def environment() -> dict[str, str]:
    return {**os.environ, "USHER_PASSWORD": PASSWORD, "NODE_NO_WARNINGS": "1", "no_proxy": "*"}
