"""Redis is replaced by an empty one whose clock is behind: no message is lost silently."""

from __future__ import annotations

import asyncio
from contextlib import closing

import pytest

from services.bus.bus import id_order
from tests.client.rooms_in_node import listening, received
from tests.support.node import Node
from tests.support.nodes import Nodes, channel, let_in, nodes
from tests.support.redis import until
from tests.support.server import sign_up
from tests.support.talk import Talker, talking

BEHIND = "-30m"


def replace_redis(running: Nodes) -> None:
    running.redis.kill()
    running.redis.clock = BEHIND
    running.redis.start()


def redis_milliseconds(running: Nodes) -> int:
    """The clock of Redis, of which message ids are made.

    A log that is emptied in the millisecond of its last message gives the next one the same id.
    """
    seconds, microseconds = running.redis.ask("TIME")
    return int(seconds) * 1000 + int(microseconds) // 1000


async def speak(talker: Talker, room: str, said: list[str], stop: asyncio.Event) -> None:
    """Say something again and again; keep the ids of what was acknowledged."""
    while not stop.is_set():
        reply = await talker.ask("message", {"room": room, "data": len(said)})
        if reply["ok"]:
            said.append(reply["data"]["id"])
        await asyncio.sleep(0.002)


async def says(talker: Talker, room: str, data: int) -> bool:
    """Say something as soon as it is taken."""
    for _ in range(200):
        if (await talker.ask("message", {"room": room, "data": data}))["ok"]:
            return True
        await asyncio.sleep(0.05)
    return False


def taken(talker: Talker, room: str) -> list[str]:
    """The ids of the received messages, and `gap` for each reported one."""
    found = []
    for frame in talker.events:
        if frame["event"] == "message" and frame["data"]["room"] == room:
            found.append(frame["data"]["id"])
        elif frame == {"event": "gap", "data": {"room": room}}:
            found.append("gap")
    return found


@pytest.mark.slow
@pytest.mark.gen_test(timeout=90)
async def test_what_is_acknowledged_comes_or_a_gap_is_sent() -> None:
    """Before: 223 acknowledged, 97 delivered, and no gap. No database is part of this."""
    with nodes("sqlite", 2) as running:
        ann, bob = sign_up(running[0]), sign_up(running[1])
        room = channel(ann, bob)
        async with talking(running[0], ann) as listener, talking(running[1], bob) as speaker:
            await until(lambda: room in listener.joined["rooms"])
            said: list[str] = []
            stop = asyncio.Event()
            speaking = asyncio.create_task(speak(speaker, room, said, stop))
            await until(lambda: len(said) > 30)
            await asyncio.to_thread(replace_redis, running)
            so_far = len(said)
            await until(lambda: len(said) > so_far + 50)
            stop.set()
            await speaking
            await until(lambda: said[-1] in taken(listener, room))
            came = taken(listener, room)
            assert came.count("gap") == 1
            gap = came.index("gap")
            assert came[:gap] == said[:gap], "nothing is missing before it"
            after = came[gap + 1 :]
            assert after == said[len(said) - len(after) :], "nothing is missing behind it"
            assert len(after) > 40
            orders = [id_order(each) for each in said]
            assert orders == sorted(set(orders)), "ids of a room grow"
            asked = {"room": room, "after": said[gap - 1]}
            reply = await listener.ask("history", asked)
            assert reply["data"]["complete"] is False
            ids = [kept["id"] for kept in reply["data"]["messages"]]
            assert ids == said[len(said) - len(ids) :]


@pytest.mark.gen_test(timeout=90)
async def test_a_page_receives_the_gap_and_continues() -> None:
    with nodes("sqlite", 2) as running, closing(Node()) as node:
        ann, bob = sign_up(running[0]), sign_up(running[1])
        room = channel(ann)
        let_in(ann, room, bob)
        js = listening(node, running[0], ann)
        async with talking(running[1], bob) as speaker:
            assert (await speaker.ask("message", {"room": room, "data": 1}))["ok"]
            assert await asyncio.to_thread(received, js) == (room, 1)
            await asyncio.to_thread(replace_redis, running)

            assert await says(speaker, room, 2)
            assert await asyncio.to_thread(js.next, "gap", lambda detail: detail == {"room": room})
            assert await asyncio.to_thread(received, js) == (room, 2)
        js.result("close")


@pytest.mark.gen_test(timeout=60)
async def test_a_log_that_was_emptied_while_it_was_read_is_reported_once() -> None:
    """Found by the soak. Before: what was said since came again, behind a gap that was none."""
    with nodes("sqlite", 2) as running:
        ann, bob = sign_up(running[0]), sign_up(running[1])
        room = channel(ann, bob)
        async with talking(running[0], ann) as listener, talking(running[1], bob) as speaker:
            await until(lambda: room in listener.joined["rooms"])
            said = [await speaker.say(room, "before")]
            await until(lambda: redis_milliseconds(running) > id_order(said[0])[0])
            assert running.redis.ask("FLUSHALL") == b"OK"
            said += [await speaker.say(room, number) for number in range(5)]
            await until(lambda: said[-1] in taken(listener, room))
            assert running.redis.ask("CLIENT", "KILL", "TYPE", "pubsub") > 0
            said += [await speaker.say(room, number) for number in range(5, 10)]
            await until(lambda: said[-1] in taken(listener, room))
            await until(lambda: running.received(room))
            await listener.settle()
            assert taken(listener, room) == said
