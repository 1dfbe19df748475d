"""The calls for channels over HTTP, line by line as the contract has them."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.support.checks import plain_refusal, problem, rows
from tests.support.server import Answer, Client, Usher, sign_up, usher

ITEM = {"id", "name", "private", "owner_id", "right", "created_at", "step_up"}
MANAGED = ITEM | {"members", "roles"}
NOWHERE = "AAAAAAAAAAAAAAAAAAAAAA"


def user(server: Usher, *, browser: bool = False) -> Client:
    """Somebody new who is no administrator: the very first account of a server is one."""
    client = sign_up(server, browser=browser)
    return client if client.user["role"] == "user" else sign_up(server, browser=browser)


def opened(client: Client, name: str = "Herons", **more: object) -> str:
    """A channel of this client; returns its path."""
    answer = client.post("/api/channels", {"name": name, **more})
    assert answer.status == 201, answer
    return f"/api/channels/{answer.body['id']}"


def let_in(manager: Client, path: str, member: Client, right: str | None = None) -> Answer:
    body = None if right is None else {"right": right}
    return manager.call("PUT", member_path(path, member), body)


def member_path(path: str, member: Client) -> str:
    return f"{path}/members/{member.user['id']}"


def listed(client: Client, query: str = "") -> list[dict[str, Any]]:
    answer = client.get("/api/channels" + query)
    assert answer.status == 200, answer
    items: list[dict[str, Any]] = answer.body["items"]
    return items


def test_a_channel_is_opened_private_and_managed_by_its_owner(server: Usher) -> None:
    owner, began = user(server), time.time()
    answer = owner.post("/api/channels", {"name": "  Herons "})
    assert answer.status == 201
    assert answer.headers["Content-Type"] == "application/json"
    item = answer.body
    assert set(item) == ITEM
    assert (item["name"], item["private"], item["right"]) == ("Herons", True, "manage")
    assert item["owner_id"] == owner.user["id"]
    assert began - 1 < item["created_at"] < time.time() + 1
    assert listed(owner) == [item]
    assert owner.get(f"/api/channels/{item['id']}").body == item | {"members": [], "roles": {}}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, None),
        ({"name": None}, None),
        ({"name": 5}, None),
        ({"name": "x", "private": "no"}, None),
        ({"name": ""}, "name"),
        ({"name": "  "}, "name"),
        ({"name": "x" * 81}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "a\u0000b"}, "name"),
    ],
)
def test_a_channel_that_cannot_be_opened_is_refused(
    server: Usher, body: dict[str, object], field: str | None
) -> None:
    owner = user(server)
    refusal = problem(owner.post("/api/channels", body), 400, "bad_request")
    assert refusal.get("field") == field
    assert "name" in refusal["detail"] or "private" in refusal["detail"]
    assert listed(owner) == []


def test_the_list_is_paged_newest_first(server: Usher) -> None:
    owner, member = user(server), user(server)
    paths = [opened(owner, f"Channel {number}") for number in range(5)]
    for path in paths:
        let_in(owner, path, member, "read")
    seen: list[dict[str, Any]] = []
    query = "?limit=2"
    for size in (2, 2, 1):
        answer = member.get("/api/channels" + query)
        assert set(answer.body) == ({"items", "next"} if size == 2 else {"items"})
        assert len(answer.body["items"]) == size
        seen += answer.body["items"]
        query = f"?limit=2&after={answer.body.get('next')}"
    assert [f"/api/channels/{item['id']}" for item in seen] == paths[::-1]
    assert all(set(item) == ITEM and item["right"] == "read" for item in seen)


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "limit=-1", "after=x", "after=1.0~"])
def test_a_page_that_there_is_not_is_refused(server: Usher, query: str) -> None:
    problem(user(server).get(f"/api/channels?{query}"), 400, "bad_request")


def test_readers_see_the_channel_and_managers_see_the_members(server: Usher) -> None:
    owner, reader, manager = user(server), user(server), user(server)
    path, began = opened(owner), time.time()
    let_in(owner, path, reader, "read")
    let_in(owner, path, manager, "manage")
    seen = reader.get(path).body
    assert set(seen) == ITEM
    assert seen["right"] == "read"
    details = manager.get(path).body
    assert set(details) == MANAGED
    assert details["right"] == "manage"
    assert details["owner_id"] == owner.user["id"]
    members = {member["id"]: member for member in details["members"]}
    assert set(members) == {reader.user["id"], manager.user["id"]}
    of_reader = members[reader.user["id"]]
    assert set(of_reader) == {"id", "name", "right", "since"}
    assert (of_reader["name"], of_reader["right"]) == ("Ada", "read")
    assert began - 1 < of_reader["since"] < time.time() + 1


@pytest.mark.parametrize("right", ["read", "write", "manage", None])
def test_a_member_gets_the_right_named_or_may_write(server: Usher, right: str | None) -> None:
    owner, member = user(server), user(server)
    path = opened(owner)
    answer = let_in(owner, path, member, right)
    assert answer.status == 200
    assert set(answer.body) == {"id", "name", "right", "since"}
    assert answer.body["id"] == member.user["id"]
    assert answer.body["right"] == member.get(path).body["right"] == (right or "write")


@pytest.mark.parametrize("body", [b"{", b"[]", {"right": "own"}, {"right": 2}, {"right": None}])
def test_a_right_that_there_is_not_is_refused(server: Usher, body: object) -> None:
    owner, member = user(server), user(server)
    path = opened(owner)
    problem(owner.call("PUT", member_path(path, member), body), 400, "bad_request")
    plain_refusal(member.get(path), 404, "not_found")


def test_a_change_of_right_keeps_since_and_a_new_beginning_does_not(server: Usher) -> None:
    owner, member = user(server), user(server)
    path = opened(owner)
    first = let_in(owner, path, member, "read").body["since"]
    assert let_in(owner, path, member, "manage").body["since"] == first
    assert owner.call("DELETE", member_path(path, member)).status == 204
    assert let_in(owner, path, member, "read").body["since"] > first


def test_a_member_is_removed_or_leaves(server: Usher) -> None:
    owner, one, two = user(server), user(server), user(server)
    path = opened(owner)
    let_in(owner, path, one, "read")
    let_in(owner, path, two, "read")
    plain_refusal(one.call("DELETE", member_path(path, two)), 403, "forbidden")
    for caller, gone in ((one, one), (owner, two)):
        answer = caller.call("DELETE", member_path(path, gone))
        assert (answer.status, answer.text) == (204, b"")
        plain_refusal(gone.get(path), 404, "not_found")
        assert listed(gone) == []
    plain_refusal(owner.call("DELETE", member_path(path, two)), 404, "not_found")


def test_the_owner_stays(server: Usher) -> None:
    owner, manager = user(server), user(server)
    path = opened(owner)
    let_in(owner, path, manager, "manage")
    for caller in (owner, manager):
        plain_refusal(caller.call("DELETE", member_path(path, owner)), 409, "owner_stays")
        plain_refusal(let_in(caller, path, owner, "read"), 409, "owner_stays")


def test_an_unknown_user_cannot_be_added(server: Usher) -> None:
    owner = user(server)
    path = opened(owner)
    plain_refusal(owner.call("PUT", f"{path}/members/{NOWHERE}"), 404, "not_found")


def test_a_manager_changes_name_roles_and_openness(server: Usher) -> None:
    owner, manager, other = user(server), user(server), user(server)
    path = opened(owner)
    let_in(owner, path, manager, "manage")
    answer = manager.call("PATCH", path, {"name": " Egrets "})
    assert answer.status == 200
    assert set(answer.body) == MANAGED
    assert answer.body["name"] == owner.get(path).body["name"] == "Egrets"
    plain_refusal(other.get(path), 404, "not_found")
    manager.call("PATCH", path, {"roles": {"user": "read"}})
    assert other.get(path).body["right"] == "read"
    assert owner.get(path).body["roles"] == {"user": "read"}
    manager.call("PATCH", path, {"private": False})
    assert other.get(path).body["right"] == "write"
    assert other.get(path).body["private"] is False
    answer = manager.call("PATCH", path, {"private": True, "roles": {}})
    assert (answer.body["private"], answer.body["roles"]) == (True, {})
    plain_refusal(other.get(path), 404, "not_found")
    assert answer.body["name"] == "Egrets"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"colour": "grey"},
        {"name": ""},
        {"name": None},
        {"private": 1},
        {"roles": ["user"]},
        {"roles": {"root": "read"}},
        {"roles": {"user": "own"}},
    ],
)
def test_a_change_that_cannot_be_made_is_refused(server: Usher, body: object) -> None:
    owner = user(server)
    path = opened(owner)
    before = owner.get(path).body
    problem(owner.call("PATCH", path, body), 400, "bad_request")
    assert owner.get(path).body == before


def test_a_public_channel_is_listed_for_everybody_and_managed_by_few(server: Usher) -> None:
    owner, other = user(server), user(server)
    path = opened(owner, private=False)
    item = other.get(path).body
    assert set(item) == ITEM
    assert (item["private"], item["right"]) == (False, "write")
    assert item in listed(other, "?limit=100")
    for answer in calls_of_a_manager(other, path, owner):
        plain_refusal(answer, 403, "forbidden")
    assert owner.call("DELETE", path).status == 204


def calls_of_a_manager(caller: Client, path: str, member: Client) -> list[Answer]:
    return [
        caller.call("PATCH", path, {"name": "Mine"}),
        caller.call("DELETE", path),
        let_in(caller, path, caller, "manage"),
        caller.call("DELETE", member_path(path, member)),
    ]


@pytest.mark.parametrize("right", ["read", "write"])
def test_readers_and_writers_cannot_change_a_channel(server: Usher, right: str) -> None:
    owner, member = user(server), user(server)
    path = opened(owner)
    let_in(owner, path, member, right)
    for answer in calls_of_a_manager(member, path, owner):
        plain_refusal(answer, 403, "forbidden")
    assert owner.get(path).body["name"] == "Herons"


def test_an_unauthenticated_client_cannot_distinguish_a_private_channel_from_none(
    server: Usher,
) -> None:
    owner, member, other_user = user(server), user(server), user(server)
    path, nowhere = opened(owner), f"/api/channels/{NOWHERE}"
    let_in(owner, path, member)
    there = [other_user.get(path), *calls_of_a_manager(other_user, path, member)]
    not_there = [other_user.get(nowhere), *calls_of_a_manager(other_user, nowhere, member)]
    there.append(other_user.call("DELETE", member_path(path, other_user)))
    not_there.append(other_user.call("DELETE", member_path(nowhere, other_user)))
    for one, other in zip(there, not_there, strict=True):
        plain_refusal(one, 404, "not_found")
        assert one.text == other.text
        assert sorted(one.headers.keys()) == sorted(other.headers.keys())
    assert owner.get(path).body["name"] == "Herons"
    assert [m["id"] for m in owner.get(path).body["members"]] == [member.user["id"]]
    assert all(item["id"] not in path for item in listed(other_user, "?limit=100"))


def test_a_deleted_channel_is_gone_for_everybody(server: Usher) -> None:
    owner, member = user(server), user(server)
    path = opened(owner)
    let_in(owner, path, member)
    answer = owner.call("DELETE", path)
    assert (answer.status, answer.text) == (204, b"")
    for client in (owner, member):
        plain_refusal(client.get(path), 404, "not_found")
    plain_refusal(owner.call("DELETE", path), 404, "not_found")
    plain_refusal(let_in(owner, path, member), 404, "not_found")


def test_an_administrator_manages_every_channel(database_kind: str) -> None:
    with usher(database_kind) as server:
        admin, owner = sign_up(server), sign_up(server)
        path = opened(owner)
        assert admin.get(path).body["right"] == "manage"
        assert [item["right"] for item in listed(admin)] == ["manage"]
        assert admin.call("PATCH", path, {"name": "Egrets"}).status == 200
        opening = [admin.call("PATCH", path, {"private": False}).status for _ in range(61)]
        assert opening == [200] * 61, "only users have a limit"
        assert admin.call("DELETE", path).status == 204


def test_a_channel_whose_owner_is_gone_has_none(database_kind: str) -> None:
    with usher(database_kind) as server:
        admin, owner, member = sign_up(server), sign_up(server), sign_up(server)
        path = opened(owner)
        let_in(owner, path, member)
        assert admin.call("DELETE", f"/api/admin/users/{owner.user['id']}").status == 204
        assert member.get(path).body["owner_id"] is None
        assert set(member.get(path).body) == ITEM


def test_every_change_of_rights_is_a_row_for_the_nodes(server: Usher) -> None:
    owner, member = user(server), user(server)
    path = opened(owner)
    let_in(owner, path, member)
    owner.call("PATCH", path, {"private": False})
    owner.call("PATCH", path, {"name": "Egrets"})
    owner.call("DELETE", member_path(path, member))
    owner.call("DELETE", path)
    query = "SELECT user_id, reason FROM revocations WHERE kind = 'access' AND subject = ?"
    assert rows(server, query + " ORDER BY id", path.rpartition("/")[2]) == [
        (owner.user["id"], "channel_opened"),
        (member.user["id"], "member_changed"),
        ("*", "channel_changed"),
        (member.user["id"], "member_removed"),
        ("*", "channel_deleted"),
    ]


CALLS = (
    ("GET", ""),
    ("POST", ""),
    ("GET", f"/{NOWHERE}"),
    ("PATCH", f"/{NOWHERE}"),
    ("DELETE", f"/{NOWHERE}"),
    ("PUT", f"/{NOWHERE}/members/{NOWHERE}"),
    ("DELETE", f"/{NOWHERE}/members/{NOWHERE}"),
)


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_channels_need_a_credential(server: Usher, method: str, path: str) -> None:
    plain_refusal(Client(server).call(method, "/api/channels" + path), 401, "unauthenticated")


@pytest.mark.parametrize(("method", "path"), [c for c in CALLS if c[0] != "GET"])
def test_another_sites_page_changes_no_channel(server: Usher, method: str, path: str) -> None:
    browser = user(server, browser=True)
    foreign = {"Origin": "https://elsewhere.example"}
    answer = browser.call(method, "/api/channels" + path, {"name": "x"}, foreign)
    plain_refusal(answer, 403, "origin_refused")


def test_a_browser_manages_channels_with_its_cookie(server: Usher) -> None:
    browser = user(server, browser=True)
    path = opened(browser)
    assert browser.call("PATCH", path, {"name": "Egrets"}).status == 200
    assert browser.call("DELETE", path).status == 204


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "", "GET, HEAD, POST, OPTIONS"),
        ("POST", f"/{NOWHERE}", "GET, HEAD, PATCH, DELETE, OPTIONS"),
        ("GET", f"/{NOWHERE}/members/{NOWHERE}", "PUT, DELETE, OPTIONS"),
    ],
)
def test_a_method_that_is_not_accepted_is_named_as_such(
    server: Usher, method: str, path: str, allowed: str
) -> None:
    answer = user(server).call(method, "/api/channels" + path)
    problem(answer, 405, "method_not_allowed")
    assert answer.headers["Allow"] == allowed


def test_an_answer_about_channels_is_not_stored(server: Usher) -> None:
    owner = user(server)
    for path in ("/api/channels", opened(owner)):
        assert owner.get(path).headers["Cache-Control"] == "no-store"


def test_a_member_is_added_by_address_by_managers_alone_and_so_often(server: Usher) -> None:
    owner, member, other = user(server), user(server), user(server)
    path = opened(owner)
    answer = owner.post(f"{path}/members", {"email": member.user["email"].upper()})
    assert (answer.status, answer.body["id"], answer.body["right"]) == (
        200,
        member.user["id"],
        "write",
    )
    assert [item["name"] for item in listed(member)] == ["Herons"]

    nobody = {"email": "nobody@example.net"}
    plain_refusal(owner.post(f"{path}/members", nobody), 404, "not_found")
    # The same for who is no manager, whether the address has an account or not.
    known = {"email": member.user["email"]}
    for email in (nobody, known):
        plain_refusal(member.post(f"{path}/members", email), 403, "forbidden")
        plain_refusal(other.post(f"{path}/members", email), 404, "not_found")
    answers = [owner.post(f"{path}/members", nobody).status for _ in range(20)]
    assert answers == [404] * 18 + [429] * 2


def test_a_user_opens_channels_to_others_60_times_an_hour(server: Usher) -> None:
    # Each time, sockets of all users enter the room, and leave it again when it is closed.
    owner, path = (someone := user(server)), opened(someone)
    statuses = []
    for _ in range(30):
        statuses.append(owner.call("PATCH", path, {"private": False}).status)
        statuses.append(owner.call("PATCH", path, {"private": True, "roles": {}}).status)
        statuses.append(owner.call("PATCH", path, {"roles": {"user": "read"}}).status)
    assert statuses == [200] * 90
    refused = owner.call("PATCH", path, {"private": False})
    assert problem(refused, 429, "rate_limited")
    assert int(refused.headers["Retry-After"]) > 3500
    one_more = owner.post("/api/channels", {"name": "Open", "private": False})
    plain_refusal(one_more, 429, "rate_limited")
    assert owner.call("PATCH", path, {"private": True, "roles": {}, "name": "Ours"}).status == 200
    opened(owner, "Private")
