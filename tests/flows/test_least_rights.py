"""Redis with a user of minimal rights: those in docs/operations.md are sufficient."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from services.redis.trial import trial
from tests.support.least_rights import PASSWORD, everything, least_rights, let_in, redis_7
from tests.support.nodes import channel, nodes_on
from tests.support.redis import RealRedis, until
from tests.support.server import ROOT, Client
from tests.support.talk import talking


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
