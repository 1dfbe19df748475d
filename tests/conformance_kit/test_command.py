"""The command `python -m conformance`: its options, its exit status, and what it says."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from conformance.command import main
from conformance.table import CASES
from tests.support.http_servers import Silent, serving
from tests.support.server import ROOT, free_port, usher

GUIDE = (ROOT / "docs" / "conformance.md").read_text("utf-8")


def test_the_list_names_every_case(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [one.split()[0] for one in shown] == [one.id for one in CASES]
    assert main(["--list", "--only", "cut-*", "--leave-out", "cut-role"]) == 0
    some = capsys.readouterr().out
    assert "cut-logout" in some
    assert "cut-role" not in some
    assert "way-header" not in some


def test_without_its_packages_it_says_in_one_line_what_to_install() -> None:
    # Without the module `site`, Python finds no installed package.
    command = [sys.executable, "-S", "-m", "conformance", "http://127.0.0.1:8888"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 2, ended
    assert ended.stderr.count("\n") == 1, ended.stderr
    assert "pip install httpx 'websockets>=15' 'PyJWT>=2' cryptography" in ended.stderr
    assert not ended.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["ftp://usher.example"],
        ["http://usher.example", "--only", "no-such-case"],
        ["http://usher.example", "--provider", "idp", "--provider-listen", "nowhere"],
        ["https://usher.example", "--ca-file", "/no/such/file"],
        ["https://usher.example", "--junit", "/no/such/folder/junit.xml"],
        ["https://usher.example:99999"],
        ["https://usher.example", "--patience", "long"],
        ["https://usher.example", "--at-once", "0"],
        ["https://usher.example", "--max-sockets", "-1"],
    ],
)
def test_wrong_usage_ends_with_2_and_says_why(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "error: " in capsys.readouterr().err


@pytest.fixture(scope="module")
def hollow() -> Iterator[str]:
    """The URL of a server that refuses strangers as the contract says, and has nothing else; at
    /fresh, it has no account yet."""

    class Handler(Silent, BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            me = self.path in {"/api/auth/me", "/fresh/api/auth/me"}
            body = {"status": 401, "title": "No.", "code": "unauthenticated"} if me else {}
            self._answer(401 if me else 404, body)

        def _answer(self, status: int, body: object) -> None:
            sent = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/problem+json")
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.path == "/fresh/api/auth/signup":
                user = {"id": "1", "role": "admin"}
                self._answer(201, {"user": user, "access_token": "a-token"})
            else:
                self.do_GET()

    with serving(Handler) as port:
        yield f"http://127.0.0.1:{port}"


def test_the_command_writes_both_reports_and_ends_with_1(
    hollow: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    xml, page = tmp_path / "junit.xml", tmp_path / "report.html"
    only = ["--only", "way-header", "--only", "documents"]
    assert main([hollow, *only, "--junit", str(xml), "--html", str(page)]) == 1
    assert ET.parse(xml).find("testsuite/testcase/failure") is not None
    assert hollow in page.read_text("utf-8")
    assert "2 broken" in capsys.readouterr().out


def test_what_was_not_run_is_a_failure_only_when_strict(
    hollow: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [hollow, "--only", "provider-sign-in"]
    assert main(arguments) == 0
    assert main([*arguments, "--strict"]) == 1
    assert "needs --provider" in capsys.readouterr().out


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that is taken, so that no other process listens there, and refuses connections."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.mark.parametrize(
    ("url", "options", "said"),
    [
        ("http://127.0.0.1:{closed}", [], "connection refused"),
        ("https://127.0.0.1:{port}", [], "Does it speak http://?"),
        ("http://127.0.0.1:{port}/elsewhere", [], "is no such server"),
        ("http://127.0.0.1:{port}", ["--admin-token", "x"], "refuses --admin-token"),
        ("http://127.0.0.1:{port}", ["--first-account"], "has accounts already"),
        ("http://127.0.0.1:{port}/fresh", [], "is its administrator now"),
        ("http://127.0.0.1:{port}", ["--node", "http://127.0.0.1:{closed}"], "connection refused"),
    ],
)
def test_a_server_that_is_none_is_told_at_once_and_ends_with_2(
    hollow: str,
    closed_port: int,
    url: str,
    options: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    port = hollow.rpartition(":")[2]
    assert main([one.format(port=port, closed=closed_port) for one in (url, *options)]) == 2
    told = capsys.readouterr()
    assert said in told.err
    assert told.err.count("\n") == 1
    assert not told.out


def test_an_origin_that_the_server_refuses_is_told_at_once_and_how_to_name_another(
    capsys: pytest.CaptureFixture[str],
) -> None:
    port = free_port()
    near, far = f"http://127.0.0.1:{port}", f"http://localhost:{port}"
    with usher("sqlite", PORT=port, PUBLIC_URL=near):
        assert main([far, "--only", "way-cookie"]) == 2
        told = capsys.readouterr()
        assert f"{far} refuses the origin {far}" in told.err
        assert "--origin" in told.err
        assert "ALLOWED_ORIGINS" in told.err
        assert told.err.count("\n") == 1
        # What the line says to do helps, and nothing was made before.
        arguments = [far, "--origin", near, "--only", "way-cookie", "--first-account"]
        assert main(arguments) == 0
    assert "1 kept, 0 broken" in capsys.readouterr().out


def test_localhost_is_an_origin_of_its_own_where_no_public_url_says_otherwise(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with usher("sqlite") as server:
        far = server.url.replace("127.0.0.1", "localhost")
        assert main([far, "--only", "way-cookie", "--first-account"]) == 0
    assert "1 kept, 0 broken" in capsys.readouterr().out


def test_the_guide_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    told, _, _ = capsys.readouterr().out.partition("exit status")
    options = set(re.findall(r"--[a-z][a-z-]+", told)) - {"--help"}
    assert len(options) > 15
    assert {option for option in options if f"`{option}" not in GUIDE} == set()
