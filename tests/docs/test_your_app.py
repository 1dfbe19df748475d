"""docs/your-app.md, followed as written: its files, its commands, and a browser."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.support.browser import chromium
from tests.support.server import PASSWORD, PATIENCE, ROOT, address, free_port, usher

TEXT = (ROOT / "docs" / "your-app.md").read_text("utf-8")
PORTS = ("8888", "8001", "8002")


@pytest.fixture
def ports() -> dict[str, str]:
    """Free ones in place of those on the page."""
    return {port: str(free_port()) for port in PORTS}


def of_the_page(language: str, begin: str, ports: dict[str, str]) -> str:
    """The one block of a language that has this in it, at our own ports."""
    blocks = re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)
    [block] = [block for block in blocks if begin in block]
    return at(block, ports)


def at(text: str, ports: dict[str, str]) -> str:
    for old, new in ports.items():
        text = re.sub(rf"\b{old}\b", new, text)
    return text


@pytest.fixture
def app(tmp_path: Path, ports: dict[str, str]) -> Iterator[str]:
    """Everything that the section has one start; returns the page's address."""
    settings = dict(re.findall(r"USHER_(\w+)=(\S+)", of_the_page("sh", "make run", ports)))
    assert set(settings) == {"PUBLIC_URL", "ALLOWED_ORIGINS", "APP_AUDIENCES"}
    (tmp_path / "my-app" / "page").mkdir(parents=True)
    backend = of_the_page("python", "FastAPI()", ports)
    (tmp_path / "my-app" / "notes.py").write_text(backend)
    page = of_the_page("html", "createUsher", ports)
    (tmp_path / "my-app" / "page" / "index.html").write_text(page)
    with ExitStack() as stack:
        server = stack.enter_context(usher("sqlite", PORT=ports["8888"], **settings))
        make_key = of_the_page("sh", "create-api-key", ports)
        [words] = re.findall(r"server\.py (create-api-key [^|\n]*--json)", make_key)
        made = subprocess.run(
            [sys.executable, "server.py", *words.split()],
            cwd=ROOT,
            env=server.environment,
            check=True,
            capture_output=True,
        )
        sources = os.fspath(ROOT / "clients" / "python" / "src")
        environment = {"KEY": json.loads(made.stdout)["key"], "PYTHONPATH": sources}
        for line in of_the_page("sh", "uvicorn --app-dir", ports).strip().splitlines():
            command = [sys.executable, *line.removeprefix(".venv/bin/python").split()]
            process = subprocess.Popen(
                command,
                cwd=tmp_path,
                env=os.environ | environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            stack.callback(process.wait, PATIENCE)
            stack.callback(process.terminate)
        for port in (ports["8001"], ports["8002"]):
            answers(f"http://localhost:{port}/")
        yield f"http://localhost:{ports['8001']}"


def answers(url: str) -> int:
    """Wait for any answer; returns its status."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code
        except OSError:
            assert time.monotonic() < end, f"nothing answers at {url}"
            time.sleep(0.05)


def test_the_notes_of_the_page_work_as_they_are_written(app: str, ports: dict[str, str]) -> None:
    request = urllib.request.Request(f"http://localhost:{ports['8002']}/notes", b"hello")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=PATIENCE)
    with refused.value as answer:
        assert answer.code == 401
    with chromium() as browser:
        context = browser.new_context()
        first = context.new_page()
        first.goto(app)
        first.get_by_role("link", name="Sign in").click()
        first.get_by_role("link", name="Create an account").click()
        for field, text in (("name", "Ada"), ("email", address()), ("password", PASSWORD)):
            first.locator(f"#up-{field}").fill(text)
        first.locator("#sign-up-form [type=submit]").click()
        expect(first.locator("#who")).to_have_text("Ada")
        second = context.new_page()
        second.goto(app)
        expect(second.locator("#who")).to_have_text("Ada")
        for number, page in enumerate((first, second), 1):
            page.get_by_label("Note", exact=True).fill(f"note {number}")
            page.get_by_role("button", name="Note").click()
            for tab in (first, second):
                expect(tab.locator("li")).to_have_text([f"note {n + 1}" for n in range(number)])
        second.reload()
        expect(second.locator("li")).to_have_text(["note 1", "note 2"])


def test_every_program_that_the_page_names_is_there() -> None:
    for path in re.findall(r"examples/\w+/\w+\.py|docs/proxies/\w+", TEXT):
        assert (ROOT / path).exists(), path
