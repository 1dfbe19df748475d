"""From sign-up to revocation, with sockets open, as users and their clients experience it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from websockets import ConnectionClosed
from websockets.asyncio.client import ClientConnection

from tests.support.checks import outcome, plain_refusal
from tests.support.databases import kinds, on_both, slow
from tests.support.redis import until
from tests.support.server import (
    PASSWORD,
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
    receive,
    sign_up,
    usher,
)

database_kind = kinds("sqlite", slow("postgresql"))  # but for the main flow

OTHER_PASSWORD = "nine slow barges 41"
REVOKED = {"code": 4410, "reason": "session_revoked", "retry": "login"}


@pytest.fixture
def empty(database_kind: str) -> Iterator[Usher]:
    """An Usher without accounts."""
    with usher(database_kind) as server:
        yield server


def cookie_headers(browser: Client) -> dict[str, Any]:
    """What a browser sends along when its page opens a socket."""
    cookies = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    return {"origin": browser.server.origin, "additional_headers": {"Cookie": cookies}}


@asynccontextmanager
async def joined(server: Usher, query: str = "", **options: Any) -> AsyncIterator[ClientConnection]:
    """A socket that has been let in by what it brought."""
    async with connect(server, query, **options) as socket:
        await event(socket, "joined")
        yield socket


@asynccontextmanager
async def joined_by_message(server: Usher, token: str | None) -> AsyncIterator[ClientConnection]:
    """A socket that has been let in by its first message."""
    async with connect(server) as socket:
        assert (await ask(socket, "user-join", {"auth": {"token": token}}))["ok"]
        yield socket


async def lives(socket: ClientConnection) -> bool:
    return bool((await ask(socket, "heartbeat"))["ok"])


async def cut(socket: ClientConnection) -> dict[str, Any]:
    """The last word of the server on a socket; checks that it ends with the same code."""
    closing = await event(socket, "closing")
    assert await close_code(socket) == closing["code"]
    assert isinstance(closing, dict)
    return closing


# ---- the main flow, once on each database ---------------------------------------------------


@on_both
@pytest.mark.gen_test(timeout=60)
async def test_the_main_flow(empty: Usher) -> None:
    server, email = empty, address()
    native = sign_up(server, email=email)
    assert native.user["role"] == "admin"
    browser = log_in(server, email, browser=True)
    async with (
        joined(server, additional_headers={"Authorization": f"Bearer {native.token}"}) as first,
        joined(server, f"?ticket={native.ticket()}") as second,
        joined(server, **cookie_headers(browser)) as third,
        joined(server, f"?ticket={browser.ticket()}", **cookie_headers(browser)) as fourth,
    ):
        for socket in (first, second, third, fourth):
            assert await lives(socket)
        sessions = native.get("/api/sessions").body["items"]
        assert sorted(item["live_sockets"] for item in sessions) == [2, 2]
        # A socket lives on with the token of a refresh.
        reply = await ask(first, "token-refresh", {"token": new_token(native)})
        assert reply["ok"]
        assert browser.post("/api/auth/logout").status == 204
        assert await cut(third) == REVOKED
        assert await cut(fourth) == REVOKED
        assert await lives(first)
        assert await lives(second)
        again = log_in(server, email)
        async with joined(server, subprotocols=bearer(again.token)) as fifth:
            body = {"current_password": PASSWORD, "new_password": OTHER_PASSWORD}
            assert again.post("/api/auth/password", body).status == 204
            assert await cut(first) == REVOKED
            assert await cut(second) == REVOKED
            assert await lives(fifth)
    plain_refusal(native.get("/api/auth/me"), 401, "unauthenticated")
    assert await outcome(server, subprotocols=bearer(native.token)) == 4401
    user = sign_up(server)
    async with joined(server, subprotocols=bearer(user.token)) as socket:
        path = f"/api/admin/users/{user.user['id']}"
        assert again.call("PATCH", path, {"role": "admin"}).status == 200
        assert (await cut(socket))["code"] == 4419
    async with joined(server, subprotocols=bearer(new_token(user))) as socket:
        assert again.call("PATCH", path, {"disabled": True}).status == 200
        assert await cut(socket) == REVOKED
    assert again.call("DELETE", path).status == 204
    before = {item["id"] for item in again.get("/api/sessions").body["items"]}
    server.restart()
    assert {item["id"] for item in again.get("/api/sessions").body["items"]} == before
    assert await outcome(server, subprotocols=bearer(again.token)) == 0
    assert await outcome(server, subprotocols=bearer(native.token)) == 4401
    assert "Traceback" not in server.log


@pytest.mark.slow
@on_both
def test_of_a_hundred_concurrent_sign_ups_exactly_one_is_admin(empty: Usher) -> None:
    def race(_: int) -> str:
        return str(sign_up(empty).user["role"])

    with ThreadPoolExecutor(100) as pool:
        roles = list(pool.map(race, range(100)))
    assert sorted(roles) == ["admin"] + ["user"] * 99


@on_both
def test_of_racing_sign_ups_with_one_address_exactly_one_succeeds(empty: Usher) -> None:
    email = address()
    body = {"email": email, "password": PASSWORD, "name": "Ada", "client": "native"}
    with ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(Client(empty).post, "/api/auth/signup", body) for _ in range(8)]
        statuses = sorted(job.result().status for job in jobs)
    assert statuses == [201] + [409] * 7


@on_both
def test_of_racing_logouts_of_one_session_none_fails(empty: Usher) -> None:
    client = sign_up(empty)
    with ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(client.post, "/api/auth/logout") for _ in range(8)]
        statuses = {job.result().status for job in jobs}
    assert 204 in statuses
    assert statuses <= {204, 401}
    plain_refusal(client.get("/api/auth/me"), 401, "unauthenticated")


# ---- being cut ------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_logout_cuts_the_sockets_of_its_session_however_they_came_in(server: Usher) -> None:
    email = address()
    browser = sign_up(server, browser=True, email=email)
    native = log_in(server, email)
    third_user = sign_up(server)
    async with (
        joined(server, **cookie_headers(browser)) as by_cookie,
        joined(server, f"?ticket={browser.ticket()}") as by_ticket,
        joined_by_message(server, browser.ticket()) as by_message,
        joined_by_message(server, native.token) as other_session,
        joined(server, subprotocols=bearer(third_user.token)) as other_user,
    ):
        started = time.monotonic()
        assert browser.post("/api/auth/logout").status == 204
        for socket in (by_cookie, by_ticket, by_message):
            assert await cut(socket) == REVOKED
        assert time.monotonic() - started < 5
        assert await lives(other_session)
        assert await lives(other_user)


@pytest.mark.gen_test
async def test_a_password_change_cuts_every_other_session(server: Usher) -> None:
    email = address()
    browser = sign_up(server, browser=True, email=email)
    others = [log_in(server, email), log_in(server, email)]
    async with (
        joined(server, **cookie_headers(browser)) as kept,
        joined(server, subprotocols=bearer(others[0].token)) as first,
        joined(server, f"?ticket={others[1].ticket()}") as second,
    ):
        body = {"current_password": PASSWORD, "new_password": OTHER_PASSWORD}
        assert browser.post("/api/auth/password", body).status == 204
        assert await cut(first) == REVOKED
        assert await cut(second) == REVOKED
        assert await lives(kept)
        body = {"current_password": PASSWORD, "new_password": "three quick swans 9"}
        plain_refusal(browser.post("/api/auth/password", body), 403, "wrong_password")
        assert await lives(kept)


@pytest.mark.gen_test
async def test_a_closed_socket_cannot_rejoin_with_any_credential(server: Usher) -> None:
    email = address()
    browser, native = sign_up(server, browser=True, email=email), log_in(server, email)
    tickets = [browser.ticket(), native.ticket()]
    old = cookie_headers(browser)
    for client in (browser, native):
        assert client.post("/api/auth/logout").status == 204
    for ticket in tickets:
        assert await outcome(server, f"?ticket={ticket}") == 4401
    assert await outcome(server, **old) == 4401
    assert await outcome(server, subprotocols=bearer(native.token)) == 4401
    async with connect(server) as socket:
        reply = await ask(socket, "user-join", {"auth": {"token": native.token}})
        assert reply["error"]["code"] == "unauthenticated"
        assert await close_code(socket) == 4401


@pytest.mark.gen_test(timeout=60)
async def test_no_frame_is_received_or_sent_after_a_revocation_is_acknowledged(
    server: Usher,
) -> None:
    email = address()
    sign_up(server, email=email)
    for _ in range(5):
        client = log_in(server, email)
        frames: list[dict[str, Any]] = []
        async with joined(server, subprotocols=bearer(client.token)) as socket:
            talking = asyncio.gather(talk(socket), listen(socket, frames))
            await until(lambda: len(frames) > 20)  # noqa: B023 - awaited within this turn
            assert (await asyncio.to_thread(client.post, "/api/auth/logout")).status == 204
            acknowledged = time.time()
            await talking
        assert frames.pop() == {"event": "closing", "data": REVOKED}
        # News that nobody asked for may come between, of these two kinds; it has no time in it.
        assert {frame["event"] for frame in frames} <= {"reply", "access-changed", "presence"}
        replies = [frame["data"]["server_time"] for frame in frames if frame["event"] == "reply"]
        assert max(replies) <= acknowledged


async def talk(socket: ClientConnection) -> None:
    """Ask as fast as the rate of a socket allows, until it is gone."""
    with suppress(ConnectionClosed):
        for number in range(1_000_000):
            await socket.send(json.dumps({"event": "heartbeat", "id": number}))
            await asyncio.sleep(0.02)


async def listen(socket: ClientConnection, frames: list[dict[str, Any]]) -> None:
    """Gather every frame until the end."""
    with suppress(ConnectionClosed):
        while True:
            frames.append(await receive(socket))


@pytest.mark.gen_test
async def test_a_frame_sent_after_the_acknowledgement_is_not_answered(server: Usher) -> None:
    client = sign_up(server)
    async with joined(server, subprotocols=bearer(client.token)) as socket:
        # Nothing is read here meanwhile, so for this client the socket is still open.
        assert client.post("/api/auth/logout").status == 204
        await socket.send(json.dumps({"event": "heartbeat", "id": "late"}))
        frames: list[dict[str, Any]] = []
        await listen(socket, frames)
        assert frames == [{"event": "closing", "data": REVOKED}]


@pytest.mark.gen_test(timeout=60)
async def test_a_join_that_races_with_a_logout_never_stays(server: Usher) -> None:
    email = address()
    sign_up(server, email=email)
    seen = set()
    for number in range(12):
        client = log_in(server, email)
        logout = asyncio.create_task(asyncio.to_thread(client.post, "/api/auth/logout"))
        await asyncio.sleep(number * 0.002)  # so that the two meet at different points
        async with connect(server, subprotocols=bearer(client.token)) as socket:
            code = await close_code(socket)
        assert (await logout).status == 204
        seen.add(code)
    assert seen <= {4401, 4410}


@pytest.mark.gen_test(timeout=60)
async def test_a_thousandth_of_a_crowd_is_cut_and_the_rest_stays(server: Usher) -> None:
    email = address()
    crowd = sign_up(server, email=email)
    one = log_in(server, email)
    sockets = [await connect(server, f"?ticket={crowd.ticket()}").__aenter__() for _ in range(60)]
    try:
        for socket in sockets:
            await event(socket, "joined")
        async with joined(server, f"?ticket={one.ticket()}") as socket:
            assert one.post("/api/auth/logout").status == 204
            assert await cut(socket) == REVOKED
        assert all(await asyncio.gather(*map(lives, sockets)))
        assert crowd.post("/api/auth/logout").status == 204
        ended = await asyncio.gather(*map(cut, sockets))
        assert ended == [REVOKED] * len(sockets)
    finally:
        await asyncio.gather(*(socket.close() for socket in sockets))


# ---- expiry ---------------------------------------------------------------------------------


@pytest.mark.gen_test(timeout=60)
async def test_a_token_expires_with_notice_unless_it_is_refreshed_in_time() -> None:
    with usher("sqlite", ACCESS_TOKEN_TTL_SECONDS=6) as server:
        client = sign_up(server)
        async with connect(server, subprotocols=bearer(client.token)) as socket:
            expires_at = (await event(socket, "joined"))["expires_at"]
            assert await event(socket, "token-expiring") == {"expires_at": expires_at}
            assert 0 < expires_at - time.time() < 3.1  # at half the lifetime
            reply = await ask(socket, "token-refresh", {"token": new_token(client)})
            later = reply["data"]["expires_at"]
            assert later > expires_at + 0.5
            # It continues past the end of the first token, and is notified of that of the second.
            assert await event(socket, "token-expiring") == {"expires_at": later}
            assert time.time() > expires_at - 0.2
            assert await lives(socket)
            closing = await cut(socket)
            assert closing == {"code": 4419, "reason": "token_expired", "retry": "refresh"}
            assert later <= time.time() < later + 5
        assert await outcome(server, subprotocols=bearer(client.token)) == 4419
        assert await outcome(server, subprotocols=bearer(new_token(client))) == 0


@pytest.mark.gen_test
async def test_an_expired_cookie_says_so_to_the_page(database_kind: str) -> None:
    with usher(database_kind, ACCESS_TOKEN_TTL_SECONDS=3) as server:
        browser = sign_up(server, browser=True)
        await asyncio.sleep(3.1)  # only time expires a token
        assert await outcome(server, **cookie_headers(browser)) == 4419
        assert browser.post("/api/auth/refresh").status == 200
        assert await outcome(server, **cookie_headers(browser)) == 0
