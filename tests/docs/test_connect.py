"""The area "Connect your app": it shows the code of the guides, which works as shown."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.docs.test_your_app import answers
from tests.support.browser import Visitor, chromium, visitors
from tests.support.proxies import find
from tests.support.server import PASSWORD, PATIENCE, ROOT, Usher, address, free_port, usher
from tests.support.tools import need

GUIDE = (ROOT / "docs" / "your-app.md").read_text("utf-8")
PROXY = (ROOT / "docs" / "proxies" / "nginx-auth-request.conf").read_text("utf-8")
CLIENT = os.fspath(ROOT / "clients" / "python" / "src")


class Ports(NamedTuple):
    usher: str
    page: str
    backend: str
    front: str


class Shown(NamedTuple):
    """What the page shows for one file: where to save it, its text, and how to start it."""

    file: str
    text: str
    run: str


@pytest.fixture(scope="module")
def ports() -> Ports:
    return Ports(*(str(free_port()) for _ in Ports._fields))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def server(ports: Ports) -> Iterator[Usher]:
    """Set as the page says."""
    with usher(
        "sqlite",
        PORT=ports.usher,
        PUBLIC_URL=f"http://localhost:{ports.usher}",
        ALLOWED_ORIGINS=f"http://localhost:{ports.page}",
        APP_AUDIENCES="notes",
    ) as running:
        yield running


@pytest.fixture(scope="module")
def admin(browser: Browser, server: Usher) -> Iterator[Visitor]:
    with visitors(browser, server) as new:
        yield new()


@pytest.fixture(scope="module")
def shown(admin: Visitor, ports: Ports) -> dict[str, Shown]:
    """All files with our ports and a new key, by the names of their tabs, as an administrator
    copies them."""
    page = admin.open(f"http://localhost:{ports.usher}/#sign-up").page
    for field, text in (("name", "Ada"), ("email", admin.email), ("password", PASSWORD)):
        page.locator(f"#up-{field}").fill(text)
    page.locator("#sign-up-form [type=submit]").click()
    page.locator("#areas").get_by_role("link", name="Administration").click()
    links = page.get_by_role("navigation", name="Administration")
    links.get_by_role("link", name="Connect your app").click()
    expect(page.get_by_text("Not set yet")).to_be_visible()
    fill(page, ports)
    expect(page.get_by_text("Both are set.")).to_be_visible()
    page.get_by_role("button", name="Make a key").click()
    expect(page.get_by_text("The key is filled in below.")).to_be_visible()
    found = {}
    for name in ("Browser", "FastAPI", "Node", "nginx"):
        page.get_by_role("tab", name=name).click()
        panel = page.get_by_role("tabpanel", name=name)
        found[name] = Shown(
            panel.locator(".hint code").inner_text(),
            panel.get_by_role("region", name="The file").text_content() or "",
            panel.get_by_role("region", name="How to start it").text_content() or "",
        )
    return found


def fill(page: Page, ports: Ports) -> None:
    page.get_by_label("Your page").fill("http://localhost:80x")
    expect(page.get_by_text("An address such as http://localhost:8001.")).to_be_visible()
    page.get_by_label("Your page").fill(f"http://localhost:{ports.page}")
    page.get_by_label("Your backend").fill(f"http://localhost:{ports.backend}")
    page.get_by_label("Port of nginx").fill(ports.front)


# ---- the same as the guides -----------------------------------------------------------------


def block(language: str, begin: str, ports: Ports) -> str:
    """The one block of the guide with this in it, at our ports."""
    blocks = re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)
    [found] = [one for one in blocks if begin in one]
    return at(found, {"8888": ports.usher, "8001": ports.page, "8002": ports.backend})


def at(text: str, changes: Mapping[str, str]) -> str:
    for old, new in changes.items():
        text = re.sub(rf"\b{old}\b", new, text)
    return text


def test_the_files_are_those_of_the_guides(shown: dict[str, Shown], ports: Ports) -> None:
    for name, language, begin, file in (
        ("Browser", "html", "createUsher", "my-app/page/index.html"),
        ("FastAPI", "python", "FastAPI()", "my-app/notes.py"),
        ("Node", "js", "createServer", "my-app/notes.mjs"),
    ):
        assert shown[name].text == block(language, begin, ports)
        assert shown[name].file == file
        assert f"`{file}`" in GUIDE
    front = at(PROXY, {"8888": ports.usher, "8080": ports.front})
    front = front.replace("127.0.0.1:9000", f"localhost:{ports.backend}")
    [inside] = re.findall(
        r"^http \{\n    access_log off;\n(.*)^\}", front, re.DOTALL | re.MULTILINE
    )
    assert shown["nginx"].text == re.sub("^    ", "", inside, flags=re.MULTILINE)


def test_a_key_is_in_the_commands_and_in_no_file(shown: dict[str, Shown]) -> None:
    for name in ("FastAPI", "Node"):
        assert re.search(r"KEY='usher_key_[^']+'", shown[name].run)
    assert not any("usher_key_" in one.text for one in shown.values())


# ---- and run as they stand ------------------------------------------------------------------


@contextmanager
def started(folder: Path, port: str, command: str) -> Iterator[None]:
    """A command of the page, whose program is the one that tests have."""
    words = command.removeprefix("python3 ").removeprefix("python ")
    program: list[str | Path] = [sys.executable]
    key = re.match(r"KEY='([^']+)' (.*)", command)
    environment = {"PYTHONPATH": CLIENT}
    if key is not None:
        environment["KEY"] = key[1]
        name, words = key[2].split(" ", 1)
        program = [sys.executable if name == "python" else need("apt-get install nodejs", "node")]
    process = subprocess.Popen(
        [*program, *words.split()],
        cwd=folder,
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        answers(f"http://localhost:{port}/")
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE)


def saved(folder: Path, *files: Shown) -> None:
    for file in files:
        path = folder / file.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file.text)


@pytest.mark.parametrize("backend", ["FastAPI", "Node"])
def test_the_page_and_a_backend_work(
    backend: str, shown: dict[str, Shown], ports: Ports, browser: Browser, tmp_path: Path
) -> None:
    saved(tmp_path, shown["Browser"], shown[backend])
    with ExitStack() as stack:
        for port, one in ((ports.page, shown["Browser"]), (ports.backend, shown[backend])):
            stack.enter_context(started(tmp_path, port, one.run.splitlines()[-1]))
        assert refused(ports) == 401
        context = browser.new_context()
        stack.callback(context.close)
        page = context.new_page()
        page.goto(f"http://localhost:{ports.page}")
        page.get_by_role("link", name="Sign in").click()
        page.get_by_role("link", name="Create an account").click()
        for field, text in (("name", "Bob"), ("email", address()), ("password", PASSWORD)):
            page.locator(f"#up-{field}").fill(text)
        page.locator("#sign-up-form [type=submit]").click()
        expect(page.locator("#who")).to_have_text("Bob")
        other = context.new_page()
        other.goto(f"http://localhost:{ports.page}")
        expect(other.locator("#who")).to_have_text("Bob")
        page.get_by_label("Note", exact=True).fill("héron")
        page.get_by_role("button", name="Note").click()
        for tab in (page, other):
            expect(tab.locator("li")).to_have_text(["héron"])
        other.reload()
        expect(other.locator("li")).to_have_text(["héron"])


def refused(ports: Ports) -> int:
    """What the backend answers to a stranger."""
    request = urllib.request.Request(f"http://localhost:{ports.backend}/notes", b"hello")
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(request, timeout=PATIENCE)
    with error.value as answer:
        assert json.loads(answer.read()) == {"detail": "Sign in first."}
        return answer.code


APP = """
import http.server, sys
class App(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = str(self.headers["X-Usher-User-Name"]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
http.server.HTTPServer(("localhost", int(sys.argv[1])), App).serve_forever()
"""


def test_nginx_asks_for_an_app_that_knows_nothing(
    shown: dict[str, Shown], ports: Ports, admin: Visitor, tmp_path: Path
) -> None:
    saved_at = tmp_path / "usher.conf"
    saved_at.write_text(shown["nginx"].text)
    bodies = "".join(
        f"{name}_temp_path {tmp_path}/{name};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (tmp_path / "nginx.conf").write_text(
        f"pid {tmp_path}/nginx.pid;\ndaemon off;\nerror_log {tmp_path}/error.log;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{bodies}include {saved_at};\n}}\n"
    )
    with ExitStack() as stack:
        for command in (
            [sys.executable, "-c", APP, ports.backend],
            [os.fspath(find("nginx")), "-c", os.fspath(tmp_path / "nginx.conf")],
        ):
            process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
            stack.callback(process.wait, PATIENCE)
            stack.callback(process.terminate)
        answers(f"http://localhost:{ports.backend}/")
        assert answers(f"http://localhost:{ports.front}/healthz") == 200
        assert answers(f"http://localhost:{ports.front}/app/") == 401
        page = admin.open(f"http://localhost:{ports.front}/app/").page  # cookies ignore ports
        expect(page.locator("body")).to_have_text("Ada")
        page.close()
