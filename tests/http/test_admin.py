"""What administrators may do to accounts, over HTTP and with sockets open."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.checks import plain_refusal, problem
from tests.support.server import (
    PASSWORD,
    Answer,
    Client,
    Usher,
    address,
    ask,
    bearer,
    close_code,
    connect,
    event,
    log_in,
    new_token,
    sign_up,
    usher,
)


@pytest.fixture(scope="module")
def installation(database_kind: str) -> Iterator[tuple[Usher, Client]]:
    """An Usher and its first administrator."""
    with usher(database_kind) as server:
        yield server, sign_up(server)


@pytest.fixture
def fresh(database_kind: str) -> Iterator[tuple[Usher, Client]]:
    """The same for one test alone, where it matters who else is there."""
    with usher(database_kind) as server:
        yield server, sign_up(server)


Installation = tuple[Usher, Client]


def change(admin: Client, user: Client, **what: Any) -> Answer:
    return admin.call("PATCH", f"/api/admin/users/{user.user['id']}", what)


# ---- who may --------------------------------------------------------------------------------

CALLS = [
    ("GET", "/api/admin/users", None),
    ("PATCH", "/api/admin/users/{id}", {"role": "admin"}),
    ("DELETE", "/api/admin/users/{id}", None),
    ("POST", "/api/admin/users/{id}/disconnect", None),
]


@pytest.mark.parametrize(("method", "path", "body"), CALLS)
def test_only_administrators_may(
    installation: Installation, method: str, path: str, body: Any
) -> None:
    server, _ = installation
    user = sign_up(server)
    path = path.format(id=user.user["id"])
    plain_refusal(user.call(method, path, body), 403, "forbidden")
    plain_refusal(Client(server).call(method, path, body), 401, "unauthenticated")
    assert user.get("/api/auth/me").body["role"] == "user"


@pytest.mark.parametrize(("method", "path", "body"), CALLS[1:])
def test_an_unknown_account_is_not_found(
    installation: Installation, method: str, path: str, body: Any
) -> None:
    _, admin = installation
    plain_refusal(admin.call(method, path.format(id="nobody"), body), 404, "not_found")


# ---- the list -------------------------------------------------------------------------------


def test_the_list_shows_accounts_and_no_hash(installation: Installation) -> None:
    server, admin = installation
    user = sign_up(server)
    answer = admin.get("/api/admin/users?limit=100")
    assert answer.status == 200
    assert answer.headers["Cache-Control"] == "no-store"
    (row,) = [item for item in answer.body["items"] if item["id"] == user.user["id"]]
    created_at = row.pop("created_at")
    assert isinstance(created_at, float)
    assert row == user.user | {"disabled": False}
    assert b"argon2" not in answer.text


def test_the_list_comes_in_pages(fresh: Installation) -> None:
    server, admin = fresh
    everybody = {admin.user["id"]} | {sign_up(server).user["id"] for _ in range(6)}
    for limit, sizes in ((3, [3, 3, 1]), (7, [7]), (1, [1] * 7), (100, [7])):
        seen: list[list[str]] = []
        query = f"?limit={limit}"
        while True:
            body = admin.get(f"/api/admin/users{query}").body
            seen.append([item["id"] for item in body["items"]])
            if "next" not in body:
                break
            query = f"?limit={limit}&after={body['next']}"
        assert [len(page) for page in seen] == sizes
        ids = [user_id for page in seen for user_id in page]
        assert len(ids) == len(set(ids))
        assert set(ids) == everybody


def test_accounts_are_named_by_their_ids_and_those_that_are_gone_are_left_out(
    installation: Installation,
) -> None:
    server, admin = installation
    ada, ben = sign_up(server), sign_up(server)
    ids = [ada.user["id"], "of-nobody", ben.user["id"]]
    found = admin.get("/api/admin/users?" + "&".join(f"id={one}" for one in ids)).body["items"]
    assert {row["id"]: row["email"] for row in found} == {
        one.user["id"]: one.user["email"] for one in (ada, ben)
    }
    for query in ("id=", "id=a%20b", "&".join(f"id=x{n}" for n in range(101))):
        problem(admin.get(f"/api/admin/users?{query}"), 400, "bad_request")
    plain_refusal(ada.get(f"/api/admin/users?id={ids[0]}"), 403, "forbidden")


def test_a_page_beyond_the_last_is_empty(installation: Installation) -> None:
    _, admin = installation
    assert admin.get("/api/admin/users?after=zzzzzzzzzzzzzzzzzzzzzz").body == {"items": []}


@pytest.mark.parametrize("limit", ["0", "-1", "x", "", "1.5", "1e3", "9999999", "%D9%A3%"])
def test_a_page_needs_a_size(installation: Installation, limit: str) -> None:
    _, admin = installation
    problem(admin.get(f"/api/admin/users?limit={limit}"), 400, "bad_request")


def test_a_page_has_at_most_a_hundred(installation: Installation) -> None:
    _, admin = installation
    assert admin.get("/api/admin/users?limit=1000").status == 200


# ---- roles ----------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_change_of_role_ends_tokens_of_the_old_role_until_refreshed(
    installation: Installation,
) -> None:
    server, admin = installation
    user, bystander = sign_up(server), sign_up(server)
    async with (
        connect(server, subprotocols=bearer(user.token)) as by_token,
        connect(server, f"?ticket={user.ticket()}") as by_ticket,
        connect(server, subprotocols=bearer(bystander.token)) as other,
    ):
        for socket in (by_token, by_ticket, other):
            await event(socket, "joined")
        answer = change(admin, user, role="admin")
        assert answer.status == 200
        assert answer.body["role"] == "admin"
        assert await close_code(by_token) == 4419
        assert await close_code(by_ticket) == 4419
        assert (await ask(other, "heartbeat"))["ok"]
    assert user.get("/api/auth/me").status == 401
    assert user.get("/api/admin/users").status == 401
    async with connect(server, subprotocols=bearer(new_token(user))) as socket:
        assert (await event(socket, "joined"))["user"]["role"] == "admin"
        assert user.get("/api/auth/me").body["role"] == "admin"
        assert user.get("/api/admin/users").status == 200
        # And back: what the token said a moment ago is worth nothing now.
        assert change(admin, user, role="user").status == 200
        assert await close_code(socket) == 4419
    assert user.get("/api/admin/users").status == 401
    new_token(user)
    plain_refusal(user.get("/api/admin/users"), 403, "forbidden")


@pytest.mark.gen_test
async def test_a_ticket_of_the_old_role_opens_nothing(installation: Installation) -> None:
    server, admin = installation
    user = sign_up(server)
    ticket = user.ticket()
    assert change(admin, user, role="admin").status == 200
    async with connect(server, f"?ticket={ticket}") as socket:
        assert await close_code(socket) in (4401, 4419)


@pytest.mark.gen_test
async def test_the_role_that_a_user_has_already_changes_nothing(
    installation: Installation,
) -> None:
    server, admin = installation
    user = sign_up(server)
    async with connect(server, subprotocols=bearer(user.token)) as socket:
        await event(socket, "joined")
        assert change(admin, user, role="user").status == 200
        assert (await ask(socket, "heartbeat"))["ok"]
    assert user.get("/api/auth/me").status == 200


@pytest.mark.parametrize(
    "body",
    [{}, {"role": "king"}, {"role": None}, {"disabled": "yes"}, {"disabled": None}, {"name": "x"}],
    ids=str,
)
def test_a_change_that_is_invalid_is_a_bad_request(
    installation: Installation, body: dict[str, Any]
) -> None:
    server, admin = installation
    user = sign_up(server)
    problem(change(admin, user, **body), 400, "bad_request")
    assert user.get("/api/auth/me").status == 200


# ---- disabling ------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_disabling_closes_every_socket_and_session_and_refuses_sign_ins(
    installation: Installation,
) -> None:
    server, admin = installation
    email = address()
    user = sign_up(server, email=email)
    other, bystander = log_in(server, email), sign_up(server)
    ticket = user.ticket()
    async with (
        connect(server, subprotocols=bearer(user.token)) as first,
        connect(server, subprotocols=bearer(other.token)) as second,
        connect(server, subprotocols=bearer(bystander.token)) as third,
    ):
        for socket in (first, second, third):
            await event(socket, "joined")
        answer = change(admin, user, disabled=True)
        assert answer.body["disabled"] is True
        assert await close_code(first) == 4410
        assert await close_code(second) == 4410
        assert (await ask(third, "heartbeat"))["ok"]
    for client in (user, other):
        plain_refusal(client.get("/api/auth/me"), 401, "unauthenticated")
        body = {"refresh_token": client.refresh_token}
        plain_refusal(Client(server).post("/api/auth/refresh", body), 401, "unauthenticated")
    body = {"email": email, "password": PASSWORD}
    plain_refusal(Client(server).post("/api/auth/login", body), 401, "unauthenticated")
    async with connect(server, f"?ticket={ticket}") as socket:
        assert await close_code(socket) == 4401
    # Enabled again, the account is there; its old sessions are not.
    assert change(admin, user, disabled=False).body["disabled"] is False
    assert log_in(server, email).get("/api/auth/me").status == 200
    plain_refusal(user.get("/api/auth/me"), 401, "unauthenticated")


# ---- deleting -------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_deleting_cuts_every_socket_and_frees_the_address(installation: Installation) -> None:
    server, admin = installation
    email = address()
    user = sign_up(server, email=email)
    path = f"/api/admin/users/{user.user['id']}"
    async with connect(server, subprotocols=bearer(user.token)) as socket:
        await event(socket, "joined")
        answer = admin.call("DELETE", path)
        assert (answer.status, answer.text) == (204, b"")
        assert await close_code(socket) == 4410
    plain_refusal(user.get("/api/auth/me"), 401, "unauthenticated")
    body = {"refresh_token": user.refresh_token}
    plain_refusal(Client(server).post("/api/auth/refresh", body), 401, "unauthenticated")
    plain_refusal(admin.call("DELETE", path), 404, "not_found")
    again = sign_up(server, email=email)
    assert again.user["id"] != user.user["id"]
    plain_refusal(user.get("/api/auth/me"), 401, "unauthenticated")


# ---- disconnecting --------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_disconnecting_signs_out_everywhere_but_lets_sign_in_again(
    installation: Installation,
) -> None:
    server, admin = installation
    email = address()
    user = sign_up(server, email=email)
    other, bystander = log_in(server, email), sign_up(server)
    async with (
        connect(server, subprotocols=bearer(user.token)) as first,
        connect(server, subprotocols=bearer(other.token)) as second,
        connect(server, subprotocols=bearer(bystander.token)) as third,
    ):
        for socket in (first, second, third):
            await event(socket, "joined")
        answer = admin.call("POST", f"/api/admin/users/{user.user['id']}/disconnect")
        assert (answer.status, answer.text) == (204, b"")
        assert await close_code(first) == 4410
        assert await close_code(second) == 4410
        assert (await ask(third, "heartbeat"))["ok"]
    for client in (user, other):
        plain_refusal(client.get("/api/auth/me"), 401, "unauthenticated")
    assert log_in(server, email).get("/api/auth/me").status == 200


# ---- the last administrator -----------------------------------------------------------------


def test_the_last_administrator_has_to_stay(fresh: Installation) -> None:
    server, admin = fresh
    sign_up(server)
    plain_refusal(change(admin, admin, role="user"), 409, "last_admin")
    plain_refusal(change(admin, admin, disabled=True), 409, "last_admin")
    delete = admin.call("DELETE", f"/api/admin/users/{admin.user['id']}")
    plain_refusal(delete, 409, "last_admin")
    assert admin.get("/api/auth/me").body["role"] == "admin"


def test_a_disabled_administrator_does_not_count_as_one(fresh: Installation) -> None:
    server, admin = fresh
    second = sign_up(server)
    assert change(admin, second, role="admin").status == 200
    assert change(admin, second, disabled=True).status == 200
    plain_refusal(change(admin, admin, role="user"), 409, "last_admin")


def test_an_administrator_may_go_while_another_stays(fresh: Installation) -> None:
    server, admin = fresh
    second = sign_up(server)
    assert change(admin, second, role="admin").status == 200
    new_token(second)
    assert change(admin, admin, role="user").status == 200
    assert admin.get("/api/admin/users").status == 401
    assert second.get("/api/admin/users").status == 200


def test_two_administrators_who_demote_each_other_leave_one(fresh: Installation) -> None:
    server, first = fresh
    second = sign_up(server)
    assert change(first, second, role="admin").status == 200
    new_token(second)
    with ThreadPoolExecutor(2) as pool:
        jobs = [
            pool.submit(change, first, second, role="user"),
            pool.submit(change, second, first, role="user"),
        ]
        statuses = sorted(job.result().status for job in jobs)
    assert statuses[0] == 200
    assert statuses[1] in (401, 403, 409)  # cut off meanwhile, or refused
    for client in (first, second):
        new_token(client)
    roles = sorted(client.get("/api/auth/me").body["role"] for client in (first, second))
    assert roles == ["admin", "user"]


def test_a_page_after_what_is_no_id_is_refused(database_kind: str) -> None:
    with usher(database_kind) as fresh:
        admin = sign_up(fresh)
        for after in ("x%27", "%C3%A9", "a" * 65):
            assert admin.get(f"/api/admin/users?after={after}").status == 400


def test_a_key_that_may_read_lists_accounts_and_does_no_more(database_kind: str) -> None:
    with usher(database_kind) as fresh:
        admin = sign_up(fresh)
        made = admin.post("/api/admin/api-keys", {"name": "reader", "scopes": ["read"]})
        backend = Client(fresh, token=made.body["key"])
        listed = backend.get("/api/admin/users")
        assert [row["id"] for row in listed.body["items"]] == [admin.user["id"]]
        user = f"/api/admin/users/{admin.user['id']}"
        assert backend.call("PATCH", user, {"disabled": True}).status == 403
        assert backend.post(f"{user}/disconnect").status == 403
