"""The user's own login sessions over HTTP: the list, ending one, ending all others."""

from __future__ import annotations

import time

import jwt
import pytest

from tests.support.checks import plain_refusal
from tests.support.server import (
    Client,
    Usher,
    address,
    bearer,
    close_code,
    connect,
    event,
    log_in,
    new_token,
    sign_up,
    usher,
    wait_until,
)

MEMBERS = {
    "id",
    "device",
    "ip",
    "client",
    "method",
    "created_at",
    "last_seen_at",
    "expires_at",
    "live_sockets",
    "current",
}


def session_id(client: Client) -> str:
    token = client.token or client.cookies["access_token"]
    return str(jwt.decode(token, options={"verify_signature": False})["sid"])


def live_sockets(client: Client) -> dict[str, int]:
    return {s["id"]: s["live_sockets"] for s in client.get("/api/sessions").body["items"]}


def test_the_list_holds_what_the_contract_names(server: Usher) -> None:
    started = time.time()
    client = sign_up(server)
    answer = client.get("/api/sessions")
    assert answer.status == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert set(answer.body) == {"items"}
    (session,) = answer.body["items"]
    assert set(session) == MEMBERS
    assert session["id"] == session_id(client)
    assert session["ip"] == "127.0.0.1"
    assert session["client"] == "native"
    assert session["method"] == "password"
    assert session["current"] is True
    assert session["live_sockets"] == 0
    assert "Python-urllib" in session["device"]
    assert started - 1 < session["created_at"] <= session["last_seen_at"] < time.time() + 1
    assert session["expires_at"] - session["created_at"] == pytest.approx(30 * 86_400, abs=1)


def test_each_sign_in_is_a_session_and_one_of_them_is_the_current(server: Usher) -> None:
    email = address()
    first = sign_up(server, email=email)
    clients = [first, log_in(server, email), log_in(server, email, browser=True)]
    ids = {session_id(client) for client in clients}
    assert len(ids) == 3
    for client in clients:
        items = client.get("/api/sessions").body["items"]
        assert {item["id"] for item in items} == ids
        assert [i["id"] for i in items if i["current"]] == [session_id(client)]


def test_the_device_is_what_the_client_calls_itself_without_tricks(server: Usher) -> None:
    email = address()
    sign_up(server, email=email)
    client = Client(server)
    body = {"email": email, "password": "a quiet heron at dusk 7", "client": "native"}
    agent = "Tele\tphone " + "x" * 500
    answer = client.call("POST", "/api/auth/login", body, {"User-Agent": agent})
    client.token = answer.body["access_token"]
    devices = [i["device"] for i in client.get("/api/sessions").body["items"] if i["current"]]
    assert devices == [("Telephone " + "x" * 500)[:200]]


@pytest.mark.parametrize(
    ("trusted", "seen"),
    [("127.0.0.1", "203.0.113.7"), ("", "127.0.0.1"), ("10.0.0.1", "127.0.0.1")],
)
def test_a_forwarded_address_counts_from_trusted_proxies_only(
    database_kind: str, trusted: str, seen: str
) -> None:
    with usher(database_kind, TRUSTED_PROXIES=trusted) as server:
        client = Client(server)
        body = {
            "email": address(),
            "password": "a quiet heron at dusk 7",
            "name": "Ada",
            "client": "native",
        }
        forwarded = {"X-Forwarded-For": "198.51.100.1, 203.0.113.7", "X-Real-IP": "192.0.2.1"}
        client.token = client.call("POST", "/api/auth/signup", body, forwarded).body["access_token"]
        assert [i["ip"] for i in client.get("/api/sessions").body["items"]] == [seen]


@pytest.mark.gen_test
async def test_the_list_counts_the_sockets_of_each_session(server: Usher) -> None:
    email = address()
    one, two = sign_up(server, email=email), log_in(server, email)
    other_user = sign_up(server)
    async with (
        connect(server, f"?ticket={one.ticket()}") as first,
        connect(server, f"?ticket={one.ticket()}") as second,
        connect(server, f"?ticket={two.ticket()}") as third,
        connect(server, f"?ticket={other_user.ticket()}") as fourth,
    ):
        for socket in (first, second, third, fourth):
            await event(socket, "joined")
        assert live_sockets(one) == {session_id(one): 2, session_id(two): 1}
        await first.close()
        wait_until(lambda: live_sockets(one)[session_id(one)] == 1)
    wait_until(lambda: set(live_sockets(one).values()) == {0})


@pytest.mark.gen_test
async def test_ending_a_session_cuts_its_sockets_and_no_others(server: Usher) -> None:
    email = address()
    one, two = sign_up(server, email=email), log_in(server, email)
    async with (
        connect(server, subprotocols=bearer(one.token)) as kept,
        connect(server, subprotocols=bearer(two.token)) as cut,
        connect(server, f"?ticket={two.ticket()}") as cut_too,
    ):
        for socket in (kept, cut, cut_too):
            await event(socket, "joined")
        answer = one.call("DELETE", f"/api/sessions/{session_id(two)}")
        assert (answer.status, answer.text) == (204, b"")
        assert await close_code(cut) == 4410
        assert await close_code(cut_too) == 4410
        assert live_sockets(one) == {session_id(one): 1}
    plain_refusal(two.get("/api/auth/me"), 401, "unauthenticated")
    answer = Client(server).post("/api/auth/refresh", {"refresh_token": two.refresh_token})
    plain_refusal(answer, 401, "unauthenticated")
    assert one.get("/api/auth/me").status == 200


def test_a_session_can_be_ended_once(server: Usher) -> None:
    email = address()
    one, two = sign_up(server, email=email), log_in(server, email)
    path = f"/api/sessions/{session_id(two)}"
    assert one.call("DELETE", path).status == 204
    plain_refusal(one.call("DELETE", path), 404, "not_found")


def test_ending_the_current_session_signs_a_browser_out(server: Usher) -> None:
    browser = sign_up(server, browser=True)
    old = dict(browser.cookies)
    assert browser.call("DELETE", f"/api/sessions/{session_id(browser)}").status == 204
    assert browser.cookies.keys() == {"device"}, "the device stays known"
    planted = Client(server, browser=True, cookies=old)
    plain_refusal(planted.get("/api/auth/me"), 401, "unauthenticated")


def test_ending_another_of_ones_sessions_leaves_the_cookies(server: Usher) -> None:
    email = address()
    browser, other = sign_up(server, browser=True, email=email), log_in(server, email)
    old = dict(browser.cookies)
    assert browser.call("DELETE", f"/api/sessions/{session_id(other)}").status == 204
    assert browser.cookies == old


@pytest.mark.parametrize("which", ["another's", "unknown"])
def test_a_session_that_is_not_their_own_is_not_found(server: Usher, which: str) -> None:
    mine, theirs = sign_up(server), sign_up(server)
    target = session_id(theirs) if which == "another's" else "AAAAAAAAAAAAAAAAAAAAAA"
    plain_refusal(mine.call("DELETE", f"/api/sessions/{target}"), 404, "not_found")
    assert theirs.get("/api/auth/me").status == 200


@pytest.mark.gen_test
async def test_ending_all_others_leaves_only_the_current(server: Usher) -> None:
    email = address()
    one = sign_up(server, email=email)
    others = [log_in(server, email) for _ in range(3)]
    other_user = sign_up(server)
    async with (
        connect(server, subprotocols=bearer(one.token)) as kept,
        connect(server, subprotocols=bearer(others[0].token)) as cut,
    ):
        await event(kept, "joined")
        await event(cut, "joined")
        answer = one.call("DELETE", "/api/sessions")
        assert (answer.status, answer.text) == (204, b"")
        assert await close_code(cut) == 4410
        assert live_sockets(one) == {session_id(one): 1}
    for other in others:
        plain_refusal(other.get("/api/auth/me"), 401, "unauthenticated")
    assert Client(server, token=new_token(one)).get("/api/auth/me").status == 200
    assert other_user.get("/api/auth/me").status == 200


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("DELETE", ""), ("DELETE", "/AAAA")])
def test_sessions_need_a_credential(server: Usher, method: str, path: str) -> None:
    plain_refusal(Client(server).call(method, "/api/sessions" + path), 401, "unauthenticated")


def test_an_ended_session_leaves_the_list(server: Usher) -> None:
    email = address()
    one, two = sign_up(server, email=email), log_in(server, email)
    assert two.post("/api/auth/logout").status == 204
    assert live_sockets(one) == {session_id(one): 0}


def test_a_session_past_its_absolute_end_has_ended(database_kind: str) -> None:
    with usher(database_kind, SESSION_LIFETIME_SECONDS=0.5, ACCESS_TOKEN_TTL_SECONDS=60) as server:
        client = sign_up(server)
        time.sleep(0.6)  # only time ends it
        body = {"refresh_token": client.refresh_token}
        plain_refusal(Client(server).post("/api/auth/refresh", body), 401, "unauthenticated")
        # Its access token was cut to its end.
        plain_refusal(client.get("/api/auth/me"), 401, "token_expired")
