"""What websocket/upgrade.py refuses: foreign origins, invalid credentials, faulty handshakes."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime

import pytest

from tests.support.databases import on_postgresql
from tests.support.postgres import postgres_server
from tests.support.raw import (
    KEY,
    SECRET,
    Headers,
    RawClient,
    by_cookie,
    by_header,
    by_subprotocol,
    event,
    expired,
    forged,
    handshake,
    joined,
)
from tests.support.redis import RealRedis
from tests.support.server import Client, Usher, new_token, sign_up, usher
from tests.websocket.upgrades import (
    EXPIRED,
    UNAUTHENTICATED,
    UNAVAILABLE,
    ada,
    ada_in_a_browser,
    answer,
    closing,
    instance,
    refused,
)

__all__ = ["ada", "ada_in_a_browser", "instance"]

# ---- Origin before credential ----------------------------------------------------------------


FOREIGN = [
    "https://evil.example",
    "null",
    "",
    "http://app.example",
    "https://app.example.evil.example",
    "https://evil.example/https://app.example",
    "https://app.example:8443",
    "https://evil-app.example",
    "https://app.example@evil.example",
    "https://app.example, https://evil.example",
    "file://",
    "app.example",
    "*",
]


@pytest.mark.parametrize("origin", FOREIGN)
def test_a_foreign_origin_is_refused(instance: Usher, origin: str) -> None:
    response = refused(instance, [("Origin", origin)])
    assert (response.status, response.problem["code"]) == (403, "origin_refused")


@pytest.mark.parametrize("origin", ["https://evil.example", "null"])
def test_a_foreign_origin_is_refused_whatever_the_credential(
    instance: Usher, ada: Client, ada_in_a_browser: Client, origin: str
) -> None:
    foreign = ("Origin", origin)
    assert refused(instance, by_cookie(ada_in_a_browser, origin)).status == 403
    for headers in (by_header(ada.token), by_subprotocol(ada.token), by_header("rubbish")):
        assert refused(instance, [*headers, foreign]).status == 403


def test_a_foreign_origin_does_not_use_up_a_ticket(instance: Usher, ada: Client) -> None:
    target = f"/ws?ticket={ada.ticket()}"
    for _ in range(3):
        assert refused(instance, [("Origin", "https://evil.example")], target).status == 403
    with joined(instance, target=target):
        pass


def test_a_foreign_origin_does_not_replace_the_holder_of_a_token(
    instance: Usher, ada: Client
) -> None:
    token = new_token(ada)
    with joined(instance, by_header(token)) as holder:
        headers = [*by_subprotocol(token), ("Origin", "https://evil.example")]
        assert refused(instance, headers).status == 403
        holder.lives()


def test_a_second_origin_does_not_hide_the_first(instance: Usher) -> None:
    for pair in ((instance.url, "https://evil.example"), ("https://evil.example", instance.url)):
        assert refused(instance, [("Origin", origin) for origin in pair]).status == 403


@pytest.mark.parametrize("name", ["Host", "X-Forwarded-Host", "Forwarded", "X-Original-Host"])
def test_a_forged_host_header_makes_no_origin_own(instance: Usher, name: str) -> None:
    value = "host=evil.example;proto=https" if name == "Forwarded" else "evil.example"
    for origin in ("https://evil.example", "http://evil.example"):
        headers = [("Origin", origin), (name, value), ("X-Forwarded-Proto", "https")]
        assert refused(instance, headers).status == 403


# ---- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["Bearer rubbish", "Bearer", "", "Basic eDp5", "Bearer a.b.c"])
def test_a_header_that_is_invalid_is_refused_with_401(instance: Usher, value: str) -> None:
    response = refused(instance, [("Authorization", value)])
    assert (response.status, response.problem["code"]) == (401, "unauthenticated")
    assert response.headers["www-authenticate"].startswith("Bearer")


def test_an_expired_token_in_the_header_is_refused_with_401(instance: Usher, ada: Client) -> None:
    assert refused(instance, by_header(expired(ada.token))).status == 401


def test_an_expired_token_elsewhere_closes_with_4419(instance: Usher, ada: Client) -> None:
    token = expired(ada.token)
    assert closing(instance, by_subprotocol(token)) == EXPIRED
    assert closing(instance, then=event("user-join", None, {"auth": {"token": token}})) == EXPIRED


def test_an_expired_forgery_is_only_a_forgery(instance: Usher, ada: Client) -> None:
    now = time.time()
    token = forged(ada.token, secret="x" * 40, iat=now - 100, exp=now - 1)
    assert closing(instance, by_subprotocol(token)) == UNAUTHENTICATED


def test_a_token_elsewhere_that_is_invalid_closes_with_4401(instance: Usher) -> None:
    assert closing(instance, by_subprotocol("rubbish")) == UNAUTHENTICATED
    assert closing(instance, by_subprotocol("")) == UNAUTHENTICATED
    assert closing(instance, target="/ws?ticket=rubbish") == UNAUTHENTICATED
    assert closing(instance, target="/ws?ticket=") == UNAUTHENTICATED


def test_after_a_logout_nothing_of_the_session_opens_a_socket(instance: Usher) -> None:
    client = sign_up(instance)
    ticket = client.ticket()
    assert client.post("/api/auth/logout").status == 204
    assert refused(instance, by_header(client.token)).status == 401
    assert closing(instance, by_subprotocol(client.token)) == UNAUTHENTICATED
    assert closing(instance, target=f"/ws?ticket={ticket}") == UNAUTHENTICATED
    then = event("user-join", None, {"auth": {"token": client.token}})
    assert closing(instance, then=then) == UNAUTHENTICATED
    headers = [("Cookie", f"access_token={client.token}"), ("Origin", instance.url)]
    assert closing(instance, headers) == UNAUTHENTICATED


def test_a_refused_socket_takes_nothing_any_more(instance: Usher, ada: Client) -> None:
    then = event("user-join", "late", {"auth": {"token": ada.token}})
    assert closing(instance, target="/ws?ticket=rubbish", then=then) == UNAUTHENTICATED


# ---- no handshake ----------------------------------------------------------------------------


def test_a_plain_get_is_answered_upgrade_required(instance: Usher) -> None:
    response = answer(instance, handshake(drop=("Upgrade", "Connection")))
    assert (response.status, response.problem["code"]) == (426, "upgrade_required")
    assert response.headers["upgrade"] == "websocket"
    assert response.headers["connection"] == "Upgrade, close", "RFC 9110 section 7.8"
    assert response.headers["sec-websocket-version"] == "13"
    assert parsedate_to_datetime(response.headers["date"]).tzinfo is not None


def test_an_absolute_target_is_served_as_any_other(instance: Usher) -> None:
    # RFC 9112 section 3.2.2: a server has to take it, and its host counts instead of Host.
    native = sign_up(instance)
    with RawClient(instance) as client:
        client.send(handshake(f"http://127.0.0.1:{instance.port}/ws", by_header(native.token)))
        assert client.head().status == 101
    plain = b"GET http://127.0.0.1/healthz HTTP/1.1\r\nHost: elsewhere\r\nConnection: close\r\n\r\n"
    assert answer(instance, plain).status == 200


@pytest.mark.parametrize("target", [b"http://", b"http:///ws", b"http://me@127.0.0.1/ws"])
def test_an_absolute_target_without_a_plain_host_is_refused(instance: Usher, target: bytes) -> None:
    assert answer(instance, b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n").status == 400


@pytest.mark.parametrize("method", [b"POST", b"OPTIONS", b"DELETE", b"BREW", b"get"])
def test_another_method_opens_nothing(instance: Usher, method: bytes) -> None:
    assert answer(instance, handshake().replace(b"GET", method, 1)).status in (400, 426)


def test_a_head_request_gets_the_same_without_a_body(instance: Usher) -> None:
    with RawClient(instance) as client:
        client.send(handshake().replace(b"GET", b"HEAD", 1))
        assert client.head().status == 426
        assert client.is_at_end()


@pytest.mark.parametrize("version", ["0", "8", "14", "13.0", "thirteen"])
def test_another_version_of_websocket_is_answered_with_the_supported_one(
    instance: Usher, version: str
) -> None:
    response = refused(instance, [("Sec-WebSocket-Version", version)])
    assert response.status == 426
    assert response.headers["sec-websocket-version"] == "13"


@pytest.mark.parametrize("key", ["", "short", KEY[:-1], "A" * 24, "!" * 24, KEY * 20])
def test_an_invalid_key_is_refused(instance: Usher, key: str) -> None:
    assert refused(instance, [("Sec-WebSocket-Key", key)]).status == 400


def test_http_1_0_is_refused(instance: Usher) -> None:
    assert answer(instance, handshake().replace(b"HTTP/1.1", b"HTTP/1.0")).status == 400


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ([("Content-Length", "5")], b"hello"),
        ([("Content-Length", "5")], b""),
        ([("Transfer-Encoding", "chunked")], b"5\r\nhello\r\n0\r\n\r\n"),
        ([("Content-Length", "9" * 5000)], b""),
    ],
)
def test_a_handshake_with_a_body_is_refused(instance: Usher, headers: Headers, body: bytes) -> None:
    if instance.through_tornado:  # which reads the body before anybody may say no
        with RawClient(instance) as client:
            client.send(handshake(headers=headers) + body)
            if body:
                assert client.response().status == 400
            elif headers == [("Content-Length", "9" * 5000)]:
                assert client.response().status == 413
        return
    assert answer(instance, handshake(headers=headers) + body).status == 400


def test_a_handshake_names_one_host(instance: Usher) -> None:
    assert answer(instance, handshake(drop=["Host"])).status == 400
    if instance.through_tornado:  # which refuses two by itself, without a document
        two = [("Host", "one"), ("Host", "two")]
        assert answer(instance, handshake("/ws", two)).status == 400
        return
    assert refused(instance, [("Host", "one"), ("Host", "two")]).status == 400


def test_a_target_of_more_than_4_kib_is_refused(instance: Usher) -> None:
    assert refused(instance, target="/ws?x=" + "a" * 4096).status == 400


@pytest.mark.parametrize("target", ["/ws/", "/WS", "//ws", "/ws;x", "/wss", "/ws%3Fticket=x"])
def test_nothing_beside_the_address_is_a_socket(instance: Usher, target: str) -> None:
    with RawClient(instance) as client:
        client.send(handshake(target))
        assert client.response().status == 404


def test_a_valid_credential_does_not_open_a_socket_by_an_invalid_handshake(
    instance: Usher, ada: Client
) -> None:
    ticket = ada.ticket()
    target = f"/ws?ticket={ticket}"
    assert refused(instance, [("Sec-WebSocket-Version", "8")], target).status == 426
    assert refused(instance, [("Sec-WebSocket-Key", "short")], target).status == 400
    with joined(instance, target=target):  # and it was not used up by that
        pass


# ---- nothing to check against ----------------------------------------------------------------


@pytest.mark.slow
@on_postgresql  # SQLite's file does not go away
def test_without_a_store_no_join_is_admitted(database_kind: str) -> None:
    redis, postgres = RealRedis(), postgres_server()
    with usher(database_kind, REDIS_URL=redis.url, JWT_SECRETS=SECRET) as server:
        native, browser = sign_up(server), sign_up(server, browser=True)
        ticket = native.ticket()
        redis.close()
        postgres.kill()
        try:
            response = refused(server, by_header(native.token))
            assert (response.status, response.problem["code"]) == (503, "unavailable")
            assert closing(server, by_subprotocol(native.token)) == UNAVAILABLE
            assert closing(server, target=f"/ws?ticket={ticket}") == UNAVAILABLE
            assert closing(server, by_cookie(browser)) == UNAVAILABLE
            then = event("user-join", None, {"auth": {"token": native.token}})
            assert closing(server, then=then) == UNAVAILABLE
            # Checks that need no store still have their own errors.
            assert refused(server, by_header("rubbish")).status == 401
            assert closing(server, by_subprotocol(expired(native.token))) == EXPIRED
        finally:
            postgres.start()
