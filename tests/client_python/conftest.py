"""An Usher with an app on top of it, and its API key, for all tests here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest

from tests.support.server import PATIENCE, Client, Usher, sign_up, usher

T = TypeVar("T")
Run = Callable[[Coroutine[Any, Any, T]], T]
AUDIENCE = "board"


@dataclass
class Place:
    """A server, its administrator, and a key that may introspect and publish."""

    server: Usher
    admin: Client
    key: str

    def app_token(self, client: Client, audience: str = AUDIENCE) -> str:
        answer = client.post("/api/auth/app-token", {"audience": audience})
        assert answer.status == 200, answer
        return str(answer.body["token"])

    def channel(self) -> str:
        """A room that everybody may write in."""
        answer = self.admin.post("/api/channels", {"name": "tea", "private": False})
        assert answer.status == 201, answer
        return f"channel:{answer.body['id']}"


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with usher("sqlite", APP_AUDIENCES=f"{AUDIENCE},shop") as server:
        admin = sign_up(server)
        body = {"name": "board", "scopes": ["introspect", "publish"]}
        answer = admin.post("/api/admin/api-keys", body)
        assert answer.status == 201, answer
        yield Place(server, admin, answer.body["key"])


@pytest.fixture
def run() -> Run[Any]:
    """Run a coroutine to its end, bounded."""

    def to_its_end(work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run(asyncio.wait_for(work, PATIENCE))

    return to_its_end
