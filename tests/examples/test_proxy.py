"""examples/proxy, started as docs/your-app.md says, with each proxy."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.support.examples import running_example
from tests.support.proxies import find
from tests.support.server import Client, Usher, free_port, sign_up


@pytest.mark.parametrize("kind", ["caddy", "nginx"])
def test_the_app_gets_the_caller_without_any_code_for_usher(kind: str, tmp_path: Path) -> None:
    _ = find(kind)
    ports = [str(free_port()) for _ in range(3)]
    options = (kind, "--ports", *ports, "--data-dir", str(tmp_path / "data"))
    with running_example("examples/proxy/run.py", *options, ready="then open the app") as said:
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


def _status(client: Client) -> Any:
    return client.get("/app/").status
