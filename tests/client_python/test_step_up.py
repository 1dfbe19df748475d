"""usher_client: a room that requires a step-up, against a real server."""

from __future__ import annotations

import asyncio

import pytest

from tests.account.test_step_up import age
from tests.support.server import PASSWORD, sign_up, usher
from usher_client import Refused, StepUpNeeded, Usher


@pytest.mark.gen_test(timeout=60)
async def test_a_step_up_raises_the_open_socket() -> None:
    with usher("sqlite") as server:
        person = sign_up(server)
        made = person.post("/api/channels", {"name": "vault", "step_up": True})
        room_name = f"channel:{made.body['id']}"
        async with Usher(server.url) as client:
            await client.sign_in(person.user["email"], PASSWORD)
            age(person)
            refresh_token = person.refresh_token
            assert refresh_token is not None
            await client.resume(refresh_token)
            await client.connect()
            room = client.room(room_name)
            with pytest.raises(StepUpNeeded):
                await room.send("too early")
            path = f"/api/channels/{made.body['id']}"
            with pytest.raises(StepUpNeeded) as needed:
                await client.call("PATCH", path, {"step_up": False})
            assert needed.value.methods == ("password",)
            with pytest.raises(Refused) as wrong:
                await client.step_up(password="no such heron 9")
            assert wrong.value.code == "wrong_password"
            await client.step_up(password=PASSWORD)
            assert await asyncio.wait_for(room.send("now"), 10)
