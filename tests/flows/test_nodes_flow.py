"""Several nodes of one installation: rooms, presence, replaced sockets and revocations."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.databases import kinds, slow
from tests.support.nodes import Nodes, again, at, channel, let_in, nodes, path_of, put_out
from tests.support.preloaded import run_command
from tests.support.redis import until
from tests.support.server import PASSWORD, PATIENCE, Client, address, sign_up
from tests.support.talk import Talker, start_talking, talking

# Several nodes are run on PostgreSQL, as a rule.
database_kind = kinds("postgresql", slow("sqlite"))

AT_ONCE = 1.0
"""Seconds: the contract's bound for other nodes."""


@pytest.fixture(scope="module")
def three(database_kind: str) -> Iterator[Nodes]:
    with nodes(database_kind, 3) as running:
        yield running


async def blocking(work: Any, *args: Any) -> Any:
    """A blocking call beside the loop, so that sockets go on being read."""
    return await asyncio.to_thread(work, *args)


async def goes(talker: Talker, code: int, since: float) -> None:
    """A socket is closed in time, counted from when a call was answered."""
    assert await talker.code() == code
    assert time.monotonic() - since < AT_ONCE
    said = [frame["data"] for frame in talker.events if frame["event"] == "closing"]
    assert [closing["code"] for closing in said] == [code]


# ---- the whole of it, on both databases -----------------------------------------------------


@pytest.mark.gen_test(timeout=60)
async def test_the_main_flow_works_across_nodes(database_kind: str) -> None:
    with nodes(database_kind) as both:
        first, second = both
        ann, bob = sign_up(first), sign_up(second)
        room = channel(ann)
        async with talking(first, ann) as a, talking(second, bob, ticket=False) as b:
            await blocking(let_in, ann, room, bob)
            assert room in (await b.next("access-changed"))["rooms"]
            known = await b.say(room, {"tea": 1})
            message = await a.hears(room, {"tea": 1})
            assert (message["from"], message["id"]) == (b.member, known)
            await a.sees(room, a.id, b.id)
            await b.ok("typing", {"room": room})
            assert (await a.next("typing"))["from"] == b.member
            assert "gpt" in (await b.ok("usage", {"model": "gpt"}))["models"]
            assert "gpt" in (await a.ok("usage", {"model": "opus"}))["models"]
            await a.say(room, {"tea": 2})
            for talker in (a, b):
                part = await talker.ok("history", {"room": room, "after": known})
                assert [m["data"] for m in part["messages"]] == [{"tea": 2}]
                assert part["complete"] is True
            await _a_backend_pushes(both, a, b, room)
            await blocking(put_out, ann, room, bob)
            assert room not in (await b.next("access-changed"))["rooms"]
            await a.sees(room, a.id)
            answer = await blocking(at(first, bob).post, "/api/auth/logout?wait=true")
            since = time.monotonic()
            assert answer.status == 200, answer
            assert (answer.body["closed"], answer.body["pending"]) == (1, 0)
            await goes(b, 4410, since)


async def _a_backend_pushes(both: Nodes, a: Talker, b: Talker, room: str) -> None:
    body = {"name": "backend", "scopes": ["publish"]}
    key = await blocking(both.admin.post, "/api/admin/api-keys", body)
    backend = Client(both[1], token=key.body["key"])
    push = {"room": room, "event": "news", "data": {"n": 1}}
    assert (await blocking(backend.post, "/api/publish", push)).status == 204
    for talker in (a, b):
        assert await talker.frame("news") == {"event": "news", "room": room, "data": {"n": 1}}
    push["room"] = f"user:{a.id}"
    assert (await blocking(backend.post, "/api/publish", push)).status == 204
    assert (await a.frame("news"))["room"] == f"user:{a.id}"


# ---- rooms ----------------------------------------------------------------------------------


@pytest.mark.gen_test(timeout=60)
async def test_messages_of_three_nodes_arrive_in_one_order_with_growing_ids(three: Nodes) -> None:
    ann = sign_up(three[0])
    room, each = channel(ann), 25
    sockets = [await start_talking(node, at(node, ann)) for node in three for _ in range(4)]

    async def speak(number: int, socket: Talker) -> None:
        for count in range(each):
            await socket.say(room, [number, count])

    await asyncio.gather(*(speak(n, s) for n, s in enumerate(sockets)))
    received = [await socket.received(room, each * len(sockets)) for socket in sockets]
    assert all(messages == received[0] for messages in received)
    orders = [tuple(map(int, message["id"].split("-"))) for message in received[0]]
    assert orders == sorted(set(orders))
    assert len(orders) == each * len(sockets)
    for socket in sockets:
        await socket.close()


@pytest.mark.gen_test
async def test_a_room_is_received_from_its_first_member_to_its_last(three: Nodes) -> None:
    ann = sign_up(three[0])
    room = channel(ann)
    own = f"user:{ann.user['id']}"
    assert three.listeners(room) == 0
    async with talking(three[0], ann) as a:
        assert (three.listeners(room), three.listeners(own)) == (1, 1)
        async with talking(three[0], ann), talking(three[1], at(three[1], ann)) as b:
            assert (three.listeners(room), three.listeners(own)) == (2, 2)
            await b.ok("leave", {"room": room})
            await until(lambda: three.listeners(room) == 1)
            await b.ok("join", {"room": room})
            assert three.listeners(room) == 2
        await until(lambda: three.listeners(room) == 1)
        await a.drop()
    await until(lambda: (three.listeners(room), three.listeners(own)) == (0, 0))


@pytest.mark.gen_test(timeout=60)
async def test_concurrent_joins_and_leaves_end_with_the_last_state(three: Nodes) -> None:
    ann = sign_up(three[0])
    room = channel(ann)
    async with talking(three[0], ann) as a, talking(three[1], at(three[1], ann)) as b:
        for _ in range(30):
            leaving, joining = b.asks("leave", {"room": room}), b.asks("join", {"room": room})
            await asyncio.gather(leaving, joining)
        before = len(b.messages(room))
        await a.say(room, "there?")
        await b.hears(room, "there?")
        assert len(b.messages(room)) == before + 1
        assert three.listeners(room) == 2


@pytest.mark.gen_test(timeout=60)
async def test_nothing_said_after_the_join_is_missed(three: Nodes) -> None:
    ann = sign_up(three[0])
    room = channel(ann)
    async with talking(three[0], ann) as a:
        for count in range(10):
            # The first of the room on its node each time: the room is subscribed for it.
            async with talking(three[2], at(three[2], ann)) as late:
                await a.say(room, count)
                await late.hears(room, count)
                assert late.said(room) == [count]


@pytest.mark.gen_test(timeout=60)
async def test_presence_and_live_sockets_are_those_of_all_nodes(three: Nodes) -> None:
    ann, bob = sign_up(three[0]), sign_up(three[1])
    room = channel(ann, bob)
    async with talking(three[0], ann) as a, talking(three[2], at(three[2], ann)) as other:
        first = await start_talking(three[1], bob)
        second = await start_talking(three[2], at(three[2], bob))
        for talker in (a, other, first):
            await talker.sees(room, a.id, first.id)
        for node in three:
            items = at(node, bob).get("/api/sessions").body["items"]
            assert [item["live_sockets"] for item in items] == [2]
        news = await a.next("presence", lambda d: first.member in d["joined"])
        assert news["room"] == room
        await first.close()
        await second.close()
        assert (await a.next("presence", lambda d: d["left"]))["left"] == [first.member]
        for talker in (a, other):
            await talker.sees(room, a.id)
        reported = [f["data"] for f in a.events if f["event"] == "presence" and f["data"]["left"]]
        assert len(reported) == 1, "who is on two nodes comes and goes once"


def live_sockets(client: Client) -> int:
    return sum(int(item["live_sockets"]) for item in client.get("/api/sessions").body["items"])


@pytest.mark.gen_test(timeout=60)
async def test_who_watches_their_sessions_hears_of_sockets_on_each_node(three: Nodes) -> None:
    bob = sign_up(three[0])
    async with talking(three[0], bob) as watcher, talking(three[1], at(three[1], bob)) as other:
        assert await watcher.ok("watch-sessions") == {}
        await watcher.next("sessions-changed")  # of what is on the other node already
        for node in (three[1], three[0]):
            third = await start_talking(node, at(node, bob))
            await watcher.next("sessions-changed")
            items = bob.get("/api/sessions").body["items"]
            assert [item["live_sockets"] for item in items] == [3]
            await third.close()
            await watcher.next("sessions-changed")
            await until(lambda: live_sockets(bob) == 2)
        assert [f for f in other.events if f["event"] == "sessions-changed"] == []


@pytest.mark.gen_test(timeout=60)
async def test_a_right_that_is_taken_away_stops_delivery_on_every_node(three: Nodes) -> None:
    ann, bob = sign_up(three[0]), sign_up(three[0])
    room = channel(ann, bob)
    bobs = [await start_talking(node, at(node, bob)) for node in three]
    async with talking(three[0], ann) as a:
        for change in (_without_member, _without_channel):
            await a.say(room, "all")
            for b in bobs:
                await b.hears(room, "all")
            await blocking(change, ann, room, bob)
            since = time.monotonic()
            for b in bobs:
                assert room not in (await b.next("access-changed"))["rooms"]
                assert time.monotonic() - since < AT_ONCE
            for b in bobs:
                assert await b.refused("message", {"room": room, "data": 1}) == "forbidden"
                assert await b.refused("history", {"room": room}) == "forbidden"
            if change is _without_member:
                await a.say(room, "secret")
                await a.hears(room, "secret")
                await blocking(let_in, ann, room, bob)
                for b in bobs:
                    await b.next("access-changed")
    for b in bobs:
        assert b.said(room) == ["all", "all"]
        await b.close()


def _without_member(ann: Client, room: str, bob: Client) -> None:
    put_out(ann, room, bob)


def _without_channel(ann: Client, room: str, bob: Client) -> None:
    assert ann.call("DELETE", path_of(room)).status == 204


@pytest.mark.gen_test(timeout=60)
async def test_concurrent_changes_of_rights_end_with_the_last_state(three: Nodes) -> None:
    ann = sign_up(three[0])
    room = channel(ann)
    guests = [sign_up(three[0]) for _ in range(4)]
    sockets = [await start_talking(three[1], at(three[1], g)) for g in guests for _ in range(3)]

    def hurry() -> None:
        for _ in range(6):
            for private in (False, True):
                assert ann.call("PATCH", path_of(room), {"private": private}).status == 200

    await blocking(hurry)
    async with talking(three[1], at(three[1], ann)) as a:
        for guest in sockets:  # once the last news have been acted upon, no right is left
            await guest.ok("join-channels")
        await asyncio.gather(*(s.settle() for s in sockets))
        await a.say(room, "secret")
        await a.hears(room, "secret")
        for guest in sockets:
            assert await guest.refused("history", {"room": room}) == "forbidden"
            assert "secret" not in guest.said(room)
            await guest.close()


# ---- one live socket a token ----------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_bearer_token_on_another_node_closes_the_first_socket(three: Nodes) -> None:
    ann = sign_up(three[0])
    before = await start_talking(three[0], ann, ticket=False)
    for node in (three[1], three[2], three[0], three[1]):
        now = await start_talking(node, at(node, ann), ticket=False)
        await goes(before, 4409, time.monotonic())
        await now.settle()
        before = now
    await before.close()


@pytest.mark.gen_test
async def test_tickets_of_one_login_may_be_open_on_every_node(three: Nodes) -> None:
    ann = sign_up(three[0])
    sockets = [await start_talking(node, at(node, ann)) for node in three]
    for socket in sockets:
        await socket.settle()
        await socket.close()


@pytest.mark.gen_test
async def test_a_ticket_is_valid_on_one_node_once(three: Nodes) -> None:
    ann = sign_up(three[0])
    ticket = ann.ticket()

    async def opens(number: int) -> int:
        client = at(three[number % 3], ann)
        client.ticket = lambda: ticket  # type: ignore[method-assign]
        talker = await start_talking(three[number % 3], client)
        await talker.close()
        return 1

    outcomes = await asyncio.gather(*map(opens, range(9)), return_exceptions=True)
    assert outcomes.count(1) == 1
    assert sum("closed (4401)" in str(outcome) for outcome in outcomes) == 8


# ---- revocation -----------------------------------------------------------------------------


def _log_out(three: Nodes, client: Client, email: str) -> None:
    assert client.post("/api/auth/logout").status == 204


def _change_password(three: Nodes, client: Client, email: str) -> None:
    body = {"current_password": PASSWORD, "new_password": "another quiet heron 8"}
    assert again(three[0], email).post("/api/auth/password", body).status == 204


def _end_session(three: Nodes, client: Client, email: str) -> None:
    other = again(three[0], email)
    ids = [i["id"] for i in other.get("/api/sessions").body["items"] if not i["current"]]
    assert other.call("DELETE", f"/api/sessions/{ids[0]}").status == 204


def _end_others(three: Nodes, client: Client, email: str) -> None:
    assert again(three[0], email).call("DELETE", "/api/sessions").status in (200, 204)


def _disable(three: Nodes, client: Client, email: str) -> None:
    path = f"/api/admin/users/{client.user['id']}"
    assert three.admin.call("PATCH", path, {"disabled": True}).status == 200


def _delete(three: Nodes, client: Client, email: str) -> None:
    assert three.admin.call("DELETE", f"/api/admin/users/{client.user['id']}").status == 204


def _disconnect(three: Nodes, client: Client, email: str) -> None:
    path = f"/api/admin/users/{client.user['id']}/disconnect"
    assert three.admin.post(path).status in (200, 204)


def _reset_password(three: Nodes, client: Client, email: str) -> None:
    words = ("reset-password", email, "--json")
    reported = run_command(three[1].environment, *words, timeout=PATIENCE * 3).stdout
    assert json.loads(reported)["url"].startswith(three.settings["PUBLIC_URL"])
    token = json.loads(reported)["url"].rpartition("=")[2]
    reset = {"token": token, "new_password": "another quiet heron 8"}
    assert Client(three[0]).post("/api/auth/password/reset", reset).status == 204


def _change_role(three: Nodes, client: Client, email: str) -> None:
    path = f"/api/admin/users/{client.user['id']}"
    assert three.admin.call("PATCH", path, {"role": "admin"}).status == 200


@pytest.mark.gen_test(timeout=40)
@pytest.mark.parametrize(
    ("end", "code"),
    [
        (_log_out, 4410),
        (_change_password, 4410),
        (_end_session, 4410),
        (_end_others, 4410),
        (_disable, 4410),
        (_delete, 4410),
        (_disconnect, 4410),
        (_reset_password, 4410),
        (_change_role, 4419),
    ],
)
async def test_what_ends_on_one_node_has_ended_on_all(three: Nodes, end: Any, code: int) -> None:
    email = address()
    ann = sign_up(three[0], email=email)
    tickets = [ann.ticket() for _ in three]
    sockets = [await start_talking(node, at(node, ann)) for node in three]
    await blocking(end, three, ann, email)
    since = time.monotonic()
    for socket in sockets:
        await goes(socket, code, since)
    for node, ticket in zip(three, tickets, strict=True):
        client = at(node, ann)
        assert (await blocking(client.get, "/api/auth/me")).status == 401
        client.ticket = lambda ticket=ticket: ticket  # type: ignore[method-assign,misc]
        with pytest.raises(AssertionError, match=r"closed \(44(01|19)\)"):
            await start_talking(node, client)


@pytest.mark.gen_test(timeout=60)
async def test_logout_waits_for_every_node_and_says_what_a_silent_one_has_left(
    three: Nodes,
) -> None:
    ann = sign_up(three[0])
    silent = three.start()
    a, b = await start_talking(three[0], ann), await start_talking(three[1], at(three[1], ann))
    lost = [await start_talking(silent, at(silent, ann)) for _ in range(2)]
    key = f"usher:{{{ann.user['id']}}}:sockets"
    await until(lambda: three.redis.ask("ZCARD", key) == 4)
    silent.process.send_signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        answer = await blocking(ann.post, "/api/auth/logout?wait=true")
        assert time.monotonic() - began <= 2.5
        assert answer.status == 200
        assert (answer.body["closed"], answer.body["pending"]) == (2, 2)
        by_node = sorted((n["closed"], n["pending"]) for n in answer.body["nodes"])
        assert by_node == [(0, 0), (0, 2), (1, 0), (1, 0)]
        for socket in (a, b):
            assert await socket.code() == 4410
    finally:
        silent.process.send_signal(signal.SIGCONT)
    for socket in lost:  # it acts as soon as it wakes up
        assert await socket.code(3.0) == 4410
    assert silent.end() == 0
    three.all.remove(silent)


# ---- cost -----------------------------------------------------------------------------------


def commands_run(three: Nodes) -> int:
    """How many commands Redis has run, but for what tests ask."""
    text = three.redis.ask("INFO", "commandstats").decode()
    total = 0
    for line in text.splitlines():
        if line.startswith("cmdstat_") and not line.startswith(("cmdstat_info", "cmdstat_ping")):
            total += int(line.partition("calls=")[2].partition(",")[0])
    return total


def fill(three: Nodes, users: int, each: int) -> None:
    """Socket sessions of other people, written by Redis itself."""
    script = """
    for u = 1, ARGV[1] do
      for s = 1, ARGV[2] do
        local id = 'synthetic' .. u .. '-' .. s
        redis.call('SET', 'usher:socket:{' .. id .. '}', '{}', 'PX', 30000)
        redis.call('ZADD', 'usher:{synthetic' .. u .. '}:sockets', ARGV[3], 'sid/' .. id)
      end
    end
    """
    three.redis.ask("EVAL", script, 0, users, each, str(time.time() + 30))


@pytest.mark.slow
@pytest.mark.gen_test(timeout=100)
async def test_removing_one_user_costs_by_that_users_sessions_and_not_by_everybodys(
    database_kind: str,
) -> None:
    with nodes(database_kind) as both:

        async def cost(sockets: int) -> int:
            """Commands from a disable to the last socket's end, without the loops' own."""
            user = sign_up(both[0])
            talkers = [
                await start_talking(both[n % 2], at(both[n % 2], user)) for n in range(sockets)
            ]
            before, began = commands_run(both), time.monotonic()
            await blocking(_disable, both, user, "")
            for talker in talkers:
                assert await talker.code() == 4410
            key = f"usher:{{{user.user['id']}}}:sockets"
            await until(lambda: both.redis.ask("EXISTS", key) == 0)
            assert time.monotonic() - began < 5
            return commands_run(both) - before

        alone = [await cost(2), await cost(20)]
        fill(both, 10_000, 10)
        assert both.redis.ask("DBSIZE") > 110_000
        crowded = [await cost(2), await cost(20)]
    assert crowded[0] < alone[0] + 60, (alone, crowded)
    assert crowded[1] < alone[1] + 60, (alone, crowded)
    assert crowded[1] < 20 * 15 + 150, "so many commands a session"
