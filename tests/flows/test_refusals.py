"""A store that responds but does not work: reported by /readyz, and recovered from."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.databases import kinds
from tests.support.nodes import channel, nodes
from tests.support.redis import RealRedis, until
from tests.support.server import PASSWORD, Client, Usher, address, sign_up, usher
from tests.support.talk import talking

pytestmark = pytest.mark.slow

database_kind = kinds("sqlite")  # what is refused before a row is read

SECONDS = 6.0
"""In which a node has to notice; it takes two or so on a quiet machine."""
NO_BYTE = 1


def redis_state(server: Usher) -> str:
    answer = Client(server).get("/readyz")
    assert answer.status == 200, answer
    return str(answer.body["redis"])


def redis_up(server: Usher) -> bool:
    lines = Client(server).get("/metrics").text.decode().splitlines()
    return "usher_redis_up 1.0" in lines


def database_state(server: Usher) -> tuple[int, str]:
    answer = Client(server).get("/readyz")
    return answer.status, answer.body["database"]


# ---- Redis ----------------------------------------------------------------------------------


@pytest.mark.gen_test(timeout=90)
async def test_a_redis_that_refuses_all_but_ping_counts_as_away() -> None:
    """However it refuses: four nodes at once, as most of it is waiting."""
    await asyncio.gather(*map(refused_and_taken_again, ("READONLY", "OOM", "NOPERM", "MISCONF")))


async def refused_and_taken_again(how: str) -> None:
    redis = RealRedis()
    try:
        with usher("sqlite", REDIS_URL=redis.url) as server:
            client = sign_up(server)
            room = f"user:{client.user['id']}"
            async with talking(server, client) as talker:
                await talker.say(room, "before")
                redis.refuse(how)
                await until(lambda: redis_state(server) == "fallback", SECONDS)
                await until(lambda: not redis_up(server), SECONDS)
                assert await talker.refused("message", {"room": room, "data": 1}) == "unavailable"
                # Who comes now is checked against the database.
                async with talking(server, client, ticket=False):
                    pass
                await asyncio.sleep(2.5)  # some attempts more
                reported = [line for line in server.log.splitlines() if how in line]
                assert len(reported) == 1, reported
                redis.accept()
                await until(lambda: redis_state(server) == "ok", SECONDS)
                await until(lambda: redis_up(server), SECONDS)
                await talker.say(room, "after")
                await talker.hears(room, "after")
    finally:
        redis.close()


@pytest.mark.gen_test(timeout=60)
async def test_a_server_that_became_a_replica_is_looked_up_anew_behind_its_name(
    database_kind: str,
) -> None:
    with nodes(database_kind, 1) as one:
        other = RealRedis()
        name = one.redis.folder / "name.sock"
        name.symlink_to(one.redis.path)
        try:
            node = one.start(REDIS_URL=f"unix://{name}")
            client = sign_up(node)
            room = channel(client)
            async with talking(node, client) as talker:
                await talker.say(room, "before")
                fresh = name.with_suffix(".new")
                fresh.symlink_to(other.path)
                os.replace(fresh, name)  # noqa: PTH105 - the name moves in one step
                one.redis.refuse("READONLY")
                await until(lambda: other.ask("DBSIZE") > 0, SECONDS)
                await until(lambda: redis_state(node) == "ok", SECONDS)
                await until(lambda: other.ask("PUBSUB", "NUMSUB", f"usher:{{{room}}}:said")[1] == 1)
                await talker.say(room, "after")
                await talker.hears(room, "after")
            assert one.redis.ask("PUBSUB", "CHANNELS", "usher:{channel:*") == []
        finally:
            other.close()


@pytest.mark.gen_test(timeout=60)
async def test_what_may_not_be_published_does_not_lie_in_the_history() -> None:
    redis = RealRedis()
    try:
        with usher("sqlite", REDIS_URL=redis.url) as server:
            client = sign_up(server)
            room = f"user:{client.user['id']}"
            async with talking(server, client) as talker:
                first = await talker.say(room, "before")
                redis.ask("ACL", "SETUSER", "default", "resetchannels", "&usher:{trial}:*")
                reply = await talker.ask("message", {"room": room, "data": "refused"})
                assert reply["error"]["code"] == "unavailable"
                await asyncio.sleep(2.5)
                reported = [line for line in server.log.splitlines() if "NOPERM" in line]
                assert len(reported) <= 2, reported  # the store's line and the subscription's
                redis.ask("ACL", "SETUSER", "default", "allchannels")
                await until(lambda: redis_state(server) == "ok", SECONDS)
                await talker.say(room, "after")
                part = await talker.ok("history", {"room": room, "after": first})
                assert [each["data"] for each in part["messages"]] == ["after"]
                assert part["complete"] is True
    finally:
        redis.close()


def test_a_missing_right_is_named_once() -> None:
    redis = RealRedis()
    try:
        redis.ask("ACL", "SETUSER", "default", "-xadd")
        with usher("sqlite", REDIS_URL=redis.url) as server:
            assert redis_state(server) == "fallback"
            time.sleep(2.5)
            reported = [line for line in server.log.splitlines() if "NOPERM" in line]
            assert len(reported) == 1
            assert "XADD: NOPERM" in reported[0]
    finally:
        redis.close()


# ---- SQLite ---------------------------------------------------------------------------------


@contextmanager
def no_room_on_disk(server: Usher) -> Iterator[None]:
    """No file of this process may have more than a byte: as on a full disk, a write fails."""
    pid = server.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (NO_BYTE, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


@pytest.mark.gen_test(timeout=60)
async def test_a_disk_that_takes_no_more_is_said_and_its_end_too() -> None:
    redis = RealRedis()
    try:
        with usher("sqlite", REDIS_URL=redis.url) as server:
            await until(lambda: database_state(server) == (200, "ok"))
            with no_room_on_disk(server):
                await until(lambda: database_state(server) == (503, "unavailable"), 2 * SECONDS)
                assert sign_up_status(server) == 503
            await until(lambda: database_state(server) == (200, "ok"), SECONDS)
            assert sign_up_status(server) == 201
            assert server.log.count("the database cannot be used") == 1
    finally:
        redis.close()


@pytest.mark.gen_test(timeout=60)
async def test_a_database_that_takes_no_writes_is_said_and_its_end_too() -> None:
    with usher("sqlite") as server:
        await until(lambda: database_state(server) == (200, "ok"))
        other = sqlite3.connect(server.data_dir / "usher.db", isolation_level=None)
        try:
            other.execute("BEGIN IMMEDIATE")  # another process keeps the one place for writers
            await until(lambda: database_state(server) == (503, "unavailable"), 2 * SECONDS)
            other.execute("ROLLBACK")
        finally:
            other.close()
        await until(lambda: database_state(server) == (200, "ok"), SECONDS)


def sign_up_status(server: Usher) -> int:
    body = {"email": address(), "password": PASSWORD, "name": "Ada", "client": "native"}
    return Client(server).post("/api/auth/signup", body).status


@pytest.mark.gen_test(timeout=60)
async def test_a_server_whose_data_folder_is_deleted_takes_no_sign_ups() -> None:
    with usher("sqlite") as server:
        assert sign_up_status(server) == 201
        # Else it might be written while the folder is being emptied.
        await until(lambda: any((server.data_dir / "mail").glob("*.eml")))
        shutil.rmtree(server.data_dir)
        assert sign_up_status(server) == 503
        await until(lambda: database_state(server) == (503, "unavailable"), 2 * SECONDS)
        server.data_dir.mkdir()
        assert sign_up_status(server) == 503


@contextmanager
def moved_away(folder: Path) -> Iterator[None]:
    away = folder.with_name(f"{folder.name}-away")
    folder.rename(away)
    try:
        yield
    finally:
        away.rename(folder)


@pytest.mark.gen_test(timeout=60)
async def test_a_data_folder_that_comes_back_is_used_again() -> None:
    with usher("sqlite") as server:
        assert sign_up_status(server) == 201
        with moved_away(server.data_dir):
            assert sign_up_status(server) == 503
        assert sign_up_status(server) == 201
        await until(lambda: database_state(server) == (200, "ok"), 2 * SECONDS)
