"""examples/native, run as written: a browser signs in, the program opens a socket and prints."""

from __future__ import annotations

import os
import queue
import re
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, expect

from tests.support.browser import Tab, Visitor, chromium, visitors
from tests.support.node import node_command
from tests.support.practice_provider import (
    STYLES,
    PracticeProvider,
    practice_provider,
    settings_for,
)
from tests.support.server import PATIENCE, ROOT, Usher, sign_up, usher, wait_until
from tests.support.tools import need

PYTHON, NODE = "python", "node"
FOLDER = ROOT / "examples/native"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def practice() -> Iterator[PracticeProvider]:
    with practice_provider() as running:
        yield running


@pytest.fixture(scope="module")
def server(practice: PracticeProvider) -> Iterator[Usher]:
    with usher("sqlite", **settings_for(practice)) as running:
        sign_up(running)
        yield running


@pytest.fixture
def visitor(browser: Browser, server: Usher) -> Iterator[Visitor]:
    with visitors(browser, server) as new:
        one = new()
        one.context.route(STYLES, lambda route: route.fulfill(content_type="text/css", body=""))
        yield one


class Program:
    """One of the examples, running.

    Attributes:
        asked: where it sent its browser.
    """

    def __init__(self, command: Sequence[str | Path], folder: Path) -> None:
        asked = folder / "asked"
        browser = folder / "browser"
        # What BROWSER names is given the address; the test then goes there with Chromium.
        browser.write_text(f'#!/bin/sh\nprintf "%s" "$1" > {asked}.new && mv {asked}.new {asked}\n')
        browser.chmod(0o755)
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, "BROWSER": str(browser), "NODE_NO_WARNINGS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        shown = self.line("Sign in in your browser: ").partition(": ")[2]
        self._asked = asked
        self.shown = shown

    @property
    def asked(self) -> str:
        return self._asked.read_text() if self._asked.exists() else ""

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put("")

    def line(self, beginning: str) -> str:
        """The next line that begins so."""
        seen = []
        while True:
            line = self._lines.get(timeout=PATIENCE)
            if line.startswith(beginning):
                return line
            seen.append(line)
            assert line, f"it ended: {seen}"

    def end(self) -> int:
        """Wait for its end; returns its status."""
        return self.process.wait(timeout=PATIENCE)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait(timeout=PATIENCE)
        self._reader.join(timeout=PATIENCE)
        assert self.process.stdout is not None
        self.process.stdout.close()


Start = Callable[..., Program]


@pytest.fixture(params=[PYTHON, NODE])
def start(request: pytest.FixtureRequest, server: Usher, tmp_path: Path) -> Iterator[Start]:
    """Starts one of the programs, with these arguments."""
    running: list[Program] = []

    def begin(*arguments: str) -> Program:
        if request.param == PYTHON:
            command: list[str | Path] = [sys.executable, FOLDER / "sign_in.py"]
        else:
            command = [*node_command(), FOLDER / "sign-in.mjs"]
        running.append(Program([*command, server.url, *arguments], tmp_path))
        return running[-1]

    try:
        yield begin
    finally:
        for program in running:
            program.close()


@contextmanager
def browser_of(program: Program, visitor: Visitor) -> Iterator[Tab]:
    """Chromium where the program sent its browser."""
    wait_until(lambda: program.asked)
    assert program.asked == program.shown
    yield visitor.open(program.asked)


def prints_what_comes(program: Program) -> None:
    """It is signed in, its socket is open, and it prints what comes."""
    program.line("Signed in as ")
    joined = program.line('{"event":"joined"')
    assert re.search(r'"rooms":\["user:', joined)


@pytest.mark.slow
def test_by_a_password(start: Start, visitor: Visitor, server: Usher) -> None:
    owner = sign_up(server, email=visitor.email)
    program = start()
    with browser_of(program, visitor) as tab:
        expect(tab.at("#sign-in .asks")).to_contain_text("A program on this computer")
        tab.sign_in(visitor.email)
        expect(tab.page.locator("body")).to_contain_text("You are signed in.")
        prints_what_comes(program)
    [session] = [one for one in owner.get("/api/sessions").body["items"] if one["live_sockets"]]
    assert session["client"] == "native"
    assert session["device"].startswith("Usher example (")
    assert owner.call("DELETE", f"/api/sessions/{session['id']}").status == 204
    program.line('{"event":"closing"')
    assert "4410" in program.line("The socket was closed")
    assert program.end() == 1


def test_by_a_provider(start: Start, visitor: Visitor) -> None:
    program = start("--provider", "practice")
    with browser_of(program, visitor) as tab:
        tab.page.get_by_placeholder("sub").fill(visitor.email)
        tab.page.get_by_role("button", name="Authorize").click()
        expect(tab.page.locator("body")).to_contain_text("You are signed in.")
        prints_what_comes(program)


def test_a_no_ends_it(start: Start, visitor: Visitor) -> None:
    program = start("--provider", "practice")
    with browser_of(program, visitor) as tab:
        tab.page.get_by_role("button", name="Deny").click()
        expect(tab.page.locator("body")).to_contain_text("You are not signed in.")
        assert "access_denied" in program.line("Not signed in")
    assert program.end() == 1


def test_what_another_program_sends_to_its_port_is_not_accepted(
    start: Start, visitor: Visitor, server: Usher
) -> None:
    sign_up(server, email=visitor.email)
    program = start()
    with browser_of(program, visitor) as tab:
        uri = parse_qs(urlsplit(program.asked).query)["redirect_uri"][0]
        for query in ("", "?code=x", "?code=x&state=x", "?error=access_denied&state="):
            try:
                urllib.request.urlopen(uri + query, timeout=PATIENCE).close()
            except urllib.error.HTTPError as error:
                error.close()
        tab.sign_in(visitor.email)
        prints_what_comes(program)


def test_a_runtime_without_websocket_is_reported_before_the_sign_in() -> None:
    node = need("the example in Node needs it (apt-get install nodejs)", "node")
    done = subprocess.run(
        [node, "--no-experimental-websocket", FOLDER / "sign-in.mjs", "http://127.0.0.1:1"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 1
    assert "Node 22 or later is needed" in done.stderr
    assert done.stdout == ""
