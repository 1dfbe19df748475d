"""The audit trail of a running server: who did what, to whom, from where, and why."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from handlers.base import SAFE_METHODS
from handlers.routes import API_ROUTES
from tests.support.checks import holding, plain_refusal
from tests.support.server import (
    PASSWORD,
    Client,
    Usher,
    address,
    bearer,
    close_code,
    connect,
    event,
    log_in,
    sign_up,
    usher,
    wait_until,
)


@pytest.fixture(scope="module")
def installation(database_kind: str) -> Iterator[tuple[Usher, Client]]:
    with usher(database_kind, LOG_FORMAT="json") as server:
        yield server, sign_up(server)


def entries(admin: Client, query: str = "") -> list[dict[str, Any]]:
    answer = admin.get(f"/api/admin/audit?limit=200{query}")
    assert answer.status == 200, answer
    return list(answer.body["items"])


def entry(admin: Client, query: str, **wanted: object) -> dict[str, Any]:
    """The newest entry with these members, once it is written."""
    found: list[dict[str, Any]] = []

    def is_there() -> bool:
        found[:] = [
            e for e in entries(admin, query) if all(e[name] == v for name, v in wanted.items())
        ]
        return bool(found)

    wait_until(is_there)
    return found[0]


def lines(server: Usher, kind: str) -> list[dict[str, Any]]:
    logged = [json.loads(line) for line in server.output if line.startswith("{")]
    return [line for line in logged if line.get("kind") == kind]


def test_a_sign_in_and_its_end_are_recorded_with_user_address_and_reason(
    installation: tuple[Usher, Client],
) -> None:
    server, admin = installation
    client = sign_up(server)
    user_id = client.user["id"]
    made = entry(admin, f"&subject={user_id}", kind="account.created")
    opened = entry(admin, f"&subject={user_id}", kind="session.opened")
    assert opened["actor"] == user_id
    assert (opened["address"], opened["reason"]) == ("127.0.0.1", "password")
    assert made["address"] == "127.0.0.1"
    assert client.post("/api/auth/logout").status == 204
    ended = entry(admin, f"&subject={user_id}", kind="session.ended")
    assert (ended["session"], ended["reason"]) == (opened["session"], "logout")
    assert (ended["actor"], ended["address"]) == (user_id, "127.0.0.1")


def test_a_refused_sign_in_is_kept(installation: tuple[Usher, Client]) -> None:
    server, admin = installation
    body = {"email": address(), "password": PASSWORD}
    assert Client(server).post("/api/auth/login", body).status == 401
    refused = entry(admin, "&kind=session.refused", reason="unauthenticated")
    assert refused["address"] == "127.0.0.1"
    assert refused["actor"] == refused["subject"] == ""
    wrong = {"email": admin.user["email"], "password": "wrong"}
    assert Client(server).post("/api/auth/login", wrong).status == 401
    assert entry(admin, f"&kind=session.refused&subject={admin.user['id']}")["actor"] == ""


def test_what_an_administrator_does_is_kept_with_the_administrator(
    installation: tuple[Usher, Client],
) -> None:
    server, admin = installation
    user, me = sign_up(server), admin.user["id"]
    user_id = user.user["id"]
    path = f"/api/admin/users/{user_id}"
    assert admin.call("PATCH", path, {"role": "admin"}).status == 200
    assert admin.call("PATCH", path, {"disabled": True}).status == 200
    assert admin.call("DELETE", path).status == 204
    for kind in ("user.changed", "role.changed", "user.deleted"):
        found = entry(admin, f"&subject={user_id}&kind={kind}")
        assert (found["actor"], found["address"]) == (me, "127.0.0.1"), kind
    reasons = {e["reason"] for e in entries(admin, f"&subject={user_id}&kind=sessions.")}
    assert "disabled" in reasons


def test_keys_and_what_they_do_are_kept_by_their_id(installation: tuple[Usher, Client]) -> None:
    server, admin = installation
    made = admin.post("/api/admin/api-keys", {"name": "x", "scopes": ["disconnect"]})
    assert made.status == 201
    assert entry(admin, "&kind=api_key.created")["target"] == made.body["id"]
    user = sign_up(server)
    key = Client(server, token=made.body["key"])
    assert key.post(f"/api/admin/users/{user.user['id']}/disconnect").status == 204
    found = entry(admin, f"&subject={user.user['id']}&kind=user.signed_out")
    assert found["actor"] == f"key:{made.body['id']}"
    assert entries(admin, f"&actor=key:{made.body['id']}")


def test_rights_that_are_given_and_taken_are_kept(installation: tuple[Usher, Client]) -> None:
    server, admin = installation
    owner, guest = sign_up(server), sign_up(server)
    channel = owner.post("/api/channels", {"name": "x"}).body["id"]
    seat = f"/api/channels/{channel}/members/{guest.user['id']}"
    assert owner.call("PUT", seat, {"right": "read"}).status == 200
    assert owner.call("DELETE", seat).status == 204
    for kind in ("member.set", "member.removed"):
        found = entry(admin, f"&subject={guest.user['id']}&kind={kind}")
        assert (found["actor"], found["target"]) == (owner.user["id"], channel)


def test_who_is_added_by_address_is_the_subject_and_the_channel_the_target(
    installation: tuple[Usher, Client],
) -> None:
    server, admin = installation
    owner, guest = sign_up(server), sign_up(server)
    channel = owner.post("/api/channels", {"name": "x"}).body["id"]
    by_address = owner.post(f"/api/channels/{channel}/members", {"email": guest.user["email"]})
    found = entry(admin, f"&actor={owner.user['id']}&kind=member.", target=channel)
    assert found["subject"] == (by_address.body or {}).get("id", "")


@pytest.mark.gen_test
async def test_joins_and_closes_are_lines_and_no_rows(installation: tuple[Usher, Client]) -> None:
    server, admin = installation
    client = sign_up(server)
    user_id = client.user["id"]
    async with connect(server, subprotocols=bearer(client.token)) as socket:
        joined = await event(socket, "joined")
        assert admin.post(f"/api/admin/users/{user_id}/disconnect").status == 204
        assert await close_code(socket) == 4410
    async with connect(server, subprotocols=bearer(client.token)) as socket:
        assert await close_code(socket) == 4401
    wait_until(
        lambda: any(line.get("subject") == user_id for line in lines(server, "socket.closed"))
    )
    (came,) = [e for e in lines(server, "socket.joined") if e["subject"] == user_id]
    (went,) = [e for e in lines(server, "socket.closed") if e["subject"] == user_id]
    assert came["target"] == went["target"] == joined["session_id"]
    assert (came["address"], went["reason"]) == ("127.0.0.1", "4410")
    assert came["session"] == went["session"]
    wait_until(lambda: bool(lines(server, "socket.refused")))
    assert entries(admin, "&kind=socket.") == []


def test_it_is_for_administrators_alone(installation: tuple[Usher, Client]) -> None:
    server, _ = installation
    plain_refusal(Client(server).get("/api/admin/audit"), 401, "unauthenticated")
    plain_refusal(sign_up(server).get("/api/admin/audit"), 403, "forbidden")


@pytest.mark.parametrize(
    "query",
    [
        "after=x",
        "after=-1",
        "after=0",
        "limit=0",
        "kind=%3C",
        "actor=a%2Fb",
        "subject='",
        "after=1e9",
    ],
)
def test_the_error_for_an_invalid_query_names_the_member(
    installation: tuple[Usher, Client], query: str
) -> None:
    answer = installation[1].get(f"/api/admin/audit?{query}")
    assert (answer.status, answer.body["code"]) == (400, "bad_request")
    assert answer.body["detail"].startswith(query.partition("=")[0])


def test_pages_follow_each_other(installation: tuple[Usher, Client]) -> None:
    server, admin = installation
    for _ in range(3):
        sign_up(server)
    wait_until(lambda: len(entries(admin, "&kind=account.created")) >= 3)
    first = admin.get("/api/admin/audit?kind=account.created&limit=2").body
    second = admin.get(f"/api/admin/audit?kind=account.created&limit=2&after={first['next']}").body
    ids = [e["id"] for e in (*first["items"], *second["items"])]
    assert ids == sorted(ids, reverse=True)
    assert len(set(ids)) == len(ids) > 2


def test_no_secret_and_no_address_is_kept(installation: tuple[Usher, Client]) -> None:
    server, admin = installation
    email = address()
    client = sign_up(server, email=email)
    log_in(server, email)
    words = [email, PASSWORD, str(client.token), str(client.refresh_token), client.ticket()]
    Client(server).post("/api/auth/login", {"email": email, "password": "wrong"})
    Client(server).call("GET", f"/api/channels/{client.refresh_token}", None, {})
    entry(admin, "&kind=session.refused")
    assert holding(words, json.dumps(entries(admin))) == []
    assert holding(words, server.log) == []


def test_every_administrators_act_is_kept() -> None:
    for path, handler in API_ROUTES:
        for method in ("post", "put", "patch", "delete"):
            operation = getattr(getattr(handler, method), "operation", None)
            if operation is not None and path.startswith("/api/admin/"):
                assert operation.audit or operation.access == "admin", (path, method)
    assert "GET" in SAFE_METHODS
