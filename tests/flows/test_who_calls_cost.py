"""What it costs to ask a real server who calls: one round trip to Redis, and no query."""

from __future__ import annotations

import http.client
from collections.abc import Callable
from urllib.parse import urlencode

import pytest

from tests.support.databases import kinds
from tests.support.nodes import nodes
from tests.support.postgres import postgres_server
from tests.support.redis import RealRedis
from tests.support.server import PATIENCE, sign_up

# The queries are PostgreSQL's here: it can be stopped. tests/backends has the calls on both.
database_kind = kinds("postgresql")

REQUESTS = 400
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def reads(redis: RealRedis) -> int:
    """How often Redis found something to read: what is sent together is one."""
    lines = redis.ask("INFO", "stats").decode().splitlines()
    (found,) = [line for line in lines if line.startswith("total_reads_processed:")]
    return int(found.partition(":")[2])


@pytest.mark.parametrize("kind", ["access", "app"])
def test_a_usual_question_is_one_round_trip_and_no_query(database_kind: str, kind: str) -> None:
    with nodes(database_kind, 1, APP_AUDIENCES="shop") as installation:
        (server,) = installation
        body = {"name": "shop", "scopes": ["introspect"]}
        key = installation.admin.post("/api/admin/api-keys", body).body["key"]
        ada = sign_up(server)
        app = ada.post("/api/auth/app-token", {"audience": "shop"}).body["token"]
        token = ada.token if kind == "access" else app
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)

        def ask(method: str, path: str, form: str | None, headers: dict[str, str]) -> bytes:
            connection.request(method, path, form, headers)
            answer = connection.getresponse()
            assert answer.status == 200
            return answer.read()

        def introspect() -> None:
            head = {**FORM, "Authorization": f"Bearer {key}"}
            said = ask("POST", "/api/introspect", urlencode({"token": token or ""}), head)
            assert b'"active":true' in said

        def verify() -> None:
            ask("GET", "/api/auth/verify", None, {"Authorization": f"Bearer {token}"})

        questions: list[Callable[[], None]] = [introspect]
        if kind == "access":
            questions.append(verify)
        for question in questions:
            question()
            before = reads(installation.redis)
            for _ in range(REQUESTS):
                question()
            # What a node does by itself comes on top: some reads a second, and not one a request.
            assert REQUESTS <= reads(installation.redis) - before < 1.5 * REQUESTS
        with postgres_server().frozen():
            for question in questions:
                question()
        connection.close()
