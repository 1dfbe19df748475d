"""examples/proxy as docs/your-app.md has it started, with each proxy."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.flows.test_proxies_that_ask import caddy
from tests.support.proxies import find
from tests.support.server import PATIENCE, ROOT, Client, Usher, free_port, sign_up


@pytest.mark.parametrize("kind", ["caddy", "nginx"])
def test_the_app_knows_who_calls_and_nothing_of_usher(kind: str, tmp_path: Path) -> None:
    _ = find("nginx") if kind == "nginx" else caddy()
    ports = [str(free_port()) for _ in range(3)]
    command = [sys.executable, "examples/proxy/run.py", kind, "--ports", *ports]
    command += ["--data-dir", str(tmp_path / "data")]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("USHER_")}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    said: list[str] = []
    ready = threading.Event()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line.decode())
            if "then open the app" in said[-1]:
                ready.set()
        ready.set()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        assert ready.wait(3 * PATIENCE), "".join(said)
        page = next(line.split()[1] for line in said if line.strip().startswith("App "))
        origin = page.removesuffix("/app/")
        # Whatever a client of these tests asks of a server: where it is.
        server = cast("Usher", SimpleNamespace(url=origin, origin=origin))
        forged = {"X-Usher-User-Name": "Root", "X-Usher-Role": "admin"}
        assert Client(server).call("GET", "/app/", None, forged).status == 401
        ada = sign_up(server, browser=True)
        answer = ada.call("GET", "/app/", None, forged)
        assert answer.status == 200, answer
        assert b"Hello, Ada" in answer.text
        assert b"Root" not in answer.text
        assert b'action="/' in Client(server).get("/sign-in?next=/app/").text
        assert ada.post("/api/auth/logout").status == 204
        assert _status(ada) == 401
    finally:
        process.send_signal(signal.SIGINT)
        status = process.wait(PATIENCE)
        reader.join(PATIENCE)
        assert process.stdout is not None
        process.stdout.close()
    assert status == 0, "".join(said)


def _status(client: Client) -> Any:
    return client.get("/app/").status
