"""The overview: all nodes, their totals, and the cost of collecting them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import msgspec
import peewee
import pytest

from models.login_session import LoginSession
from models.user import User
from services.overview.totals import FRESH_SECONDS, Totals
from tests.support.databases import kinds, opened, slow
from tests.support.nodes import Nodes, at, channel, nodes
from tests.support.parts import node, open_socket
from tests.support.server import PATIENCE, sign_up
from tests.support.talk import talking

# Several nodes are run on PostgreSQL, as a rule; all else here on both.
database_kind = kinds("postgresql", slow("sqlite"))


@pytest.mark.gen_test
async def test_a_node_counts_its_sockets_channels_and_revocations(database_url: str) -> None:
    async with node(database_url) as parts:
        login = await parts.signed_in()
        opened_channel = await parts.channels.create(login.user.id, "tea")
        peers = [await open_socket(parts, login) for _ in range(3)]
        seen = await parts.services.overview.read()
        [here] = seen.nodes
        assert (here.node, here.answered_here) == (parts.name, True)
        assert (seen.sockets, here.sockets, here.rooms, seen.rooms) == (3, 3, 1, 1)
        assert (seen.users, seen.sessions) == (1, 1)
        assert (seen.joins_per_minute, here.joins_per_minute) == (3, 3)
        assert seen.revocation_p50 is None
        await parts.session_ends.end(login.user.id, login.claims.sid, "logout")
        seen = await parts.services.overview.read()
        assert (seen.sockets, seen.nodes[0].rooms) == (0, 0)
        assert seen.revocation_p50 is not None
        assert seen.revocation_p99 == seen.nodes[0].revocation_p99
        assert peers
        assert opened_channel.id


@pytest.mark.gen_test
async def test_totals_are_counted_once_for_all_callers_and_cached(
    database_url: str,
) -> None:
    async with opened(database_url) as database:
        now = 0.0
        totals = Totals(database, steady=lambda: now)
        first = await asyncio.gather(*(totals.read() for _ in range(5)))
        assert {counted.users for counted in first} == {0}
        await database.run(_insert, 3)
        assert (await totals.read()).users == 0
        now += FRESH_SECONDS
        counted = await totals.read()
        assert (counted.users, counted.sessions, counted.channels) == (3, 1, 0)


def _insert(db: peewee.Database, users: int) -> None:
    """Users; of the first one's sessions one is alive, one has ended and one has expired."""
    for number in range(users):
        User.insert(id=f"u{number}", email=f"{number}@x.org", name="U", created_at=1.0).execute(db)
    for number, (expires, ended) in enumerate(((9e9, None), (9e9, 5.0), (5.0, None))):
        LoginSession.insert(
            id=f"s{number}",
            user="u0",
            method="password",
            created_at=1.0,
            last_seen_at=1.0,
            expires_at=expires,
            ended_at=ended,
        ).execute(db)


# ---- several nodes --------------------------------------------------------------------------


Seen = dict[str, Any]


def overview(installation: Nodes, number: int) -> Seen:
    answer = at(installation[number], installation.admin).get("/api/admin/overview")
    assert answer.status == 200, answer
    body: Seen = answer.body
    return body


@pytest.mark.gen_test(timeout=60)
async def test_every_node_shows_all_nodes(database_kind: str) -> None:
    with nodes(database_kind) as both:
        ann, bob = sign_up(both[0]), sign_up(both[1])
        room = channel(ann)
        async with talking(both[0], ann) as a, talking(both[1], bob), talking(both[1], bob):
            await a.say(room, {"tea": 1})

            for number in (0, 1):
                seen = await shown(both, number, is_complete)
                assert seen["sockets"] == 3
                assert [n["answered_here"] for n in seen["nodes"]].count(True) == 1
                assert seen["joins_per_minute"] == 3
                assert seen["messages_per_minute"] == 1
                assert (seen["users"], seen["rooms"], seen["step_seconds"]) == (3, 1, 5)
            answer = await asyncio.to_thread(bob.post, "/api/auth/logout?wait=true")
            assert answer.body["closed"] == 2
            seen = await asyncio.to_thread(overview, both, 1)
            assert 0 < seen["revocation_p50"] <= seen["revocation_p99"]
            both.redis.kill()
            seen = await shown(both, 0, lambda seen: not seen["complete"])
            assert [n["answered_here"] for n in seen["nodes"]] == [True]


def is_complete(seen: Seen) -> bool:
    """Whether both nodes have reported their sockets and a step."""
    sockets = sorted(n["sockets"] for n in seen["nodes"])
    steps = all(n["series"]["joins"] for n in seen["nodes"])
    return bool(seen["complete"] and sockets == [1, 2] and steps)


async def shown(installation: Nodes, number: int, wanted: Callable[[Seen], bool]) -> Seen:
    """Wait until a node shows what is wanted."""
    end = time.monotonic() + PATIENCE
    while not wanted(seen := await asyncio.to_thread(overview, installation, number)):
        assert time.monotonic() < end, seen
        await asyncio.sleep(0.2)
    return seen


@pytest.mark.gen_test
async def test_a_report_that_cannot_be_read_leaves_the_node_out(database_url: str) -> None:
    async with node(database_url) as parts:
        await parts.nodes.renew()
        key, names = "usher:{nodes}:report:other", "usher:{nodes}:living"
        for text in (b"", b"{", msgspec.json.encode({"sockets": "many"})):
            await parts.store.call(("ZADD", names, parts.clock() + 30, "other"), ("SET", key, text))
            seen = await parts.services.overview.read()
            assert seen.complete is False
            assert [n.node for n in seen.nodes] == [parts.name]


@pytest.mark.gen_test
async def test_it_takes_two_round_trips_however_much_there_is(database_url: str) -> None:
    async with node(database_url) as parts:
        await parts.services.overview.read()  # counts the rows
        before = len(parts.store.groups)
        await parts.services.overview.read()
        assert len(parts.store.groups) - before <= 2
