"""Two nodes: a backend publishes through both at once."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from tests.support.databases import kinds
from tests.support.nodes import Nodes, at, nodes
from tests.support.redis import until
from tests.support.server import Answer, Client, sign_up
from tests.support.talk import Talker, talking

# Several nodes are run on PostgreSQL, as a rule; test_nodes_flow.py has them on one SQLite file.
database_kind = kinds("postgresql")

TIMES = 30


def backends(installation: Nodes) -> list[Client]:
    """One key, at each node."""
    body = {"name": "shop", "scopes": ["publish"]}
    key = installation.admin.post("/api/admin/api-keys", body).body["key"]
    return [Client(server, token=key) for server in installation]


def room_of(installation: Nodes, *members: Client) -> str:
    made = installation.admin.post("/api/channels", {"name": "tea"}).body["id"]
    for member in members:
        path = f"/api/channels/{made}/members/{member.user['id']}"
        assert installation.admin.call("PUT", path, {}).status == 200
    return f"channel:{made}"


def live(talker: Talker) -> list[str]:
    """The ids of what came that is kept, as it came."""
    frames = [one for one in talker.events if one["event"] in {"message", "paid", "built"}]
    return [one["data"]["id"] if one["event"] == "message" else one["id"] for one in frames]


def came(talker: Talker, message_id: str) -> bool:
    return message_id in live(talker)


@pytest.mark.gen_test
async def test_what_is_published_through_both_at_once(database_kind: str) -> None:
    with nodes(database_kind) as installation, ThreadPoolExecutor(TIMES) as pool:
        here, there = installation[0], installation[1]
        ada, ben = sign_up(here), sign_up(here)
        room, both = room_of(installation, ada, ben), backends(installation)
        loop = asyncio.get_running_loop()

        async def publish(number: int, body: dict[str, Any], key: str = "") -> Answer:
            headers = {"Idempotency-Key": key} if key else {}
            call = both[number % 2].call
            return await loop.run_in_executor(
                pool, lambda: call("POST", "/api/publish", body, headers)
            )

        async with talking(here, ada) as a, talking(there, at(there, ben)) as b:
            # With one key it is sent once, whichever node hears of it.
            paid = {"room": room, "event": "paid", "data": 1, "keep": True}
            answers = await asyncio.gather(*(publish(n, paid, "order-1") for n in range(TIMES)))
            assert {answer.status for answer in answers} == {204}
            # One unknown room, and nothing is sent into any, by neither node.
            rooms = [room, f"user:{ada.user['id']}", "user:nobody"]
            for number in range(2):
                lost = {"rooms": rooms, "event": "lost", "keep": True}
                assert (await publish(number, lost)).status == 404
            # Kept events and messages of both nodes are in one order, and it is everybody's.
            saying = [
                work
                for n in range(10)
                for work in (
                    publish(n, {"room": room, "event": "built", "data": n, "keep": True}),
                    (a, b)[n % 2].ok("message", {"room": room, "data": n}),
                )
            ]
            await asyncio.gather(*saying)
            seen = []
            for talker in (a, b):
                await talker.settle()
                found = await talker.ok("history", {"room": room})
                assert found["complete"] is True
                seen.append(found["messages"])
                kept = [one["id"] for one in found["messages"]]
                await until(partial(came, talker, kept[-1]))
                assert live(talker) == kept
            assert seen[0] == seen[1]
            names = [one.get("event", "message") for one in seen[0]]
            assert names.count("paid") == 1
            assert names.count("built") == names.count("message") == 10
            assert "lost" not in names
            assert "lost" not in [one["event"] for one in (*a.events, *b.events)]
