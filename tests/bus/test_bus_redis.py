"""The bus over a real Redis that is killed, paused, restarted, or disconnects."""

from __future__ import annotations

import asyncio
import logging
import signal
from typing import Any

import pytest

from services.bus.bus_redis import RedisBus
from services.bus.log_keys import EPOCH_KEY, EPOCH_MS
from services.errors import StoreUnavailable
from services.redis.store_memory import MemoryStore
from services.redis.store_redis import RedisStore
from tests.bus.ears import Ear, received
from tests.bus.nodes import ROOM, calls, hang_up, listeners, node, stat
from tests.support.redis import RealRedis, redis_server, until, within

__all__ = ["redis_server"]

# ---- several nodes -------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_messages_of_a_node_reach_every_node_in_the_same_order(
    redis_server: RealRedis,
) -> None:
    async with node(redis_server) as a, node(redis_server) as b, node(redis_server) as c:
        for each in (a, b, c):
            await received(each.bus, ROOM)
        said = [x.bus.keep(ROOM, f"{n}".encode()) for n in range(60) for x in (a, b)]
        ids = await asyncio.gather(*said)
        await b.bus.send(ROOM, b"psst")
        for each in (a, b, c):
            await each.ear.hears(121)
            assert sorted(each.ear.ids()) == sorted(ids)
            assert each.ear.kept_messages == a.ear.kept_messages
            assert each.ear.said == [(ROOM, b"psst")]


@pytest.mark.gen_test
async def test_only_nodes_subscribed_to_the_room_get_traffic(redis_server: RealRedis) -> None:
    async with node(redis_server) as a, node(redis_server) as b:
        await received(a.bus, ROOM)
        await received(b.bus, "channel:another")
        assert listeners(redis_server, ROOM) == 1
        a.bus.unsubscribe(ROOM)
        await until(lambda: listeners(redis_server, ROOM) == 0)
        assert listeners(redis_server, "channel:another") == 1


@pytest.mark.gen_test
async def test_keeping_is_one_command_and_one_round_trip(redis_server: RealRedis) -> None:
    async with node(redis_server) as a:
        await a.bus.keep(ROOM, b"warm")
        before = stat(redis_server, "stats", "total_reads_processed"), calls(redis_server, "eval")
        for _ in range(10):
            await a.bus.keep(ROOM, b"x")
        assert calls(redis_server, "eval") == before[1] + 10
        assert stat(redis_server, "stats", "total_reads_processed") <= before[0] + 10 + 12


@pytest.mark.gen_test
async def test_many_rooms_are_subscribed_in_one_write(redis_server: RealRedis) -> None:
    rooms = [f"channel:{n}" for n in range(2000)]
    async with node(redis_server) as a:
        before = stat(redis_server, "stats", "total_reads_processed")
        waiting = [future for room in rooms if (future := a.bus.subscribe(room)) is not None]
        assert len(waiting) == 2000
        await within(asyncio.gather(*waiting))
        # 100 KB, of which Redis reads 16 KB at a time; probes and INFO beside them.
        assert stat(redis_server, "stats", "total_reads_processed") - before < 40
        assert calls(redis_server, "subscribe") == 2000
        hang_up(redis_server)
        await until(lambda: len(a.ear.gaps) == 2000)
        assert sorted(a.ear.gaps) == sorted(rooms)


@pytest.mark.gen_test
async def test_nothing_of_redis_is_left_without_an_end(redis_server: RealRedis) -> None:
    async with node(redis_server) as a:
        await a.say(b"x")
        keys = set(redis_server.ask("KEYS", "*")) - {EPOCH_KEY.encode()}
        assert len(keys) == 2
        assert 0 < redis_server.ask("PTTL", EPOCH_KEY) <= EPOCH_MS
        assert all(3_500_000 < redis_server.ask("PTTL", key) <= 3_600_000 for key in keys)
        assert {key.count(b"{" + ROOM.encode() + b"}") for key in keys} == {1}, "one slot"


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("redis://127.0.0.1:1", True),
        ("unix:///nowhere", True),
        ("redis+sentinel://127.0.0.1:1/master", True),
        ("redis+cluster://127.0.0.1:1", False),
    ],
)
def test_only_a_cluster_may_change_the_order_of_what_is_kept(url: str, kept: bool) -> None:
    assert RedisBus(url, MemoryStore(), 10, 10.0).keeps_order is kept


# ---- the line is lost ----------------------------------------------------------------------


@pytest.mark.gen_test
async def test_after_the_line_was_lost_a_gap_is_sent_of_every_room_and_it_is_received_again(
    redis_server: RealRedis,
) -> None:
    async with node(redis_server) as a, node(redis_server) as b:
        await received(a.bus, ROOM, "channel:another")
        await b.say(b"before")
        await a.ear.hears(1)
        assert a.ear.gaps == []
        assert hang_up(redis_server) == 1
        await until(lambda: len(a.ear.gaps) == 2)
        assert sorted(a.ear.gaps) == ["channel:another", ROOM]
        await b.say(b"after")
        await until(lambda: a.ear.bodies() == [b"before", b"after"])


@pytest.mark.gen_test
async def test_what_was_left_while_the_line_was_lost_is_not_received_again(
    redis_server: RealRedis,
) -> None:
    async with node(redis_server) as a:
        await received(a.bus, ROOM, "channel:another")
        redis_server.kill()
        await until(lambda: a.bus.subscribe("channel:late") is None)
        a.bus.unsubscribe(ROOM)
        redis_server.start()
        await until(lambda: len(a.ear.gaps) == 2)
        assert sorted(a.ear.gaps) == ["channel:another", "channel:late"]
        assert listeners(redis_server, ROOM) == 0


@pytest.mark.gen_test
async def test_waiters_for_a_room_continue_when_the_connection_is_lost(
    redis_server: RealRedis,
) -> None:
    async with node(redis_server) as a:
        await received(a.bus, "channel:another")
        redis_server.send_signal(signal.SIGSTOP)
        waiting = a.bus.subscribe(ROOM)
        assert waiting is not None
        assert a.bus.subscribe(ROOM) is waiting
        await asyncio.sleep(0.05)
        assert not waiting.done(), "nobody can say yet that it is heard"
        await within(waiting)
        assert a.bus.subscribe(ROOM) is None
        redis_server.send_signal(signal.SIGCONT)
        await until(lambda: ROOM in a.ear.gaps)
        await a.say(b"heard")
        await until(lambda: a.ear.bodies() == [b"heard"])


@pytest.mark.gen_test
async def test_leaving_before_the_confirmation_releases_the_waiters(
    redis_server: RealRedis,
) -> None:
    async with node(redis_server) as a:
        waiting = a.bus.subscribe(ROOM)
        assert waiting is not None
        a.bus.unsubscribe(ROOM)
        await within(waiting)
        await received(a.bus, ROOM)
        await a.say(b"heard")
        await until(lambda: a.ear.bodies() == [b"heard"])


@pytest.mark.gen_test
async def test_without_redis_no_caller_waits_and_the_room_is_subscribed_later(
    redis_server: RealRedis,
) -> None:
    redis_server.kill()
    async with node(redis_server) as a:
        assert a.bus.subscribe(ROOM) is None
        with pytest.raises(StoreUnavailable):
            await a.bus.keep(ROOM, b"x")
        for question in (a.bus.read(ROOM, None, 5), a.bus.read_behind(ROOM, "1-0", 5)):
            with pytest.raises(StoreUnavailable):
                await question
        with pytest.raises(StoreUnavailable):
            await a.bus.send(ROOM, b"x")
        a.bus.send(ROOM, b"nobody awaits this one")
        redis_server.start()
        await until(lambda: a.ear.gaps == [ROOM])
        await a.say(b"heard")
        await until(lambda: a.ear.bodies() == [b"heard"])


@pytest.mark.gen_test
async def test_a_paused_redis_is_noticed_and_taken_up_again(redis_server: RealRedis) -> None:
    async with node(redis_server) as a:
        await received(a.bus, ROOM)
        redis_server.send_signal(signal.SIGSTOP)
        await asyncio.sleep(2.5)  # longer than the line's patience
        redis_server.send_signal(signal.SIGCONT)
        await until(lambda: a.ear.gaps)
        assert set(a.ear.gaps) == {ROOM}
        await a.say(b"heard")
        await until(lambda: a.ear.bodies() == [b"heard"])


@pytest.mark.gen_test
async def test_a_silent_line_is_kept_while_redis_answers(redis_server: RealRedis) -> None:
    async with node(redis_server) as a:
        await received(a.bus, ROOM)
        await asyncio.sleep(2.5)  # longer than a line is given without any sign of life
        assert a.ear.gaps == []
        assert listeners(redis_server, ROOM) == 1


@pytest.mark.gen_test
async def test_redis_may_be_killed_and_restarted_again_and_again(redis_server: RealRedis) -> None:
    async with node(redis_server) as a:
        await received(a.bus, ROOM)
        for number in range(3):
            gaps = len(a.ear.gaps)
            redis_server.kill()
            redis_server.start()
            await until(lambda: len(a.ear.gaps) > gaps)  # noqa: B023 - awaited here
            await a.say(b"%d" % number)
            await until(lambda: a.ear.bodies()[-1:] == [b"%d" % number])  # noqa: B023
        assert a.ear.bodies() == [b"0", b"1", b"2"]


@pytest.mark.gen_test
async def test_a_subscription_that_redis_refuses_is_logged_and_delays_no_caller(
    redis_server: RealRedis, caplog: pytest.LogCaptureFixture
) -> None:
    redis_server.ask("ACL", "SETUSER", "deaf", "on", ">secret", "~*", "+@all", "resetchannels")
    caplog.set_level(logging.WARNING, "usher.bus")
    url = redis_server.url.replace("unix://", "unix://deaf:secret@")
    async with node(redis_server, url) as a:
        waiting = a.bus.subscribe(ROOM)
        if waiting is not None:
            await within(waiting)
        await until(lambda: "NOPERM" in caplog.text)
        assert "secret" not in caplog.text
        assert listeners(redis_server, ROOM) == 0
        redis_server.ask("ACL", "SETUSER", "deaf", "allchannels")
        await until(lambda: ROOM in a.ear.gaps)
        await a.say(b"heard")
        await until(lambda: a.ear.bodies() == [b"heard"])


@pytest.mark.gen_test
async def test_a_password_and_a_database_number_are_said_before_anything_else(
    redis_server: RealRedis,
) -> None:
    redis_server.ask("CONFIG", "SET", "requirepass", "secret")
    async with node(redis_server, f"unix://:secret@{redis_server.path}?db=3") as a:
        await received(a.bus, ROOM)
        assert a.ear.gaps == [], "the first line was good"


@pytest.mark.gen_test
async def test_invalid_data_from_redis_ends_the_connection_and_not_the_bus(tmp_path: Any) -> None:
    lines = 0

    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal lines
        lines += 1
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    path = tmp_path / "s"
    server = await asyncio.start_unix_server(babble, path)
    bus = RedisBus(f"unix://{path}", RedisStore(f"unix://{path}"), 10, 10.0)
    ear = Ear()
    bus.listen(ear)
    await bus.open()
    await until(lambda: lines >= 3)
    await bus.close()
    server.close()
    await server.wait_closed()
    assert (ear.kept_messages, ear.said, ear.gaps) == ([], [], [])
