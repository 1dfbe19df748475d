"""Pgpool-II in front of a PostgreSQL primary and its standby: docs/field.md."""

from __future__ import annotations

import pytest

from tests.support.nodes import again, at, nodes
from tests.support.pgpool import pgpool
from tests.support.postgres_pair import postgres_pair
from tests.support.server import bearer, close_code, connect, event
from tests.support.tools import find_program

pytestmark = pytest.mark.slow


@pytest.mark.gen_test(timeout=250)
async def test_two_nodes_work_through_pgpool_that_balances_nothing() -> None:
    _ = find_program("pgpool", "pgpool2")
    with postgres_pair() as pair, pgpool(pair) as url, nodes(url, 2) as two:
        ada = again(two[0], str(two.admin.get("/api/auth/me").body["email"]))
        for turn in range(10):
            # What is written through one node is read through the other at once.
            made = at(two[turn % 2], ada).post("/api/channels", {"name": f"c{turn}"})
            assert made.status == 201, made
            path = f"/api/channels/{made.body['id']}"
            assert at(two[(turn + 1) % 2], ada).get(path).status == 200
            assert at(two[turn % 2], ada).call("DELETE", path).status == 204
        async with connect(two[1], subprotocols=bearer(ada.token)) as sock:
            await event(sock, "joined")
            assert ada.post("/api/auth/logout").status == 204
            assert await close_code(sock) == 4410
        for node in two:
            assert "Traceback" not in node.log, node.log
