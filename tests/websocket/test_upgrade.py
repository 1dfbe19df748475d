"""websocket/upgrade.py on the wire: the five ways in, the Origin before them, and refusals."""

from __future__ import annotations

import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime

import pytest

from tests.support.databases import on_postgresql
from tests.support.postgres import postgres_server
from tests.support.raw import (
    ACCEPT,
    CLOSE,
    KEY,
    SECRET,
    Headers,
    RawClient,
    Response,
    by_cookie,
    by_header,
    by_subprotocol,
    claims_of,
    ending_of,
    event,
    expired,
    forged,
    frame,
    free_port,
    handshake,
    joined,
    quiet_usher,
)
from tests.support.redis import RealRedis
from tests.support.server import (
    PASSWORD,
    Client,
    Usher,
    address,
    log_in,
    new_token,
    sign_up,
    usher,
    wait_until,
)

ALLOWED = "https://app.example"
UNAUTHENTICATED = {"code": 4401, "reason": "unauthenticated", "retry": "login"}
BAD_REQUEST = {"code": 4400, "reason": "bad_request", "retry": "never"}
EXPIRED = {"code": 4419, "reason": "token_expired", "retry": "refresh"}
UNAVAILABLE = {"code": 4503, "reason": "unavailable", "retry": "backoff"}


@pytest.fixture(scope="module")
def instance(socket_kind: str) -> Iterator[Usher]:
    settings = {"ALLOWED_ORIGINS": ALLOWED, "MESSAGE_RATE": 10_000}
    with quiet_usher(socket_kind, JWT_SECRETS=SECRET, **settings) as server:
        yield server


@pytest.fixture(scope="module")
def ada(instance: Usher) -> Client:
    """A native client."""
    return sign_up(instance, email="ada@example.org")


@pytest.fixture(scope="module")
def ada_in_a_browser(instance: Usher, ada: Client) -> Client:
    """Another login session of the same user."""
    return log_in(instance, "ada@example.org", browser=True)


def answer(server: Usher, request: bytes) -> Response:
    """The HTTP response, after which the connection has to be closed."""
    with RawClient(server) as client:
        client.send(request)
        response = client.response()
        assert client.is_at_end(), response
        return response


def refused(server: Usher, headers: Headers = (), target: str = "/ws") -> Response:
    """A handshake that is refused by HTTP, with a problem document."""
    response = answer(server, handshake(target, headers))
    assert response.status >= 400, response
    assert response.problem["status"] == response.status
    assert response.headers["connection"].endswith("close")
    assert response.headers["cache-control"] == "no-store"
    return response


def closing(
    server: Usher, headers: Headers = (), target: str = "/ws", then: bytes = b""
) -> dict[str, object]:
    """The data of `closing` of a socket that is accepted only to be closed."""
    end = ending_of(server, headers, target, then)
    assert len(end.events) == 1, end
    assert (end.code, end.reason) == (end.closing["code"], end.closing["reason"])
    return dict(end.closing)


def waits_for_user_join(server: Usher, headers: Headers, token: str | None) -> None:
    """Nothing was looked at: the socket is open, and `user-join` decides."""
    with RawClient(server) as client:
        client.upgrade("/ws", headers)
        assert client.ask("user-join", {"auth": {"token": token}})["ok"] is True


# ---- the five ways ---------------------------------------------------------------------------


def test_a_token_in_the_header_joins(instance: Usher, ada: Client) -> None:
    with RawClient(instance) as client:
        response = client.upgrade("/ws", by_header(ada.token))
        assert response.headers == {
            "upgrade": "websocket",
            "connection": "Upgrade",
            "sec-websocket-accept": ACCEPT,
        }
        assert client.event()["data"]["user"]["id"] == ada.user["id"]


def test_a_token_among_the_subprotocols_joins_and_is_not_echoed(
    instance: Usher, ada: Client
) -> None:
    with RawClient(instance) as client:
        response = client.upgrade("/ws", by_subprotocol(ada.token))
        assert response.headers["sec-websocket-protocol"] == "usher.v1"
        assert str(ada.token) not in str(response)
        assert client.event()["data"]["user"]["id"] == ada.user["id"]


def test_a_ticket_joins_as_its_login_session(instance: Usher, ada: Client) -> None:
    with joined(instance, target=f"/ws?ticket={ada.ticket()}") as client:
        assert client.joined["user"]["id"] == ada.user["id"]
        assert client.joined["expires_at"] == claims_of(ada.token)["exp"]


@pytest.mark.parametrize("origin", [None, ALLOWED])
def test_a_cookie_joins_from_the_own_and_from_an_allowed_origin(
    instance: Usher, ada_in_a_browser: Client, origin: str | None
) -> None:
    with joined(instance, by_cookie(ada_in_a_browser, origin)) as client:
        assert client.joined["user"]["id"] == ada_in_a_browser.user["id"]


def test_without_a_credential_user_join_decides(instance: Usher, ada: Client) -> None:
    waits_for_user_join(instance, [], ada.token)


def test_a_credential_may_come_with_an_own_origin_or_without_one(
    instance: Usher, ada: Client
) -> None:
    for origin in (instance.url, ALLOWED):
        with joined(instance, [*by_header(ada.token), ("Origin", origin)]):
            pass
        with joined(instance, [("Origin", origin)], f"/ws?ticket={ada.ticket()}"):
            pass


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


# ---- the cookie ------------------------------------------------------------------------------


def test_a_cookie_without_an_origin_is_not_looked_at(
    instance: Usher, ada: Client, ada_in_a_browser: Client
) -> None:
    good = by_cookie(ada_in_a_browser)[:1]
    # Neither taken, nor compared with what user-join brings, nor refused when it is no good.
    waits_for_user_join(instance, good, ada.token)
    waits_for_user_join(instance, [("Cookie", "access_token=rubbish")], ada.token)
    with joined(instance, [*good, *by_header(ada.token)]) as client:
        assert client.joined["expires_at"] == claims_of(ada.token)["exp"]


def test_a_cookie_that_is_invalid_closes_with_4401(instance: Usher) -> None:
    headers = [("Cookie", "access_token=rubbish"), ("Origin", instance.url)]
    assert closing(instance, headers) == UNAUTHENTICATED


def test_an_expired_cookie_closes_with_4419(instance: Usher, ada: Client) -> None:
    headers = [("Cookie", f"access_token={expired(ada.token)}"), ("Origin", instance.url)]
    assert closing(instance, headers) == EXPIRED


def test_on_https_only_the_cookie_with_the_host_prefix_counts(socket_kind: str) -> None:
    url, port = "https://usher.example", free_port()
    with quiet_usher(socket_kind, PUBLIC_URL=url, PORT=port) as server:
        server.url = f"http://127.0.0.1:{port}"  # as the proxy in front of it reaches it
        client = Client(server)
        body = {"email": address(), "password": PASSWORD, "name": "Ada"}
        assert client.post("/api/auth/signup", body, Origin=url).status == 201
        token, origin = client.cookies["__Host-access_token"], ("Origin", url)
        with joined(server, [("Cookie", f"__Host-access_token={token}"), origin]):
            pass
        waits_for_user_join(server, [("Cookie", f"access_token={token}"), origin], token)
        assert refused(server, [("Origin", server.url)]).status == 403


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


# ---- tickets ---------------------------------------------------------------------------------


def test_a_ticket_opens_one_socket(instance: Usher, ada: Client) -> None:
    target = f"/ws?ticket={ada.ticket()}"
    with joined(instance, target=target) as first:
        assert closing(instance, target=target) == UNAUTHENTICATED
        first.lives()
    assert closing(instance, target=target) == UNAUTHENTICATED


def test_a_ticket_by_user_join_is_used_up_for_the_query_too(instance: Usher, ada: Client) -> None:
    ticket = ada.ticket()
    waits_for_user_join(instance, [], ticket)
    assert closing(instance, target=f"/ws?ticket={ticket}") == UNAUTHENTICATED


def test_a_ticket_that_waited_too_long_is_refused(socket_kind: str) -> None:
    with quiet_usher(socket_kind, TICKET_TTL_SECONDS=0.1) as server:
        client = sign_up(server)
        answered = client.post("/api/ws/ticket")
        assert answered.body["expires_in"] == 0.1
        end = time.time() + 0.15
        wait_until(lambda: time.time() > end)
        target = f"/ws?ticket={answered.body['ticket']}"
        assert closing(server, target=target) == UNAUTHENTICATED


def test_a_token_in_the_query_is_refused(instance: Usher, ada: Client) -> None:
    assert closing(instance, target=f"/ws?ticket={ada.token}") == UNAUTHENTICATED
    with joined(instance, by_header(ada.token)):
        pass  # it was the place that was wrong


@pytest.mark.parametrize("name", ["token", "access_token", "auth", "jwt"])
def test_a_token_in_the_query_is_not_accepted_by_any_other_name(
    instance: Usher, ada: Client, name: str
) -> None:
    with RawClient(instance) as client:
        client.upgrade(f"/ws?{name}={ada.token}")
        client.send(event("heartbeat"))
        assert client.ending().code == 4401


def test_a_ticket_is_no_bearer_token(instance: Usher, ada: Client) -> None:
    ticket = ada.ticket()
    assert refused(instance, by_header(ticket)).status == 401
    assert closing(instance, by_subprotocol(ticket)) == UNAUTHENTICATED


# ---- two credentials -------------------------------------------------------------------------


def test_two_explicit_credentials_close_with_4400(instance: Usher, ada: Client) -> None:
    header, offer = by_header(ada.token), by_subprotocol(ada.token)
    query = f"/ws?ticket={ada.ticket()}"
    double_offer = f"usher.v1, usher.bearer.{ada.token}, usher.bearer.{ada.token}"
    for headers, target in (
        (header + offer, "/ws"),
        (header, query),
        (offer, query),
        (header + header, "/ws"),
        ([("Sec-WebSocket-Protocol", double_offer)], "/ws"),
        ([], f"{query}&ticket={ada.ticket()}"),
        (header + offer, query),
        (by_header("rubbish"), query),
    ):
        assert closing(instance, headers, target) == BAD_REQUEST


def test_an_explicit_credential_may_come_with_the_cookie_of_its_session(instance: Usher) -> None:
    browser = sign_up(instance, browser=True)
    cookie, token = by_cookie(browser), browser.cookies["access_token"]
    for headers, target in (
        (by_header(token), "/ws"),
        (by_subprotocol(token), "/ws"),
        ([], f"/ws?ticket={browser.ticket()}"),
    ):
        with joined(instance, cookie + headers, target) as client:
            assert client.joined["user"]["id"] == browser.user["id"]


def test_the_explicit_credential_is_the_one_that_counts(instance: Usher) -> None:
    browser = sign_up(instance, browser=True)
    cookie = by_cookie(browser)
    assert closing(instance, cookie, "/ws?ticket=rubbish") == UNAUTHENTICATED
    assert closing(instance, cookie + by_subprotocol("rubbish")) == UNAUTHENTICATED
    assert refused(instance, cookie + by_header("rubbish")).status == 401
    old, ticket = cookie, browser.ticket()
    assert browser.post("/api/auth/refresh").status == 200
    with joined(instance, old, f"/ws?ticket={ticket}"):
        pass


def test_an_explicit_credential_with_the_cookie_of_another_session_closes_with_4400(
    instance: Usher, ada: Client, ada_in_a_browser: Client
) -> None:
    other_user = sign_up(instance, browser=True)
    for other in (ada_in_a_browser, other_user):  # the same user's other session, and another user
        cookie = by_cookie(other)
        assert closing(instance, cookie + by_header(ada.token)) == BAD_REQUEST
        assert closing(instance, cookie + by_subprotocol(ada.token)) == BAD_REQUEST
        assert closing(instance, cookie, f"/ws?ticket={ada.ticket()}") == BAD_REQUEST


def test_an_expired_cookie_still_identifies_its_user(
    instance: Usher, ada: Client, ada_in_a_browser: Client
) -> None:
    def with_cookie(token: str | None) -> list[tuple[str, str]]:
        return [("Cookie", f"access_token={token}"), ("Origin", instance.url)]

    with joined(instance, by_header(ada.token) + with_cookie(expired(ada.token))):
        pass
    other = expired(ada_in_a_browser.cookies["access_token"])
    assert closing(instance, by_header(ada.token) + with_cookie(other)) == BAD_REQUEST


def test_two_sessions_do_not_replace_the_holder_of_a_token(
    instance: Usher, ada_in_a_browser: Client
) -> None:
    native = sign_up(instance)
    with joined(instance, by_header(native.token)) as holder:
        headers = by_cookie(ada_in_a_browser) + by_subprotocol(native.token)
        assert closing(instance, headers) == BAD_REQUEST
        holder.lives()


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


# ---- what was sent early ---------------------------------------------------------------------


def test_frames_sent_early_behind_the_handshake_are_answered(instance: Usher, ada: Client) -> None:
    beats = b"".join(event("heartbeat", number) for number in range(3000))
    with RawClient(instance) as client:
        client.upgrade("/ws", by_header(ada.token), then=beats)
        assert client.event()["event"] == "joined"
        assert [client.event()["id"] for _ in range(3000)] == list(range(3000))


def test_a_user_join_sent_early_is_answered_first(instance: Usher, ada: Client) -> None:
    then = event("user-join", 1, {"auth": {"token": ada.token}}) + event("heartbeat", 2)
    with RawClient(instance) as client:
        client.upgrade(then=then)
        assert client.event()["data"]["user"]["id"] == ada.user["id"]
        assert client.event()["id"] == 2


def test_a_big_frame_sent_early_is_accepted_whole(instance: Usher, ada: Client) -> None:
    then = event("heartbeat", "x" * 60_000)
    with RawClient(instance) as client:
        client.upgrade("/ws", by_header(ada.token), then=then)
        assert client.event()["event"] == "joined"
        assert client.event()["id"] == "x" * 60_000


def test_half_a_frame_sent_early_waits_for_its_rest(instance: Usher, ada: Client) -> None:
    whole = event("user-join", 1, {"auth": {"token": ada.token}})
    with RawClient(instance) as client:
        client.upgrade(then=whole[:3])
        client.send(whole[3:])
        assert client.event()["ok"] is True


def test_a_close_sent_early_is_answered(instance: Usher, ada: Client) -> None:
    then = frame((1000).to_bytes(2, "big"), CLOSE)
    end = ending_of(instance, by_header(ada.token), then=then)
    # Tornado reads the close at once; `joined` leaves a moment after the 101, and so not any more.
    events = [] if instance.through_tornado else ["joined"]
    assert (end.code, [e["event"] for e in end.events]) == (1000, events)


def test_a_handshake_may_come_a_byte_at_a_time(instance: Usher, ada: Client) -> None:
    with RawClient(instance) as client:
        for byte in handshake("/ws", by_header(ada.token)):
            client.send(bytes((byte,)))
        assert client.response().status == 101
        assert client.event()["event"] == "joined"


def test_a_socket_may_come_behind_a_request_on_the_same_connection(
    instance: Usher, ada: Client
) -> None:
    with RawClient(instance) as client:
        plain = b"GET /healthz HTTP/1.1\r\nHost: usher.test\r\n\r\n"
        client.send(plain + handshake("/ws", by_header(ada.token)) + event("heartbeat", 1))
        assert client.response().status == 200
        assert client.response().status == 101
        assert client.event()["event"] == "joined"
        assert client.event()["id"] == 1


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
