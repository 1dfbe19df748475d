"""Sign-in with a provider on several nodes, and back-channel logout on all of them: with Redis,
without it, and in the background."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.support.checks import plain_refusal, problem
from tests.support.databases import kinds, slow
from tests.support.nodes import Nodes, nodes
from tests.support.provider import LEFT_OUT, Provider, provider
from tests.support.server import Client, Usher, address, close_code, connect, receive, wait_until
from tests.support.sign_in import (
    CALLBACK,
    LOGOUT,
    back_from,
    begin,
    log_out_there,
    refused,
    settings_for,
    sign_in,
)

# Several nodes are run on PostgreSQL, as a rule.
database_kind = kinds("postgresql", slow("sqlite"))

AT_ONCE, WITHOUT_REDIS = 1.0, 3.0
"""Seconds: the contract's bounds for other nodes."""


@pytest.fixture(scope="module")
def shared_op() -> Iterator[Provider]:
    with provider() as running:
        yield running


@pytest.fixture(scope="module")
def both(database_kind: str, shared_op: Provider) -> Iterator[Nodes]:
    with nodes(database_kind, 2, **settings_for(shared_op)) as running:
        yield running


@pytest.fixture
def op(shared_op: Provider) -> Iterator[Provider]:
    """The provider, with somebody new at it."""
    shared_op.user = {"sub": address(), "email": address(), "email_verified": True, "name": "Ada"}
    yield shared_op
    shared_op.behave()


def on(node: Usher, browser: Client) -> Client:
    """The same browser, whose next request another node gets."""
    return Client(node, cookies=browser.cookies, browser=True, user=browser.user)


async def blocking(work: Any, *args: Any) -> Any:
    """A blocking call beside the loop, so that sockets go on being read."""
    return await asyncio.to_thread(work, *args)


def socket_of(node: Usher, browser: Client) -> Any:
    return connect(node, f"?ticket={on(node, browser).ticket()}")


def test_what_begins_on_one_node_ends_on_another(both: Nodes, op: Provider) -> None:
    browser = Client(both[0], browser=True)
    way_back = back_from(begin(browser))
    elsewhere = on(both[1], browser)
    assert elsewhere.get(way_back).status == 302
    assert on(both[0], elsewhere).get("/api/auth/me").body["email"] == op.user["email"]


def test_a_state_that_one_node_has_used_up_is_used_up_on_all(both: Nodes, op: Provider) -> None:
    browser = Client(both[0], browser=True)
    way_back = back_from(begin(browser))
    kept = dict(browser.cookies)
    assert browser.get(way_back).status == 302
    again = Client(both[1], cookies=kept, browser=True)
    refused(again.get(way_back), 400, "stale")


@pytest.mark.gen_test(timeout=60)
async def test_fifty_concurrent_callbacks_sign_in_once(both: Nodes, op: Provider) -> None:
    browser = Client(both[0], browser=True)
    way_back = back_from(begin(browser))
    clients = [Client(both[i % 2], cookies=dict(browser.cookies), browser=True) for i in range(50)]
    before = op.count("token")
    answers = await asyncio.gather(*(blocking(c.get, way_back) for c in clients))
    assert sorted(a.status for a in answers) == [302] + [400] * 49
    assert op.count("token") == before + 1


# ---- back-channel logout -----------------------------------------------------------------------


@pytest.mark.gen_test(timeout=60)
@pytest.mark.parametrize("names", ["sid", "sub", "both"])
async def test_a_back_channel_logout_closes_the_sockets_on_every_node(
    both: Nodes, op: Provider, names: str
) -> None:
    first = await blocking(sign_in, both[0])
    sid = LEFT_OUT if names == "sub" else op.sid
    sub = LEFT_OUT if names == "sid" else op.user["sub"]
    other = await blocking(sign_in, both[1])
    async with (
        socket_of(both[0], first) as a,
        socket_of(both[1], first) as b,
        socket_of(both[1], other) as c,
    ):
        for socket in (a, b, c):
            assert (await receive(socket))["event"] == "joined"
        token = op.logout_token(sid=sid, sub=sub)
        answer = await blocking(log_out_there, both[0], token)
        since = time.monotonic()
        assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-store")
        assert [await close_code(s) for s in (a, b)] == [4410, 4410]
        assert time.monotonic() - since < AT_ONCE
        if names == "sub":
            assert await close_code(c) == 4410
        else:
            await (await c.ping())
    assert on(both[1], first).get("/api/auth/me").status == 401
    assert on(both[1], first).post("/api/auth/refresh").status == 401
    kept = on(both[0], other).get("/api/auth/me").status
    assert kept == (401 if names == "sub" else 200)


def test_a_logout_token_works_once_on_any_node(both: Nodes, op: Provider) -> None:
    sign_in(both[0])
    token = op.logout_token()
    assert log_out_there(both[0], token).status == 200
    assert problem(log_out_there(both[1], token), 400, "bad_request")["error"] == "invalid_request"


def test_a_session_with_a_very_long_name_signs_in_and_is_ended(both: Nodes, op: Provider) -> None:
    long = "s" * 9000  # PostgreSQL takes 2,704 bytes into an index
    op.id_token_claims["sid"] = long
    try:
        browser = sign_in(both[0])
    finally:
        op.id_token_claims.clear()
    token = op.logout_token(sid=long, sub=LEFT_OUT, jti="j" * 9000)
    assert log_out_there(both[1], token).status == 200
    assert on(both[0], browser).get("/api/auth/me").status == 401


@pytest.mark.parametrize(
    "media_type",
    [
        "Application/X-WWW-Form-Urlencoded",
        "application/x-www-form-urlencoded; charset=UTF-8",
        "application/x-www-form-urlencoded;charset=utf-8",
        None,
    ],
)
def test_the_form_may_be_named_in_any_case_or_not_at_all(
    both: Nodes, op: Provider, media_type: str | None
) -> None:
    browser = sign_in(both[0])
    head = "" if media_type is None else f"Content-Type: {media_type}\r\n"
    body = urlencode({"logout_token": op.logout_token()})
    assert raw_post(both[0], LOGOUT, head, body) == 200
    assert browser.get("/api/auth/me").status == 401


@pytest.mark.parametrize("media_type", ["application/json", "text/plain", "multipart/form-data"])
def test_another_kind_of_body_is_refused(both: Nodes, op: Provider, media_type: str) -> None:
    body = urlencode({"logout_token": op.logout_token()})
    assert raw_post(both[0], LOGOUT, f"Content-Type: {media_type}\r\n", body) == 400


def raw_post(node: Usher, path: str, head: str, body: str) -> int:
    """A POST with just these headers; the libraries of the tests add a Content-Type."""
    request = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{node.port}\r\nConnection: close\r\n{head}"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    )
    with socket.create_connection(("127.0.0.1", node.port), timeout=10) as connection:
        connection.sendall(request.encode())
        answer = connection.makefile("rb").readline()
    return int(answer.split()[1])


def test_a_logout_of_an_unknown_session_succeeds(both: Nodes, op: Provider) -> None:
    assert log_out_there(both[0], op.logout_token(sid="never-seen", sub=LEFT_OUT)).status == 200


BAD: dict[str, dict[str, Any]] = {
    "typ of an ID token": {"header": {"typ": "JWT"}},
    "no typ": {"header": {"typ": LEFT_OUT}},
    "typ of an access token": {"header": {"typ": "at+jwt"}},
    "a nonce": {"nonce": "x"},
    "no events": {"events": LEFT_OUT},
    "other events": {"events": {"https://schemas.example/other": {}}},
    "events of a wrong type": {"events": ["http://schemas.openid.net/event/backchannel-logout"]},
    "neither sub nor sid": {"sub": LEFT_OUT, "sid": LEFT_OUT},
    "no jti": {"jti": LEFT_OUT},
    "no exp": {"exp": LEFT_OUT},
    "no iat": {"iat": LEFT_OUT},
    "expired": {"exp": 1_000_000_000},
    "issued in the future": {"iat": 4_000_000_000},
    "another audience": {"aud": "somebody-else"},
    "another issuer": {"iss": "https://issuer.example"},
    "unsigned": {"signer": "none"},
    "a foreign key": {"signer": "foreign"},
    "the public key as a secret": {"signer": "pem"},
    "the client secret": {"signer": "client_secret"},
}


@pytest.mark.parametrize("what", BAD)
def test_a_logout_token_that_is_not_right_ends_nothing(
    both: Nodes, op: Provider, what: str
) -> None:
    browser = sign_in(both[0])
    body = problem(log_out_there(both[0], op.logout_token(**BAD[what])), 400, "bad_request")
    assert set(body) == {"status", "title", "code", "error"}
    assert browser.get("/api/auth/me").status == 200


def test_what_is_no_logout_token_at_all_is_refused(both: Nodes, op: Provider) -> None:
    sign_in(both[0])
    for token in ("", "x", "a.b.c", op.id_tokens[-1], op.access_tokens[-1], "x" * 40_000):
        problem(log_out_there(both[0], token), 400, "bad_request")
    client = Client(both[0])
    problem(client.call("POST", LOGOUT, b""), 400, "bad_request")
    problem(client.call("POST", LOGOUT, b'{"logout_token":"x"}'), 400, "bad_request")
    plain_refusal(client.get(LOGOUT), 405, "method_not_allowed")
    token = op.logout_token()
    plain_refusal(
        log_out_there(both[0], token, "/oauth/nobody/backchannel-logout"), 404, "not_found"
    )


def test_a_page_of_another_site_cannot_sign_a_user_out(both: Nodes, op: Provider) -> None:
    form = {
        "Content-Type": "application/x-www-form-urlencoded",
        "Origin": "https://evil.example",
    }
    answer = Client(both[0]).call("POST", LOGOUT, b"logout_token=x", form)
    problem(answer, 403, "origin_refused")


@pytest.mark.gen_test(timeout=60)
async def test_a_back_channel_logout_works_without_redis(database_kind: str) -> None:
    with provider() as op, nodes(database_kind, 2, **settings_for(op)) as both:
        browser = await blocking(sign_in, both[0])
        async with socket_of(both[1], browser) as socket:
            assert (await receive(socket))["event"] == "joined"
            both.redis.kill()
            token = op.logout_token()
            assert (await blocking(log_out_there, both[0], token)).status == 200
            since = time.monotonic()
            assert await close_code(socket) == 4410
            assert time.monotonic() - since < WITHOUT_REDIS
        problem(await blocking(log_out_there, both[1], token), 400, "bad_request")
        assert on(both[0], browser).get("/api/auth/me").status == 401
        way_back = back_from(begin(Client(both[0], browser=True)))
        refused(Client(both[1], browser=True).get(way_back), 400, "stale")
        await blocking(sign_in, both[1])


# ---- invalid_grant -----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.gen_test(timeout=90)
async def test_a_session_that_the_provider_has_ended_ends_here_in_the_background(
    database_kind: str,
) -> None:
    with provider(expires_in=10) as op, nodes(database_kind, 2, **settings_for(op)) as both:
        browser = await blocking(sign_in, both[0])
        async with socket_of(both[0], browser) as a, socket_of(both[1], browser) as b:
            for socket in (a, b):
                assert (await receive(socket))["event"] == "joined"
            op.misbehave(refresh="http_503", times=1)
            await blocking(wait_until, lambda: _refreshes(op) >= 2, 60)
            op.end_sessions()
            assert [await close_code(s) for s in (a, b)] == [4410, 4410]
        assert on(both[1], browser).get("/api/auth/me").status == 401
        wait_until(lambda: "invalid_grant" in both[0].log + both[1].log)


def _refreshes(op: Provider) -> int:
    return sum(r.form.get("grant_type") == "refresh_token" for r in op.at("token"))


# ---- keys --------------------------------------------------------------------------------------


def test_with_a_wrong_key_no_node_is_ready_and_nothing_is_deleted(
    both: Nodes, op: Provider
) -> None:
    profile = sign_in(both[0])
    other_node = both.start(ENCRYPTION_KEYS="A" * 43 + "=")
    ready = Client(other_node).get("/readyz")
    assert (ready.status, ready.body["encryption"]) == (503, "wrong_key")
    browser = Client(other_node, browser=True)
    for path in ("/oauth/mock/login", f"{CALLBACK}?state=x&code=y"):
        words = refused(browser.get(path), 503, "not_now")
        assert "Mock" not in words, "the trouble is ours"
    assert on(both[0], profile).post("/api/oauth/logout").body["location"] is not None
    again = sign_in(both[0])
    assert again.user["id"] == profile.user["id"]
