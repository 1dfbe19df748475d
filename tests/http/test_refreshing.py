"""Refresh and logout over HTTP."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import jwt
import pytest

from tests.http.credentials import credentials
from tests.support.checks import plain_refusal, rows
from tests.support.server import (
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


def test_a_refresh_gives_new_tokens_of_the_same_session(server: Usher) -> None:
    client = sign_up(server)
    before = jwt.decode(str(client.token), options={"verify_signature": False})
    old_refresh = client.refresh_token
    after = jwt.decode(new_token(client), options={"verify_signature": False})
    assert client.refresh_token != old_refresh
    assert after["sid"] == before["sid"]
    assert after["jti"] != before["jti"]
    assert client.get("/api/auth/me").status == 200


def test_a_refresh_cookie_is_rotated(server: Usher) -> None:
    browser = sign_up(server, browser=True)
    old = dict(browser.cookies)
    assert browser.post("/api/auth/refresh").status == 200
    old.pop("device")
    assert all(browser.cookies[name] != value for name, value in old.items())
    assert browser.get("/api/auth/me").body == browser.user


@pytest.mark.parametrize("token", ["", "x", "\u00e9" * 50, "x" * 60_000])
def test_an_unknown_refresh_token_is_refused(server: Usher, token: str) -> None:
    answer = Client(server).post("/api/auth/refresh", {"refresh_token": token})
    plain_refusal(answer, 401, "unauthenticated")


def test_a_refresh_without_a_token_is_refused(server: Usher) -> None:
    plain_refusal(Client(server).post("/api/auth/refresh"), 401, "unauthenticated")
    plain_refusal(Client(server).post("/api/auth/refresh", {}), 401, "unauthenticated")


def test_an_access_token_is_no_refresh_token(server: Usher) -> None:
    answer = Client(server).post("/api/auth/refresh", {"refresh_token": sign_up(server).token})
    plain_refusal(answer, 401, "unauthenticated")


def test_a_refresh_token_is_no_access_token(server: Usher) -> None:
    client = sign_up(server)
    client.token = client.refresh_token
    plain_refusal(client.get("/api/auth/me"), 401, "unauthenticated")


def test_an_invalid_refresh_cookie_is_deleted(server: Usher) -> None:
    browser = sign_up(server, browser=True)
    browser.cookies["refresh_token"] = "gone"
    plain_refusal(browser.post("/api/auth/refresh"), 401, "unauthenticated")
    assert browser.cookies.keys() == {"device"}


def test_parallel_tabs_with_one_refresh_token_each_get_new_ones(server: Usher) -> None:
    browser = sign_up(server, browser=True)
    tabs = [Client(server, browser=True, cookies=dict(browser.cookies)) for _ in range(8)]
    with ThreadPoolExecutor(len(tabs)) as pool:
        answers = list(pool.map(lambda tab: tab.post("/api/auth/refresh"), tabs))
    assert [answer.status for answer in answers] == [200] * len(tabs)
    assert len({tab.cookies["refresh_token"] for tab in tabs}) == len(tabs)
    for tab in tabs:  # whichever cookie the browser keeps, it goes on with it
        assert tab.get("/api/auth/me").status == 200
        assert tab.post("/api/auth/refresh").status == 200


@pytest.mark.gen_test
async def test_a_refresh_token_that_comes_back_later_ends_its_whole_session(
    database_kind: str,
) -> None:
    with usher(database_kind) as server:
        email = address()
        client = sign_up(server, email=email)
        other = log_in(server, email)
        stolen = client.refresh_token
        new_token(client)
        new_token(client)
        async with (
            connect(server, subprotocols=bearer(client.token)) as socket,
            connect(server, subprotocols=bearer(other.token)) as bystander,
        ):
            await event(socket, "joined")
            await event(bystander, "joined")
            # As if the grace of 10 s had passed.
            rows(
                server,
                "UPDATE refresh_tokens SET rotated_at = rotated_at - 11 WHERE rotated_at > 0",
            )
            answer = Client(server).post("/api/auth/refresh", {"refresh_token": stolen})
            plain_refusal(answer, 401, "unauthenticated")
            assert await close_code(socket) == 4410
            assert (await ask(bystander, "heartbeat"))["ok"]
        plain_refusal(client.get("/api/auth/me"), 401, "unauthenticated")
        body = {"refresh_token": client.refresh_token}
        plain_refusal(Client(server).post("/api/auth/refresh", body), 401, "unauthenticated")
        assert other.get("/api/auth/me").status == 200


def test_an_answer_to_a_refresh_that_was_lost_is_given_again_later(database_kind: str) -> None:
    with usher(database_kind) as server:
        client = sign_up(server, browser=True)
        before = dict(client.cookies)
        assert client.post("/api/auth/refresh").status == 200
        client.cookies = dict(before)  # the answer never reached the browser
        rows(server, "UPDATE refresh_tokens SET rotated_at = rotated_at - 600 WHERE rotated_at > 0")
        rows(server, "UPDATE login_sessions SET step_at = step_at - 600")
        assert client.post("/api/auth/refresh").status == 200
        assert client.cookies != before
        assert client.post("/api/auth/refresh").status == 200
        assert client.get("/api/auth/me").status == 200


def test_a_refresh_slides_the_refresh_token_but_not_the_end_of_the_session(
    database_kind: str,
) -> None:
    with usher(database_kind, REFRESH_TOKEN_TTL_SECONDS=60, SESSION_LIFETIME_SECONDS=90) as server:
        client = sign_up(server)
        (before,) = rows(server, "SELECT expires_at FROM login_sessions")
        # As if 40 s had passed since the sign-in.
        rows(server, "UPDATE login_sessions SET expires_at = expires_at - 40")
        new_token(client)
        (after,) = rows(server, "SELECT expires_at FROM login_sessions")
        assert after[0] == pytest.approx(before[0] - 40)
        newest = rows(server, "SELECT max(expires_at) FROM refresh_tokens")[0][0]
        assert newest == pytest.approx(after[0])  # cut by the session, else 60 s from now


def test_an_expired_refresh_token_is_refused(database_kind: str) -> None:
    with usher(database_kind, REFRESH_TOKEN_TTL_SECONDS=0.2) as server:
        client = sign_up(server)
        time.sleep(0.25)  # only time expires a token
        body = {"refresh_token": client.refresh_token}
        plain_refusal(Client(server).post("/api/auth/refresh", body), 401, "unauthenticated")


def test_an_access_token_does_not_outlive_its_session(database_kind: str) -> None:
    with usher(database_kind, SESSION_LIFETIME_SECONDS=60) as server:
        answer = Client(server).post("/api/auth/signup", credentials(address(), name="Ada"))
        assert answer.body["expires_in"] <= 60


def test_logout_kills_the_access_token_and_the_refresh_token(server: Usher) -> None:
    client = sign_up(server)
    answer = client.post("/api/auth/logout")
    assert (answer.status, answer.text) == (204, b"")
    plain_refusal(client.get("/api/auth/me"), 401, "unauthenticated")
    body = {"refresh_token": client.refresh_token}
    plain_refusal(Client(server).post("/api/auth/refresh", body), 401, "unauthenticated")
    plain_refusal(client.post("/api/ws/ticket"), 401, "unauthenticated")
    plain_refusal(client.post("/api/auth/logout"), 401, "unauthenticated")


def test_logout_kills_every_access_token_of_the_session_and_of_no_other(server: Usher) -> None:
    email = address()
    client, other = sign_up(server, email=email), log_in(server, email)
    earlier = client.token
    new_token(client)
    assert client.post("/api/auth/logout").status == 204
    for token in (earlier, client.token):
        plain_refusal(Client(server, token=token).get("/api/auth/me"), 401, "unauthenticated")
    assert other.get("/api/auth/me").status == 200


def test_logout_without_a_credential_is_refused(server: Usher) -> None:
    plain_refusal(Client(server).post("/api/auth/logout"), 401, "unauthenticated")
