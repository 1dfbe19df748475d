"""Proxies that forward bytes, and whose address Usher sees behind them."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from tests.support.proxies import post_from
from tests.support.server import PASSWORD, PATIENCE, Client, Usher, address

FORGED = "198.51.100.7"
"""What clients write into X-Forwarded-For."""


@dataclass
class Front:
    """Where HAProxy listens: what clients ask an Usher for."""

    port: int
    scheme: str = "https"

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def ws(self) -> str:
        return f"{self.url.replace('http', 'ws', 1)}/ws"

    @property
    def server(self) -> Usher:
        return cast("Usher", self)


@contextmanager
def running(command: list[Any], log: Path, ports: list[int]) -> Iterator[None]:
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        end = time.monotonic() + PATIENCE
        while not all(_listens(port) for port in ports):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.02)
        yield
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(PATIENCE)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def signing_up() -> dict[str, str]:
    return {"email": address(), "password": PASSWORD, "name": "Ada", "client": "native"}


def listed(front: Front, token: str) -> str:
    """The address of the only login session of its user."""
    (session,) = Client(front.server, token).get("/api/sessions").body["items"]
    return str(session["ip"])


def seen_from(front: Front, source: str, **headers: str) -> str:
    """The address that a sign-up from there is listed with."""
    forged = {"X-Forwarded-For": FORGED, "X-Real-IP": FORGED, **headers}
    status, answer = post_from(source, front.url, "/api/auth/signup", signing_up(), forged)
    assert status == 201
    return listed(front, answer["access_token"])
