"""websocket/upgrade.py on the wire: the five ways in, two credentials, and what is sent early."""

from __future__ import annotations

import time

import pytest

from tests.support.raw import (
    ACCEPT,
    CLOSE,
    RawClient,
    by_cookie,
    by_header,
    by_subprotocol,
    claims_of,
    ending_of,
    event,
    expired,
    frame,
    free_port,
    handshake,
    joined,
    quiet_usher,
)
from tests.support.server import PASSWORD, Client, Usher, address, sign_up, wait_until
from tests.websocket.upgrades import (
    ALLOWED,
    BAD_REQUEST,
    EXPIRED,
    UNAUTHENTICATED,
    ada,
    ada_in_a_browser,
    closing,
    instance,
    refused,
    waits_for_user_join,
)

__all__ = ["ada", "ada_in_a_browser", "instance"]

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
