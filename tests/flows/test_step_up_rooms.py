"""Rooms that require a recent authentication, on two nodes: who may join, and the exact end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import jwt
import pytest

from tests.flows.test_nodes_faults import blocking
from tests.flows.test_stalls import stopped
from tests.support.checks import rows
from tests.support.databases import kinds
from tests.support.nodes import Nodes, at, let_in, nodes, path_of
from tests.support.server import PASSWORD, Client, log_in, new_token, sign_up
from tests.support.talk import Data, Talker, talking

# Several nodes are run on PostgreSQL, as a rule; the SQL of it has tests in tests/step_up.
database_kind = kinds("postgresql")
SECONDS = 4
"""That a proof counts: enough for what a test does with one, on a busy machine too."""
NEEDED = "step_up_needed"


@pytest.fixture(scope="module", params=["direct", pytest.param("tornado", marks=pytest.mark.slow)])
def both(request: pytest.FixtureRequest, database_kind: str) -> Iterator[Nodes]:
    settings: dict[str, object] = {
        "STEP_UP_SECONDS": SECONDS,
        "MESSAGE_RATE": 10_000,
        "HISTORY_MESSAGES": 50_000,
    }
    settings["WEBSOCKET"] = request.param
    with nodes(database_kind, 2, **settings) as pair:
        yield pair


def guarded_channel(owner: Client, *members: Client) -> str:
    """A new channel that asks for a step-up; returns its room."""
    answer = owner.post("/api/channels", {"name": "vault", "step_up": True})
    assert answer.status == 201, answer
    assert answer.body["step_up"] is True
    room = f"channel:{answer.body['id']}"
    for member in members:
        let_in(owner, room, member)
    return room


def forget_proof(client: Client) -> None:
    """The client's sign-in was long ago, and its token says so."""
    query = "UPDATE login_sessions SET auth_time = auth_time - 10000 WHERE user_id = ?"
    rows(client.server, query, client.user["id"])
    new_token(client)


def step_up(client: Client) -> None:
    answer = client.post("/api/auth/step-up", {"password": PASSWORD})
    assert answer.status == 200, answer
    client.token, client.refresh_token = answer.body["access_token"], answer.body["refresh_token"]


def proof_ends(client: Client) -> float:
    """When the proof of a client's token ends, epoch seconds; all of it runs on this machine."""
    claims = jwt.decode(str(client.token), options={"verify_signature": False})
    return float(claims["auth_time"]) + SECONDS


async def raised(talker: Talker) -> None:
    """The open socket is raised by a token of a new proof."""
    await blocking(step_up, talker.client)
    await talker.ok("token-refresh", {"token": talker.client.token})


async def fallen_back(talker: Talker, room: str) -> None:
    await talker.next("access-changed", lambda data: room not in data["rooms"])


async def told_in(talker: Talker, room: str) -> None:
    await talker.next("access-changed", lambda data: room in data["rooms"])


@pytest.mark.gen_test(timeout=90)
async def test_a_room_is_entered_with_a_fresh_proof_left_at_its_end_and_entered_again(
    both: Nodes,
) -> None:
    here, there = both
    ann, bob = sign_up(here), sign_up(here)
    room = guarded_channel(ann, bob)
    forget_proof(bob)
    async with talking(there, at(there, bob)) as talker:
        assert room not in talker.joined["rooms"]
        for event in ("join", "message", "typing", "presence", "history"):
            assert await talker.refused(event, {"room": room, "data": 1}) == NEEDED
        assert room not in (await talker.ok("join-channels"))["rooms"]
        (part,) = (await talker.ok("history", {"rooms": [{"room": room}]}))["rooms"]
        assert part["error"]["code"] == NEEDED
        await raised(talker)
        await told_in(talker, room)
        ends_at = proof_ends(talker.client)
        said = await talker.say(room, "with a proof")
        history = await talker.ok("history", {"room": room})
        assert [message["id"] for message in history["messages"]] == [said]
        assert room in (await talker.ok("join-channels"))["rooms"]
        await fallen_back(talker, room)
        assert time.time() >= ends_at - 0.01, "not before its end"
        for event in ("join", "message", "typing", "presence", "history"):
            assert await talker.refused(event, {"room": room, "data": 1}) == NEEDED
        await talker.settle()
        assert talker.is_open, "the socket itself goes on"
        await raised(talker)
        await told_in(talker, room)
        assert await talker.ok("join", {"room": room}) == {"room": room}
        await talker.hears(room, "with a proof")
        await talker.say(room, "again")
        await talker.hears(room, "again")


@pytest.mark.slow
@pytest.mark.gen_test(timeout=90)
async def test_a_sign_in_just_made_is_a_proof_and_a_ticket_carries_it(both: Nodes) -> None:
    here, _ = both
    ann = sign_up(here)
    room = guarded_channel(ann)
    fresh = log_in(here, ann.user["email"])
    async with talking(here, fresh) as talker:
        assert room in talker.joined["rooms"]
        await fallen_back(talker, room)
    forget_proof(ann)
    before = ann.ticket()
    step_up(ann)
    async with talking(here, ann) as talker:
        assert room in talker.joined["rooms"], "a ticket of after the step-up"
        await fallen_back(talker, room)
        assert await talker.ask("token-refresh", {"token": before})
        assert await talker.refused("join", {"room": room}) == NEEDED, "one of before it"


@pytest.mark.slow
@pytest.mark.gen_test(timeout=90)
async def test_no_old_and_no_other_sessions_token_raises_a_socket(both: Nodes) -> None:
    here, there = both
    ann = sign_up(here)
    room = guarded_channel(ann)
    other = log_in(there, ann.user["email"])
    forget_proof(ann)
    async with talking(here, ann) as talker:
        step_up(other)
        assert await talker.refused("token-refresh", {"token": other.token}) == "identity_mismatch"
        assert await talker.refused("join", {"room": room}) == NEEDED
        await raised(talker)
        stepped, ends_at = ann.token, proof_ends(ann)
        await told_in(talker, room)
        new_token(ann)
        assert proof_ends(ann) == ends_at, "a refresh renews no proof"
        await talker.ok("token-refresh", {"token": ann.token})
        await fallen_back(talker, room)
        for old in (stepped, ann.token):
            await talker.ok("token-refresh", {"token": old})
            assert await talker.refused("join", {"room": room}) == NEEDED
            assert await talker.refused("message", {"room": room, "data": 1}) == NEEDED


async def speak_on(speaker: Talker, room: str, until: float) -> int:
    """Say numbers in a room as fast as they are taken, past a moment. Returns how many were."""
    taken = 0
    while time.time() < until:
        asked = [speaker.asks("message", {"room": room, "data": taken + n}) for n in range(20)]
        replies = await asyncio.gather(*asked)
        taken += sum(reply["ok"] for reply in replies)
        await asyncio.sleep(0.005)
    return taken


@pytest.mark.gen_test(timeout=90)
async def test_no_message_after_the_end_is_received_or_sent(
    both: Nodes,
) -> None:
    here, there = both
    ann, bob, eve = sign_up(here), sign_up(here), sign_up(here)
    room = guarded_channel(ann, bob, eve)
    for each in (ann, bob, eve):
        forget_proof(each)
    async with (
        talking(here, ann) as speaker,
        talking(here, bob) as near,
        talking(there, at(there, eve)) as far,
    ):
        await raised(near)
        await raised(far)
        await asyncio.sleep(SECONDS / 2)
        await raised(speaker)  # in the room for longer than both
        ends = {near: proof_ends(near.client), far: proof_ends(far.client)}
        own_end = proof_ends(speaker.client)
        taken = await speak_on(speaker, room, own_end + 0.5)
        assert taken > 100, "enough to mean something"
        for listener, ends_at in ends.items():
            await fallen_back(listener, room)
            received = listener.messages(room)
            assert received, "it was in the room before"
            assert max(message["sent_at"] for message in received) < ends_at
            after = listener.events.index(last_told(listener)) + 1
            assert not [e for e in listener.events[after:] if e["event"] == "message"]
        # What the speaker said after the end of its own proof was not taken by anybody.
        await raised(speaker)
        kept = await everything(speaker, room)
        assert len(kept) == taken
        assert max(message["sent_at"] for message in kept) < own_end


def last_told(talker: Talker) -> Data:
    return [event for event in talker.events if event["event"] == "access-changed"][-1]


async def everything(talker: Talker, room: str) -> list[Data]:
    """The history of a room, page after page."""
    kept: list[Data] = []
    while True:
        after = kept[-1]["id"] if kept else None
        page = await talker.ok("history", {"room": room, "after": after})
        kept += page["messages"]
        if not page["more"]:
            return kept


@pytest.mark.slow
@pytest.mark.gen_test(timeout=90)
async def test_a_node_that_stood_still_over_the_end_lets_nothing_through(both: Nodes) -> None:
    here, there = both
    ann, bob = sign_up(here), sign_up(here)
    room = guarded_channel(ann, bob)
    forget_proof(bob)
    async with (
        talking(here, log_in(here, ann.user["email"])) as speaker,
        talking(there, at(there, bob)) as victim,
    ):
        await raised(victim)
        await told_in(victim, room)
        await raised(speaker)
        await speaker.say(room, "before")
        await victim.hears(room, "before")
        left = proof_ends(victim.client) - time.time()
        async with stopped(there, left + 0.5):
            await speaker.say(room, "while it stood still")
            asked = [victim.asks("message", {"room": room, "data": "late"}) for _ in range(5)]
            asked.append(victim.asks("history", {"room": room}))
            asked.append(victim.asks("presence", {"room": room}))
            await asyncio.sleep(0.1)  # until it lies with the stopped node
            await speaker.say(room, "and again")
        replies = await asyncio.gather(*asked)
        assert {reply["error"]["code"] for reply in replies} == {NEEDED}
        await fallen_back(victim, room)
        await victim.settle()
        assert victim.said(room) == ["before"]
        await raised(speaker)
        assert "late" not in [message["data"] for message in await everything(speaker, room)]


@pytest.mark.gen_test(timeout=90)
async def test_a_channel_requires_a_step_up_as_soon_as_it_is_set(both: Nodes) -> None:
    here, there = both
    ann, bob = sign_up(here), sign_up(here)
    room = guarded_channel(ann, bob)
    path = path_of(room)
    ann = log_in(here, ann.user["email"])
    assert ann.call("PATCH", path, {"step_up": False}).status == 200
    forget_proof(bob)
    async with talking(there, at(there, bob)) as talker:
        assert room in talker.joined["rooms"], "none is needed"
        step_up(ann)
        assert ann.call("PATCH", path, {"step_up": True}).body["step_up"] is True
        await fallen_back(talker, room)
        assert await talker.refused("join", {"room": room}) == NEEDED
        async with talking(there, at(there, bob)) as newcomer:
            assert room not in newcomer.joined["rooms"], "not by what a cache knows of before"
        forget_proof(ann)
        assert ann.call("PATCH", path, {"name": "vault 2"}).status == 200
        answer = ann.call("PATCH", path, {"step_up": False})
        assert (answer.status, answer.body["code"]) == (401, NEEDED), "nor does this go without"
        step_up(ann)
        assert ann.call("PATCH", path, {"step_up": False}).status == 200
        await told_in(talker, room)
        await talker.say(room, "open again")
