"""Who a socket is: a second user-join, token-refresh, expiry, and one socket for one token."""

from __future__ import annotations

import time
from itertools import permutations

import pytest

from tests.support.raw import (
    RawClient,
    by_cookie,
    by_header,
    by_subprotocol,
    claims_of,
    ending_of,
    event,
    expired,
    forged,
    joined,
)
from tests.support.server import Client, Usher, log_in, new_token, sign_up, wait_until
from tests.websocket.sockets import ada, ben, ends, hasty, installation, join_frame, refusal

__all__ = ["ada", "ben", "hasty", "installation"]

ERRORS = {
    "unknown_event",
    "bad_request",
    "unauthenticated",
    "token_expired",
    "identity_mismatch",
}


def test_the_same_user_may_join_again(installation: Usher, ada: Client) -> None:
    with joined(installation, by_header(ada.token)) as client:
        newer = new_token(ada)
        reply = client.ask("user-join", {"auth": {"token": newer}})
        expected = client.joined | {"expires_at": claims_of(newer)["exp"]}
        assert reply["data"] == expected
        client.lives()


def test_another_user_may_not_join_on_the_same_socket(
    installation: Usher, ada: Client, ben: Client
) -> None:
    with (
        joined(installation, by_header(ben.token)) as his,
        joined(installation, by_header(ada.token)) as client,
    ):
        reply = client.ask("user-join", {"auth": {"token": ben.token}})
        refusal(reply, "identity_mismatch")
        client.lives()
        his.lives()  # the holder of the token that was tried is not replaced
        again = client.ask("user-join", {"auth": {"token": ada.token}})
        assert again["data"] == client.joined


def test_another_users_ticket_may_not_either(installation: Usher, ada: Client, ben: Client) -> None:
    with joined(installation, by_header(ada.token)) as client:
        refusal(client.ask("user-join", {"auth": {"token": ben.ticket()}}), "identity_mismatch")
        client.lives()


def test_a_second_user_join_that_is_refused_leaves_the_socket_as_it_was(
    installation: Usher, ada: Client
) -> None:
    with joined(installation, by_header(ada.token)) as client:
        for credential, code in (("rubbish", "unauthenticated"), (expired(ada.token),) * 2):
            reply = client.ask("user-join", {"auth": {"token": credential}})
            refusal(reply, code if code in ERRORS else "token_expired")
        client.lives()


def test_a_newer_token_is_accepted(installation: Usher, ada: Client) -> None:
    with joined(installation, by_header(forged(ada.token, exp=time.time() + 100))) as client:
        newer = new_token(ada)
        reply = client.ask("token-refresh", {"token": newer})
        assert reply == {
            "event": "reply",
            "id": "ask",
            "ok": True,
            "data": {"expires_at": claims_of(newer)["exp"]},
        }


def test_a_ticket_of_the_session_is_accepted_once(installation: Usher, ada: Client) -> None:
    ticket = ada.ticket()
    with joined(installation, by_header(ada.token)) as client:
        reply = client.ask("token-refresh", {"token": ticket})
        assert reply["data"] == {"expires_at": claims_of(ada.token)["exp"]}
        refusal(client.ask("token-refresh", {"token": ticket}), "unauthenticated")
        client.lives()


def test_a_token_of_another_user_or_login_session_is_not(installation: Usher, ben: Client) -> None:
    mail = "cleo@example.org"
    cleo = sign_up(installation, email=mail)
    elsewhere = log_in(installation, mail)
    with joined(installation, by_header(cleo.token)) as client:
        for credential in (ben.token, elsewhere.token, ben.ticket(), elsewhere.ticket()):
            refusal(client.ask("token-refresh", {"token": credential}), "identity_mismatch")
        for credential in ("rubbish", "", forged(cleo.token, secret="x" * 40)):
            refusal(client.ask("token-refresh", {"token": credential}), "unauthenticated")
        refusal(client.ask("token-refresh", {"token": expired(cleo.token)}), "token_expired")
        for data in (None, {}, {"token": None}, {"auth": {"token": cleo.token}}):
            refusal(client.ask("token-refresh", data), "bad_request")
        client.lives()


def test_after_a_refused_refresh_the_old_token_continues_to_its_end(
    installation: Usher, ada: Client, ben: Client
) -> None:
    exp = time.time() + 0.8
    with joined(installation, by_header(forged(ada.token, iat=exp - 100, exp=exp))) as client:
        assert client.event() == {"event": "token-expiring", "data": {"expires_at": exp}}
        refusal(client.ask("token-refresh", {"token": ben.token}), "identity_mismatch")
        ends(client.ending(), 4419, "token_expired", "refresh")
        assert time.time() >= exp


def test_a_refreshed_token_takes_its_place_as_the_one_that_holds_the_socket(
    installation: Usher, ada: Client
) -> None:
    old = new_token(ada)
    with joined(installation, by_header(old)) as client:
        newer = new_token(ada)
        assert client.ask("token-refresh", {"token": newer})["ok"] is True
        with joined(installation, by_header(old)):
            client.lives()  # it holds the newer one now
        with joined(installation, by_header(newer)):
            ends(client.ending(), 4409, "replaced", "never")


def test_a_revoked_token_does_not_refresh_a_socket(installation: Usher) -> None:
    mail = "dora@example.org"
    dora = sign_up(installation, email=mail)
    with joined(installation, by_header(dora.token)) as client:
        assert dora.post("/api/auth/logout").status == 204
        client.socket.sendall(event("token-refresh", 1, {"token": dora.token}))
        ends(client.ending(), 4410, "session_revoked", "login")


def test_a_short_lived_token_is_announced_at_half_its_life_and_then_closed(hasty: Usher) -> None:
    client = sign_up(hasty)
    claims = claims_of(client.token)
    with joined(hasty, by_header(client.token)) as socket:
        assert socket.event() == {
            "event": "token-expiring",
            "data": {"expires_at": claims["exp"]},
        }
        assert claims["iat"] + 0.7 < time.time()
        ends(socket.ending(), 4419, "token_expired", "refresh")
        assert time.time() >= claims["exp"]


def test_a_token_within_its_last_minute_is_announced_at_once(
    installation: Usher, ada: Client
) -> None:
    now = time.time()
    with joined(installation, by_header(forged(ada.token, iat=now - 800, exp=now + 50))) as client:
        assert client.event() == {"event": "token-expiring", "data": {"expires_at": now + 50}}


def test_a_token_with_more_than_a_minute_left_is_not_announced_yet(
    installation: Usher, ada: Client
) -> None:
    now = time.time()
    with joined(
        installation, by_header(forged(ada.token, iat=now - 800, exp=now + 61.2))
    ) as client:
        client.lives()
        notice = client.event()
        assert notice["event"] == "token-expiring"
        assert time.time() >= now + 1.1


def test_a_refresh_carries_the_socket_over_the_end_of_its_token(
    installation: Usher, ada: Client
) -> None:
    exp = time.time() + 1
    with joined(installation, by_header(forged(ada.token, iat=exp - 100, exp=exp))) as client:
        assert client.event()["event"] == "token-expiring"
        assert client.ask("token-refresh", {"token": ada.token})["ok"] is True
        wait_until(lambda: time.time() > exp + 0.1)
        client.lives()


@pytest.mark.parametrize("way", ["ticket", "cookie", "user-join"])
def test_every_kind_of_credential_ends_with_its_token(hasty: Usher, way: str) -> None:
    client = sign_up(hasty, browser=way == "cookie")
    headers = by_cookie(client) if way == "cookie" else []
    target = f"/ws?ticket={client.ticket()}" if way == "ticket" else "/ws"
    end = ending_of(hasty, headers, target, join_frame(client.token) if way == "user-join" else b"")
    assert [e["event"] for e in end.events] == ["joined", "token-expiring", "closing"]
    ends(end, 4419, "token_expired", "refresh")


def open_by(client: RawClient, way: str, token: str) -> None:
    """Join by this way, and read until joined."""
    if way == "user-join":
        client.upgrade(then=join_frame(token))
    else:
        client.upgrade("/ws", by_header(token) if way == "header" else by_subprotocol(token))
    assert client.event()["event"] == "joined"


@pytest.mark.parametrize(("one", "two"), [*permutations(("header", "subprotocol", "user-join"), 2)])
def test_a_bearer_token_on_a_second_socket_closes_the_first(
    installation: Usher, ada: Client, one: str, two: str
) -> None:
    token = new_token(ada)
    with RawClient(installation) as first, RawClient(installation) as second:
        open_by(first, one, token)
        open_by(second, two, token)
        ends(first.ending(), 4409, "replaced", "never")
        second.lives()


def test_only_the_holder_of_that_token_is_replaced(installation: Usher, ada: Client) -> None:
    old, newer = new_token(ada), new_token(ada)
    with (
        joined(installation, by_header(old)) as first,
        joined(installation, target=f"/ws?ticket={ada.ticket()}") as by_ticket,
        joined(installation, by_header(newer)) as second,
    ):
        first.lives()
        by_ticket.lives()
        second.lives()


def test_a_cookie_opens_one_socket_for_each_tab(installation: Usher) -> None:
    browser = sign_up(installation, browser=True)
    with (
        joined(installation, by_cookie(browser)) as one,
        joined(installation, by_cookie(browser)) as two,
        joined(installation, by_cookie(browser)) as three,
    ):
        for tab in (one, two, three):
            tab.lives()


def test_tickets_of_one_token_open_one_socket_each(installation: Usher, ada: Client) -> None:
    with (
        joined(installation, target=f"/ws?ticket={ada.ticket()}") as one,
        joined(installation, target=f"/ws?ticket={ada.ticket()}") as two,
        joined(installation, by_header(ada.token)) as three,
    ):
        for socket in (one, two, three):
            socket.lives()


def test_a_released_token_may_be_bound_again(installation: Usher, ada: Client) -> None:
    token = new_token(ada)
    for _ in range(3):
        with joined(installation, by_header(token)) as client:
            client.lives()
