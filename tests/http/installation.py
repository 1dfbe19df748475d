"""A server of its own with its administrator, and the API keys of its backends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.raw import assert_quiet
from tests.support.server import Client, Usher, sign_up, usher

SCOPES = ["publish", "disconnect", "read"]


class Installation:
    """A server with its administrator."""

    def __init__(self, server: Usher) -> None:
        self.server, self.admin = server, sign_up(server)
        assert self.admin.user["role"] == "admin"
        self.room = f"user:{self.admin.user['id']}"

    def user(self) -> Client:
        return sign_up(self.server)

    def key(self, *scopes: str, name: str = "billing") -> Client:
        """A backend with a new key; `user` holds what the answer said."""
        body = {"name": name, "scopes": scopes or SCOPES}
        answer = self.admin.post("/api/admin/api-keys", body)
        assert answer.status == 201, answer
        return Client(self.server, token=answer.body["key"], user=answer.body)

    def listed(self) -> dict[str, Any]:
        """The keys as they are listed, by id."""
        items = self.admin.get("/api/admin/api-keys").body["items"]
        return {item["id"]: item for item in items}


@pytest.fixture(scope="module")
def environment(database_kind: str) -> Iterator[Installation]:
    with usher(database_kind) as server:
        yield Installation(server)
        assert_quiet(server.log)


def publish(caller: Client, room: str, event: str = "alarm", data: Any = None) -> Any:
    return caller.post("/api/publish", {"room": room, "event": event, "data": data})
