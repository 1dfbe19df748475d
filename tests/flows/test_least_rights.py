"""Redis with a user of minimal rights: those in docs/operations.md are sufficient."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.redis.trial import trial
from tests.support.nodes import Nodes, again, channel, nodes_on
from tests.support.redis import RealRedis, until
from tests.support.server import ROOT, Client, bearer, close_code, connect, event
from tests.support.talk import talking
from tests.support.tools import need

PASSWORD = "few-rights"


def least_rights() -> list[str]:
    """The line of the docs, as an operator copies it."""
    page = (ROOT / "docs" / "operations.md").read_text("utf-8")
    (line,) = re.findall(r"^ +(ACL SETUSER usher .*)$", page, re.MULTILINE)
    return str(line).replace("PASSWORD", PASSWORD).split()


def redis_7() -> Path:
    """Redis itself, not a descendant: what most servers with ACLs are."""
    found = shutil.which("redis-server")
    return Path(found) if found else need("apt-get install redis-server", "redis-server")


def let_in(redis: RealRedis, *more: str) -> str:
    """The URL of the user with these rights, and others."""
    assert redis.ask(*least_rights()) == b"OK"
    if more:
        assert redis.ask("ACL", "SETUSER", "usher", *more) == b"OK"
    return f"unix://usher:{PASSWORD}@{redis.path}"


@pytest.fixture
def redis() -> Iterator[RealRedis]:
    server = RealRedis(binary=redis_7())
    yield server
    server.close()


@pytest.mark.gen_test(timeout=90)
async def test_all_of_usher_works_with_the_rights_of_the_docs(redis: RealRedis) -> None:
    with nodes_on(redis, "sqlite", 2, REDIS_URL=let_in(redis)) as running:
        await everything(running)
        refused = [
            dict(zip(each[::2], each[1::2], strict=True)) for each in redis.ask("ACL", "LOG")
        ]
        assert [each[b"object"] for each in refused] == [], "Redis keeps what it refuses"
        for node in running:
            assert "NOPERM" not in node.log
            assert Client(node).get("/readyz").body["redis"] == "ok"


async def everything(running: Nodes) -> None:
    """What reaches Redis: rooms, presence, usage, history, limits, tickets and revocations."""
    first, second = running
    ann, bob = running.admin, again(second, str(running.admin.user["email"]))
    room = channel(ann)
    async with talking(first, ann) as a, talking(second, bob, ticket=False) as b:
        assert (await a.ask("message", {"room": room, "data": 1}))["ok"]
        await b.hears(room, 1)
        for name, data in (
            ("presence", {"room": room}),
            ("history", {"room": room}),
            ("typing", {"room": room}),
            ("leave", {"room": room}),
            ("join", {"room": room}),
            ("join-channels", {}),
            ("heartbeat", {}),
            ("usage", {"model": "small"}),
        ):
            assert (await b.ask(name, data))["ok"], name
    wrong = {"email": ann.user["email"], "password": "not that one", "client": "native"}
    assert Client(first).post("/api/auth/login", wrong).status == 401
    async with connect(second, subprotocols=bearer(bob.token)) as socket:
        await event(socket, "joined")
        assert ann.get("/api/sessions").status == 200
        assert bob.post("/api/auth/logout?wait=true").status in (200, 204)
        assert await close_code(socket) == 4410


@pytest.mark.parametrize(
    ("taken", "named"),
    [
        (["-xadd"], "XADD"),
        (["-zremrangebyscore"], "ZREMRANGEBYSCORE"),
        (["-eval"], "EVAL"),
        (["-publish"], "PUBLISH"),
        (["-subscribe"], "SUBSCRIBE"),
        (["resetkeys", "~other:*"], "keys"),
        (["resetchannels"], "channels"),
    ],
)
@pytest.mark.gen_test(timeout=60)
async def test_a_missing_right_is_named_once_and_used_once_it_is_given(
    redis: RealRedis, taken: list[str], named: str
) -> None:
    with nodes_on(redis, "sqlite", 1, REDIS_URL=let_in(redis, *taken)) as running:
        (node,) = running
        assert Client(node).get("/readyz").body["redis"] == "fallback"
        reported = [line for line in node.log.splitlines() if "NOPERM" in line]
        assert len(reported) == 1
        assert named in reported[0]
        assert PASSWORD not in node.log
        let_in(redis)
        await until(lambda: Client(node).get("/readyz").body["redis"] == "ok")
        room = channel(running.admin)
        async with talking(node, running.admin) as talker:
            assert (await talker.ask("message", {"room": room, "data": 1}))["ok"]
        reported = [line for line in node.log.splitlines() if "NOPERM" in line]
        assert len(reported) == 1, reported


def test_every_command_that_is_tried_is_in_the_line_and_no_other() -> None:
    granted = {word[1:] for word in least_rights() if word.startswith("+")}
    tried = {str(command[0]).lower() for command in trial("t")}
    assert granted == tried | {"ping", "info"}  # the greeting, and which memory it is


def test_every_command_of_a_script_is_tried() -> None:
    source = "".join(path.read_text("utf-8") for path in (ROOT / "services").rglob("*.py"))
    called = set(re.findall(r"redis\.p?call\('([A-Z]+)'", source))
    assert len(called) > 5
    assert called <= {str(command[0]) for command in trial("t")}
