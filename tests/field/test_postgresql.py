"""A PostgreSQL primary that fails, and its standby that takes over: docs/field.md."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.nodes import Nodes, again, at, nodes
from tests.support.postgres_pair import PostgresPair, postgres_pair
from tests.support.server import (
    Client,
    Usher,
    ask,
    bearer,
    close_code,
    connect,
    event,
    sign_up,
    wait_until,
)

pytestmark = pytest.mark.slow


@pytest.fixture
def pair() -> Iterator[PostgresPair]:
    with postgres_pair() as running:
        yield running


@pytest.fixture
def two(pair: PostgresPair) -> Iterator[Nodes]:
    with nodes(pair.url, 2) as running:
        yield running


def readiness(node: Usher) -> int:
    return Client(node).get("/readyz").status


def status_of(client: Client) -> int:
    """The status of a call that writes."""
    return client.post("/api/channels", {"name": "after"}).status


@pytest.mark.gen_test(timeout=250)
async def test_a_failover_costs_no_socket_and_takes_no_logout_back(
    pair: PostgresPair, two: Nodes
) -> None:
    email = str(two.admin.get("/api/auth/me").body["email"])
    ada, other = again(two[0], email), again(two[0], email)
    async with connect(two[1], subprotocols=bearer(ada.token)) as sock:
        await event(sock, "joined")
        with pair.standby_frozen():
            assert status_of(ada) == 503
        wait_until(lambda: status_of(ada) == 201)
        assert (await ask(sock, "heartbeat"))["ok"]
        assert other.post("/api/auth/logout").status == 204
        pair.kill_primary()
        wait_until(lambda: [readiness(node) for node in two] == [503, 503])
        assert status_of(ada) == 503
        assert (await ask(sock, "heartbeat"))["ok"]
        pair.promote()
        wait_until(lambda: [readiness(node) for node in two] == [200, 200])
        for node in two:
            assert status_of(at(node, ada)) == 201
            assert at(node, other).get("/api/auth/me").status == 401
            answer = at(node, other).post(
                "/api/auth/refresh", {"refresh_token": other.refresh_token}
            )
            assert answer.status == 401
        assert (await ask(sock, "heartbeat"))["ok"]
        assert at(two[0], ada).post("/api/auth/logout").status == 204
        assert await close_code(sock) == 4410
    sign_up(two[1])
    for node in two:
        assert "Traceback" not in node.log, node.log
