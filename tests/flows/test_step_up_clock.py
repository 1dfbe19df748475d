"""Step-up on a real server whose wall clock is set back while it is stopped."""

from __future__ import annotations

import signal

import pytest

from tests.support.checks import problem
from tests.support.databases import kinds, slow
from tests.support.nodes import let_in
from tests.support.redis import forget_clock, off_by
from tests.support.server import PASSWORD, Client, Usher, log_in, new_token, sign_up, usher
from tests.support.talk import talking

# What is stored of the clock has its tests in tests/step_up, on both.
database_kind = kinds("sqlite", slow("postgresql"))
AHEAD, NEEDED = "+1h", "step_up_needed"
HOW = pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])


def restart(server: Usher, clock: str, how: signal.Signals) -> None:
    """Start it again with a wall clock that is off by so much ("": right)."""
    pid = server.process.pid
    for name in off_by("+0"):
        server.environment.pop(name, None)
    server.environment |= off_by(clock) if clock else {}
    server.restart(how)
    forget_clock(pid)


def asks_for_a_proof(client: Client) -> bool:
    """Whether an act that matters asks the user to prove again who they are."""
    answer = client.post("/api/auth/passkeys/options")
    if answer.status == 401:
        problem(answer, 401, NEEDED)
        return True
    assert answer.status == 200, answer.text
    return False


def step_up(client: Client) -> None:
    answer = client.post("/api/auth/step-up", {"password": PASSWORD})
    assert answer.status == 200, answer.text
    client.token, client.refresh_token = answer.body["access_token"], answer.body["refresh_token"]


@pytest.mark.slow
@pytest.mark.gen_test(timeout=120)
@HOW
async def test_a_clock_that_is_set_back_an_hour_makes_no_old_proof_fresh(
    database_kind: str, how: signal.Signals
) -> None:
    with usher(database_kind, STEP_UP_SECONDS=900) as server:
        owner, ada = sign_up(server), sign_up(server)
        made = owner.post("/api/channels", {"name": "vault", "step_up": True})
        room = f"channel:{made.body['id']}"
        let_in(owner, room, ada)
        assert not asks_for_a_proof(ada), "just signed in"
        restart(server, AHEAD, how)
        new_token(ada)
        assert asks_for_a_proof(ada), "signed in an hour ago"
        restart(server, "", how)
        new_token(ada)
        assert asks_for_a_proof(ada), "the same proof, though the clock is back at its time"
        async with talking(server, ada) as talker:
            assert room not in talker.joined["rooms"]
            assert await talker.refused("message", {"room": room, "data": 1}) == NEEDED
            step_up(ada)
            assert not asks_for_a_proof(ada), "a new proof counts"
            await talker.ok("token-refresh", {"token": ada.token})
            await talker.next("access-changed", lambda data: room in data["rooms"])
            await talker.say(room, "with a proof")
        assert not asks_for_a_proof(log_in(server, ada.user["email"]))
