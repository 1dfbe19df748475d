"""A Redis with a user of minimal rights, and all that Usher does with it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from tests.support.nodes import Nodes, again, channel
from tests.support.redis import RealRedis
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
