"""The user's own account on several nodes: name, export, and deletion."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.checks import plain_refusal, problem
from tests.support.databases import kinds, slow
from tests.support.nodes import Nodes, again, at, channel, nodes
from tests.support.provider import Provider, provider
from tests.support.redis import until
from tests.support.server import PASSWORD, Client, address, sign_up, usher
from tests.support.sign_in import settings_for
from tests.support.sign_in import sign_in as sign_in_there
from tests.support.talk import Talker, talking

database_kind = kinds("postgresql", slow("sqlite"))
ME, EXPORT = "/api/auth/me", "/api/auth/me/export"


@pytest.fixture(scope="module")
def op() -> Iterator[Provider]:
    with provider() as running:
        yield running


@pytest.fixture(scope="module")
def both(database_kind: str, op: Provider) -> Iterator[Nodes]:
    with nodes(database_kind, 2, **settings_for(op)) as running:
        sign_up(running[0])  # the administrator
        yield running


async def names(talker: Talker, room: str) -> set[str]:
    return {user["name"] for user in (await talker.ok("presence", {"room": room}))["users"]}


@pytest.mark.gen_test(timeout=60)
async def test_a_new_name_is_everywhere_at_once_and_messages_keep_the_old_one(both: Nodes) -> None:
    ann, bob = sign_up(both[0]), sign_up(both[1])
    room = channel(ann, bob)
    async with talking(both[0], ann) as a, talking(both[1], bob) as b:
        await a.sees(room, a.id, b.id)
        await a.say(room, 1)
        answer = await asyncio.to_thread(at(both[1], ann).call, "PATCH", ME, {"name": " Zoë "})
        assert (answer.status, answer.body["name"]) == (200, "Zoë")
        for _ in range(200):
            if "Zoë" in await names(b, room) and "Zoë" in await names(a, room):
                break
            await asyncio.sleep(0.05)
        assert await names(b, room) == {"Zoë", "Ada"}
        await a.say(room, 2)
        assert (await b.hears(room, 2))["from"]["name"] == "Zoë"
        reported = (await b.ok("history", {"room": room}))["messages"]
        assert [message["from"]["name"] for message in reported] == ["Ada", "Zoë"]
        async with talking(both[1], at(both[1], ann)) as other:
            assert (await other.ok("user-join", {"auth": {"token": ann.token}}))["user"][
                "name"
            ] == "Zoë"
    assert at(both[0], ann).get(ME).body["name"] == "Zoë"
    for bad in ("", " ", "x" * 101, "a\u202eb"):
        problem(ann.call("PATCH", ME, {"name": bad}), 400, "bad_request")
    problem(ann.call("PATCH", ME, {}), 400, "bad_request")


@pytest.mark.gen_test(timeout=60)
async def test_messages_of_a_deleted_account_stay_without_a_name(both: Nodes) -> None:
    email = address()
    ann, bob = sign_up(both[0]), sign_up(both[1], email=email)
    room = channel(ann, bob)
    second = again(both[0], email)
    async with (
        talking(both[0], ann) as a,
        talking(both[1], bob) as here,
        talking(both[0], second) as there,
    ):
        await here.say(room, "I was here")
        await a.say(room, "so was I")
        answer = await asyncio.to_thread(bob.call, "DELETE", ME)
        assert answer.status == 204, answer
        assert await here.code() == 4410
        assert await there.code() == 4410
        await a.sees(room, a.id)
        one = (await a.ok("history", {"room": room}))["messages"]
        (many,) = (await a.ok("history", {"rooms": [{"room": room}]}))["rooms"]
        for reported in (one, many["messages"]):
            assert reported[0]["from"] == {"id": bob.user["id"], "name": "", "gone": True}
            assert reported[1]["from"] == a.member
            assert [message["data"] for message in reported] == ["I was here", "so was I"]
    plain_refusal(bob.get(ME), 401, "unauthenticated")
    login = {"email": email, "password": PASSWORD}
    plain_refusal(Client(both[0]).post("/api/auth/login", login), 401, "unauthenticated")
    refresh = {"refresh_token": second.refresh_token}
    plain_refusal(Client(both[0]).post("/api/auth/refresh", refresh), 401, "unauthenticated")
    members = ann.get(f"/api/channels/{room.partition(':')[2]}").body["members"]
    assert bob.user["id"] not in repr(members)
    assert sign_up(both[0], email=email).user["id"] != bob.user["id"]


@pytest.mark.gen_test(timeout=60)
async def test_tokens_of_a_provider_are_given_back_when_a_user_leaves(
    both: Nodes, op: Provider
) -> None:
    op.user = {"sub": address(), "email": address(), "email_verified": True, "name": "Grace"}
    op.revoked.clear()
    grace = sign_in_there(both[0])
    answer = await asyncio.to_thread(
        grace.call, "DELETE", ME, None, {"Sec-Fetch-Site": "same-origin"}
    )
    assert answer.status == 204, answer
    assert "access_token" not in grace.cookies
    await until(lambda: bool(op.revoked))


def test_the_last_administrator_stays() -> None:
    with usher("sqlite") as server:
        admin = sign_up(server)
        plain_refusal(admin.call("DELETE", ME), 409, "last_admin")
        assert admin.get(ME).status == 200
        other = sign_up(server)
        path = f"/api/admin/users/{other.user['id']}"
        assert admin.call("PATCH", path, {"role": "admin"}).status == 200
        assert admin.call("DELETE", ME).status == 204


def test_an_export_has_their_own_data_and_no_secret(both: Nodes, op: Provider) -> None:
    ann, bob = sign_up(both[0]), sign_up(both[0])
    room = channel(ann, bob)
    answer = ann.get(EXPORT)
    assert answer.status == 200, answer
    assert answer.headers["Content-Disposition"] == 'attachment; filename="account.json"'
    assert answer.headers["Cache-Control"] == "no-store"
    body: dict[str, Any] = answer.body
    assert body["account"]["email"] == ann.user["email"]
    assert body["account"]["has_password"] is True
    assert [row["id"] for row in body["channels"]] == [room.partition(":")[2]]
    (session,) = body["login_sessions"]
    assert session["method"] == "password"
    text = answer.text.decode()
    for secret in (ann.token, ann.refresh_token, PASSWORD, bob.user["email"], "$argon2"):
        assert str(secret) not in text
    assert bob.get(EXPORT).body["memberships"][0]["channel_id"] == room.partition(":")[2]
    op.user = {"sub": address(), "email": address(), "email_verified": True, "name": "Grace"}
    linked = sign_in_there(both[0]).get(EXPORT).body["linked_accounts"]
    assert [row["subject"] for row in linked] == [op.user["sub"]]
    plain_refusal(Client(both[0]).get(EXPORT), 401, "unauthenticated")


def test_exports_have_an_hourly_limit_of_their_own(both: Nodes) -> None:
    ann = sign_up(both[0])
    statuses = [ann.get(EXPORT).status for _ in range(21)]
    assert statuses == [200] * 20 + [429]
