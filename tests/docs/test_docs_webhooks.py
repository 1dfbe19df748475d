"""docs/webhooks.md: its receivers run as written, and its names are those of the code."""

from __future__ import annotations

import os
import queue
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, get_args

import pytest

from handlers.reference.openapi import openapi_document
from handlers.reference.schemas import About
from handlers.routes import API_ROUTES, DOCUMENT_ROUTES
from services.metrics import Metrics
from services.outbox import EventType
from services.settings.table import WEBHOOK_PRIVATE, WEBHOOK_RETENTION
from services.webhooks.deliveries import CLAIM_SECONDS, DELAYS, TEST_EVENT
from services.webhooks.dispatcher import MAX_PENDING_SOCKET_EVENTS, PLACES_OF_ONE
from services.webhooks.sender import ATTEMPT_SECONDS, ERRORS
from services.webhooks.webhooks import MAX_WEBHOOKS
from tests.support.markdown import table
from tests.support.server import PATIENCE, ROOT, free_port, sign_up, usher, wait_until
from tests.support.tools import need

TEXT = (ROOT / "docs/webhooks.md").read_text("utf-8")
HOOKS = "/api/admin/webhooks"


def program(language: str, folder: Path) -> list[str]:
    """The one example in a language, as a command."""
    (code,) = re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
    file = folder / ("receiver.py" if language == "python" else "receiver.mjs")
    file.write_text(code, "utf-8")
    if language == "python":
        return [sys.executable, str(file)]
    return [str(need("the receiver in Node needs it (apt-get install nodejs)", "node")), str(file)]


@contextmanager
def running(command: list[str], port: int, secret: str) -> Iterator[queue.Queue[str]]:
    """A receiver in a process of its own; what it writes, line by line."""
    environment = os.environ | {"PORT": str(port), "WEBHOOK_SECRET": secret}
    lines: queue.Queue[str] = queue.Queue()
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    stdout = process.stdout
    assert stdout is not None
    reader = threading.Thread(target=read_into, args=(lines, stdout), daemon=True)
    reader.start()
    try:
        wait_until(lambda: answers(port))
        yield lines
    finally:
        process.kill()
        process.wait()
        reader.join(PATIENCE)
        stdout.close()


def read_into(lines: queue.Queue[str], stdout: IO[str]) -> None:
    for line in stdout:
        lines.put(line)


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("language", ["python", "js"])
def test_a_receiver_gets_signed_requests_only(language: str, tmp_path: Path) -> None:
    command = program(language, tmp_path)
    port = free_port()
    with usher("sqlite", WEBHOOK_PRIVATE="on") as server:
        admin = sign_up(server)
        wanted = {"url": f"http://127.0.0.1:{port}/", "events": ["user.created"]}
        made = admin.post(HOOKS, wanted).body
        with running(command, port, made["secret"]) as lines:
            user = sign_up(server)
            line = lines.get(timeout=PATIENCE)
            assert line.startswith("user.created ")
            assert user.user["id"] in line
            # A replay has the same id: it is taken, and ignored.
            (row,) = admin.get(f"{HOOKS}/{made['id']}/deliveries").body["items"]
            admin.post(f"{HOOKS}/{made['id']}/deliveries/{row['id']}/replay")
            # Signed with another secret.
            other = admin.post(HOOKS, wanted).body
            admin.post(f"{HOOKS}/{other['id']}/test")
            failed = f"{HOOKS}/{other['id']}/deliveries?state=failed"
            wait_until(lambda: admin.get(failed).body["items"])
            assert admin.get(failed).body["items"][0]["status"] == 401
            pending = f"{HOOKS}/{made['id']}/deliveries?state=pending"
            wait_until(lambda: not admin.get(pending).body["items"])
            assert lines.empty()


def test_the_events_are_those_of_the_code() -> None:
    named = [row[0].strip("`") for row in table(TEXT, "type")]
    assert named == [*get_args(EventType), TEST_EVENT]


def test_openapi_describes_each_event() -> None:
    about = About("1", "https://usher.example", "a", "r")
    document = openapi_document((*API_ROUTES, *DOCUMENT_ROUTES), about)
    assert list(document["webhooks"]) == list(get_args(EventType))
    for row in table(TEXT, "type")[:-1]:
        reported = document["webhooks"][row[0].strip("`")]["post"]["requestBody"]
        data = reported["content"]["application/json"]["schema"]["properties"]["data"]
        name = data["$ref"].rpartition("/")[2]
        members = document["components"]["schemas"][name]["properties"]
        listed = re.match(r"`([a-z_, ]+)`", row[1])
        assert set(listed[1].split(", ") if listed else ()) <= set(members)


def test_the_errors_are_those_of_the_code() -> None:
    assert {row[0].strip("`") for row in table(TEXT, "`error`")} == set(ERRORS)


def test_every_address_is_a_route() -> None:
    routes = {re.sub(r"{\w+}", "{}", path) for path, _ in API_ROUTES}
    named = {re.sub(r"{\w+}", "{}", path) for path in re.findall(r"(/api/[a-z0-9/{}-]+)", TEXT)}
    assert named <= routes
    assert len(named) >= 4


def test_the_numbers_are_those_of_the_code() -> None:
    text = " ".join(TEXT.split())
    assert f"There can be up to {MAX_WEBHOOKS}." in text
    assert f"within {ATTEMPT_SECONDS:g} seconds" in text
    assert f"at most {PLACES_OF_ONE} concurrent requests" in text
    assert f"{CLAIM_SECONDS:g} seconds after that node died" in text
    assert f"{MAX_PENDING_SOCKET_EVENTS:,} pending events" in text
    assert "after 1, 5, 30 and 60 seconds" in text
    assert DELAYS[:4] == (1, 5, 30, 60)


def test_the_metrics_and_settings_are_those_of_the_code() -> None:
    exposed = Metrics().expose().decode()
    for name in re.findall(r"`(usher_\w+?)(?:_total)?`", TEXT):
        assert f"# TYPE {name}" in exposed
    assert f"USHER_{WEBHOOK_PRIVATE.name}=on" in TEXT
    assert WEBHOOK_RETENTION.name in TEXT
