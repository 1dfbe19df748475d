"""Proxies that forward bytes, and whose address Usher sees behind them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from tests.support.proxies import post_from
from tests.support.server import PASSWORD, Client, Usher, address

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
