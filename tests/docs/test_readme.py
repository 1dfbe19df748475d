"""Every command and example of README.md, run as written; its settings are those of the code.

Only ports, folders and `--quick` come from outside, through the environment, as the README says.
`make test` cannot run inside itself, and .ci/run runs `make lint` in any case: they are asked what
they would run.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from services.settings.table import SETTINGS
from tests.support.markdown import table
from tests.support.run_with_idp import Browser
from tests.support.server import PATIENCE, ROOT, free_port, wait_until
from tests.support.tools import need

README = (ROOT / "README.md").read_text("utf-8")
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
BLOCKS = [(match[1], match[2]) for match in FENCED.finditer(README)]
PROSE = FENCED.sub("", README)
INSIDE = re.compile(
    r"^(MAKE\w*|MFLAGS|GNUMAKEFLAGS|VENV|ARGS|PYTEST_ARGS|CI|USHER_\w+|PRACTICE_PORT)$"
)
"""What `make test` and its user may have put in the environment, and a user's shell has not."""
MARKS = (".runtime", ".practice", ".dev")
"""What `make` knows a virtual environment by that has everything."""

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A user's environment, in which `make` finds the virtual environment of these tests."""
    need("the README's commands", "make")
    environment = {name: value for name, value in os.environ.items() if not INSIDE.match(name)}
    environment["no_proxy"] = "*"
    prefix = Path(sys.prefix)
    if prefix == ROOT / ".venv":
        return environment
    if not all((prefix / mark).exists() for mark in MARKS):  # `make` would install it all again
        made = tmp_path_factory.mktemp("venv")
        for part in prefix.iterdir():
            if part.name not in MARKS:
                (made / part.name).symlink_to(part)
        for mark in MARKS:
            (made / mark).touch()
        prefix = made
    return environment | {"VENV": str(prefix)}


@pytest.fixture(scope="module")
def started(shell: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that the README's own `make run` has started."""
    with make_run("make run", shell, free_port(), tmp_path_factory.mktemp("run")) as url:
        yield url


@contextmanager
def make_run(command: str, shell: dict[str, str], port: int, folder: Path) -> Iterator[str]:
    """The server until Ctrl+C, which a terminal sends to make and to all that it started."""
    data, screen = folder / "data", folder / "screen"
    own = {"USHER_DATA_DIR": str(data)} | ({} if "USHER_PORT" in command else port_of(port))
    with screen.open("wb") as output:
        process = subprocess.Popen(
            ["/bin/sh", "-c", command],
            cwd=ROOT,
            env=shell | own,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_until(lambda: "Stop with Ctrl+C" in screen.read_text() or process.poll() is not None)
        match = re.search(r"^  Open +(\S+)$", screen.read_text(), re.MULTILINE)
        assert match is not None, screen.read_text()
        assert f"  Data      {data}\n" in screen.read_text()
        assert of_folder(data), "where is its Redis?"
        yield match[1]
        os.killpg(process.pid, signal.SIGINT)
        process.wait(timeout=PATIENCE)
        wait_until(lambda: not of_folder(data))
        assert "Traceback" not in screen.read_text()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def port_of(port: int) -> dict[str, str]:
    return {"USHER_PORT": str(port)}


def of_folder(folder: Path) -> list[str]:
    """The command lines of processes that name something in this folder."""
    return processes_with(f"{folder}/")


def processes_with(words: str) -> list[str]:
    """The command lines of processes that have these words in them."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().decode(errors="replace").replace("\0", " ")
        except OSError:  # it has ended
            continue
        if words in line:
            found.append(line)
    return found


def run(command: str, shell: dict[str, str], **more: str) -> str:
    """Run it to its end; returns its stdout. It has to go well."""
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=ROOT,
        env=shell | more,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def page_of(url: str) -> str:
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
        return str(answer.read().decode())


# ---- nothing is left out -------------------------------------------------------------------


def test_every_command_of_the_readme_is_run_by_a_test_of_this_file() -> None:
    assert {language for language, _ in BLOCKS} == {"sh", "python"}
    lines = [line for language, text in BLOCKS if language == "sh" for line in text.splitlines()]
    assert lines == ["make run", "make test", "make run-with-idp", "make lint", "make bench"]
    assert len([text for language, text in BLOCKS if language == "python"]) == 1
    commands = set(re.findall(r"`([^`\n]*\bmake [^`\n]*)`", PROSE))
    assert commands - set(lines) == {"USHER_PORT=9000 make run", 'make run ARGS="--port 9000"'}


def test_every_file_that_the_readme_names_is_there() -> None:
    linked = set(re.findall(r"\]\((?!https?:)([^)#]+)", PROSE))
    written = set(re.findall(r"`((?:static|services|handlers|models|docs)/[\w./-]*)`", PROSE))
    assert linked
    assert written
    assert [name for name in sorted(linked | written) if not (ROOT / name).exists()] == []


# ---- start ---------------------------------------------------------------------------------


def test_make_run_starts_a_server_whose_page_opens(started: str) -> None:
    assert "<title>Usher</title>" in page_of(started)


def test_the_documents_that_the_readme_names_are_at_their_addresses(started: str) -> None:
    named = re.findall(r"`(/(?:docs|openapi\.json|asyncapi\.json))`", PROSE)
    assert len(named) == 3
    for path in named:
        assert page_of(started + path)


def test_a_setting_is_passed_before_make_run(shell: dict[str, str], tmp_path: Path) -> None:
    port = free_port()  # 9000 may be taken here
    command = "USHER_PORT=9000 make run".replace("9000", str(port))
    with make_run(command, shell, port, tmp_path) as url:
        assert url == f"http://localhost:{port}"
        assert page_of(url)


def test_a_setting_may_be_a_flag_as_well_and_the_flag_wins(
    shell: dict[str, str], tmp_path: Path
) -> None:
    port = free_port()
    flags = {"ARGS": f"--port {port}"}
    with make_run("make run", shell | flags, free_port(), tmp_path) as url:
        assert url == f"http://localhost:{port}"


def test_make_test_runs_every_test(shell: dict[str, str]) -> None:
    commands = run("make -n test", shell).splitlines()
    assert commands[-1].endswith("/bin/python -m pytest -n auto --dist loadfile")


@pytest.mark.slow
def test_make_run_with_idp_completes_a_sign_in_and_leaves_nothing_behind(
    shell: dict[str, str], tmp_path: Path
) -> None:
    provider = free_port()
    outside = shell | {"PRACTICE_PORT": str(provider)}
    with make_run("make run-with-idp", outside, free_port(), tmp_path) as url:
        browser = Browser(url)
        assert browser.sign_in("ada")["name"] == "Ada Lovelace"
        [account] = browser.get("/api/oauth/accounts").json()["items"]
        assert (account["title"], account["email"]) == ("Practice provider", "ada@example.org")
        assert len(processes_with(f"--port {provider} ")) == 1
    assert processes_with(f"--port {provider} ") == []


# ---- the client ----------------------------------------------------------------------------


def test_the_client_in_ten_lines_has_ten_lines_and_joins(
    started: str, shell: dict[str, str]
) -> None:
    [example] = [text for language, text in BLOCKS if language == "python"]
    assert len([line for line in example.splitlines() if line.strip()]) == 10
    script = example.replace("127.0.0.1:8888", started.removeprefix("http://"))
    assert script.count(started.removeprefix("http://")) == 2
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=shell,
        capture_output=True,
        text=True,
        timeout=PATIENCE * 2,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert printed_form(done.stdout) == promised_form()


def promised_form() -> str:
    match = re.search(r"^It prints `(.*)`\.$", README, re.MULTILINE)
    assert match is not None
    return match[1]


def printed_form(line: str) -> str:
    """The line as the README shows it: what differs each time is an ellipsis."""
    frame = json.loads(line)
    user = frame["data"]["user"]
    assert user["name"] == "Ada"
    assert frame["data"]["rooms"] == [f"user:{user['id']}"]
    form = line.strip().replace(json.dumps(user, separators=(",", ":")), "{…}")
    form = form.replace(user["id"], "…")
    for name in ("session_id", "expires_at"):
        form = form.replace(json.dumps(frame["data"][name]), "…")
    return form


# ---- finding your way ----------------------------------------------------------------------


def test_make_lint_checks_and_is_run_by_ci_itself(shell: dict[str, str]) -> None:
    commands = run("make -n lint", shell)
    for tool in ("/ruff check ", "/ruff format --check ", "/mypy "):
        assert tool in commands
    assert re.search("^step lint ", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)


@pytest.mark.slow
def test_make_bench_measures_and_writes_its_figures(shell: dict[str, str]) -> None:
    said = run("make bench", shell, ARGS="--quick")
    written = re.search(r"^Written to (.+\.json)$", said, re.MULTILINE)
    assert written is not None, said
    file = Path(written[1])
    assert json.loads(file.read_text("utf-8"))
    file.unlink()


def test_the_settings_of_the_readme_are_those_of_the_code() -> None:
    rows = table(README, "name")
    assert [row[0] for row in rows] == [setting.name for setting in SETTINGS]
    for row, setting in zip(rows, SETTINGS, strict=True):
        shown = {setting.default, setting.shown_default} - {"", None}
        assert row[1].strip("`") in shown, setting.name
        assert row[2], setting.name
