"""websocket/socket.py on the wire: joining, heartbeats, and sockets that do not join."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from tests.support.raw import (
    PING,
    PONG,
    RawClient,
    by_header,
    claims_of,
    ending_of,
    event,
    expired,
    forged,
    frame,
    joined,
)
from tests.support.server import Client, Usher, new_token, sign_up, wait_until
from tests.websocket.sockets import KIB, ada, ends, hasty, installation, join_frame, refusal

__all__ = ["ada", "hasty", "installation"]

# ---- joining ---------------------------------------------------------------------------------


def test_joined_is_exactly_as_the_contract_has_it(installation: Usher, ada: Client) -> None:
    with RawClient(installation) as client:
        client.upgrade("/ws", by_header(ada.token))
        first = client.event()
    assert set(first) == {"event", "data"}
    assert first["event"] == "joined"
    data = first["data"]
    assert isinstance(data.pop("session_id"), str)
    assert data == {
        "user": {"id": ada.user["id"], "name": "Ada", "role": ada.user["role"]},
        "rooms": [f"user:{ada.user['id']}"],
        "expires_at": claims_of(ada.token)["exp"],
    }


def test_user_join_with_an_id_gets_a_reply_and_no_event(installation: Usher, ada: Client) -> None:
    with RawClient(installation) as client:
        client.upgrade()
        reply = client.ask("user-join", {"auth": {"token": ada.token}}, "first")
        assert set(reply) == {"event", "id", "ok", "data"}
        assert reply["ok"] is True
        assert set(reply["data"]) == {"session_id", "user", "rooms", "expires_at"}
        client.lives()  # the very next frame is the reply to this


def test_user_join_without_an_id_gets_the_event_and_no_reply(
    installation: Usher, ada: Client
) -> None:
    with RawClient(installation) as client:
        client.upgrade(then=join_frame(ada.token))
        first = client.event()
        assert (first["event"], first["data"]["user"]["id"]) == ("joined", ada.user["id"])
        client.lives()


def test_every_socket_has_a_session_of_its_own(installation: Usher, ada: Client) -> None:
    with (
        joined(installation, target=f"/ws?ticket={ada.ticket()}") as one,
        joined(installation, target=f"/ws?ticket={ada.ticket()}") as two,
    ):
        assert one.joined["session_id"] != two.joined["session_id"]


def test_a_ticket_may_be_given_by_user_join(installation: Usher, ada: Client) -> None:
    with RawClient(installation) as client:
        client.upgrade(then=join_frame(ada.ticket(), 1))
        assert client.event()["data"]["user"]["id"] == ada.user["id"]


def test_a_refused_user_join_gets_an_error_and_closing_and_is_closed(
    installation: Usher, ada: Client
) -> None:
    for credential, code, end in (
        ("rubbish", "unauthenticated", (4401, "unauthenticated", "login")),
        (expired(ada.token), "token_expired", (4419, "token_expired", "refresh")),
        (forged(ada.token, aud="x"), "unauthenticated", (4401, "unauthenticated", "login")),
    ):
        with RawClient(installation) as client:
            client.upgrade(then=join_frame(credential, 7))
            refusal(client.event(), code)
            ends(client.ending(), *end)


NO_CREDENTIALS: list[tuple[Any, str]] = [
    (None, "data: Object missing required field `auth`"),  # no data at all
    ({}, "data: Object missing required field `auth`"),
    ({"auth": {}}, "data.auth: Object missing required field `token`"),
    ({"auth": {"token": 1}}, "data.auth.token: Expected `str`, got `int`"),
    ({"auth": {"token": None}}, "data.auth.token: Expected `str`, got `null`"),
    ([], "data: Expected `object`, got `array`"),
    ("x", "data: Expected `object`, got `str`"),
    (1, "data: Expected `object`, got `int`"),
]


@pytest.mark.parametrize(("data", "message"), NO_CREDENTIALS)
def test_a_user_join_without_a_credential_closes_the_socket_at_once(
    installation: Usher, data: Any, message: str
) -> None:
    with RawClient(installation) as client:
        client.upgrade()
        reply = client.ask("user-join", data)
        refusal(reply, "bad_request")
        assert reply["error"]["message"] == message
        ends(client.ending(), 4401, "unauthenticated", "login")


def test_an_empty_credential_ends_the_socket_at_once_too(installation: Usher) -> None:
    with RawClient(installation) as client:
        client.upgrade(then=join_frame("", 7))
        refusal(client.event(), "unauthenticated")
        ends(client.ending(), 4401, "unauthenticated", "login")


@pytest.mark.parametrize(("data", "message"), NO_CREDENTIALS)
def test_a_joined_socket_survives_a_user_join_without_a_credential(
    installation: Usher, ada: Client, data: Any, message: str
) -> None:
    with RawClient(installation) as client:
        client.upgrade(then=join_frame(new_token(ada), 7))
        assert client.event()["ok"] is True
        assert client.ask("user-join", data)["error"]["message"] == message
        assert client.ask("heartbeat")["ok"] is True


WRONG_MEMBERS: list[tuple[str, Any, str]] = [
    ("message", {"room": "channel:x"}, "data: Object missing required field `data`"),
    ("message", {"data": 1}, "data: Object missing required field `room`"),
    ("message", {"room": 1, "data": 1}, "data.room: Expected `str`, got `int`"),
    ("token-refresh", {}, "data: Object missing required field `token`"),
    ("join", {"room": None}, "data.room: Expected `str`, got `null`"),
    ("leave", [], "data: Expected `object`, got `array`"),
    ("typing", {}, "data: Object missing required field `room`"),
    ("presence", {"room": {}}, "data.room: Expected `str`, got `object`"),
    ("usage", {"model": 1}, "data.model: Expected `str`, got `int`"),
    ("history", {"room": "channel:x", "after": 1}, "data.after: Expected `str | null`, got `int`"),
]


@pytest.mark.parametrize(("name", "data", "message"), WRONG_MEMBERS)
def test_every_bad_request_error_names_the_member(
    installation: Usher, ada: Client, name: str, data: Any, message: str
) -> None:
    with RawClient(installation) as client:
        client.upgrade(then=join_frame(new_token(ada), 7))
        assert client.event()["ok"] is True
        reply = client.ask(name, data)
        refusal(reply, "bad_request")
        assert reply["error"]["message"] == message


def test_a_message_may_say_null_but_not_nothing(installation: Usher, ada: Client) -> None:
    with RawClient(installation) as client:
        client.upgrade(then=join_frame(new_token(ada), 7))
        assert client.event()["ok"] is True
        # Whether it may be said is looked at after whether it is something.
        said = client.ask("message", {"room": "channel:none", "data": None})
        assert said["error"]["code"] == "forbidden"


def test_of_two_user_joins_in_one_breath_both_are_answered_in_order(
    installation: Usher, ada: Client
) -> None:
    with RawClient(installation) as client:
        client.upgrade(then=join_frame(ada.token, 1) + join_frame(ada.token, 2))
        first, second = client.event(), client.event()
        assert [(r["id"], r["ok"]) for r in (first, second)] == [(1, True), (2, True)]
        assert first["data"]["session_id"] == second["data"]["session_id"]


# ---- heartbeat -------------------------------------------------------------------------------


def test_a_heartbeat_reply_has_the_servers_time(installation: Usher, ada: Client) -> None:
    with joined(installation, by_header(ada.token)) as client:
        before = time.time()
        reply = client.ask("heartbeat")
        assert set(reply) == {"event", "id", "ok", "data"}
        assert set(reply["data"]) == {"server_time"}
        assert before <= reply["data"]["server_time"] <= time.time()


@pytest.mark.parametrize("data", [None, {}, {"x": [1]}, [], "text", 1.5, True])
def test_a_heartbeat_takes_any_data_or_none(installation: Usher, ada: Client, data: Any) -> None:
    with joined(installation, by_header(ada.token)) as client:
        assert client.ask("heartbeat", data)["ok"] is True


def test_a_ping_is_answered_before_and_after_joining(installation: Usher, ada: Client) -> None:
    with RawClient(installation) as client:
        client.upgrade(then=frame(b"early", PING))
        assert client.frame() == (PONG, b"early")
        client.send(join_frame(ada.token, 1))
        assert client.event()["ok"] is True
        client.send(frame(b"x" * 125, PING) + frame(b"unasked", PONG) + frame(b"", PING))
        assert [client.frame(), client.frame()] == [(PONG, b"x" * 125), (PONG, b"")]


# ---- unauthenticated ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["heartbeat", "token-refresh", "message", "join", "no-such-event", "joined", "reply", ""],
)
def test_any_other_event_before_joining_ends_the_socket(
    installation: Usher, ada: Client, name: str
) -> None:
    with RawClient(installation) as client:
        client.upgrade(then=event(name, 5, {"token": ada.token}) + join_frame(ada.token, 6))
        refusal(client.event(), "unauthenticated")
        ends(client.ending(), 4401, "unauthenticated", "login")
    ends(ending_of(installation, then=event(name)), 4401, "unauthenticated", "login")


def test_what_comes_behind_a_refused_frame_has_no_effect(installation: Usher, ada: Client) -> None:
    ticket = ada.ticket()
    for first in (event("heartbeat"), frame(b"hello"), frame(b"x" * 9 * KIB)):
        assert ending_of(installation, then=first + join_frame(ticket, 1)).code in (
            1009,
            4400,
            4401,
        )
    with joined(installation, target=f"/ws?ticket={ticket}") as client:  # it was not used up
        client.lives()


def test_a_socket_that_does_not_join_in_time_is_closed(hasty: Usher) -> None:
    with RawClient(hasty) as client:
        began = time.monotonic()
        client.upgrade()
        ends(client.ending(), 4408, "join_timeout", "backoff")
        assert 0.2 < time.monotonic() - began < 10


def test_signs_of_life_do_not_prolong_the_deadline(hasty: Usher) -> None:
    with RawClient(hasty) as client:
        client.upgrade()
        stop = threading.Event()

        def keep_busy() -> None:
            while not stop.wait(0.02):
                try:
                    client.send(frame(b"", PING))
                except OSError:
                    return

        busy = threading.Thread(target=keep_busy)
        busy.start()
        try:
            ends(client.ending(), 4408, "join_timeout", "backoff")
        finally:
            stop.set()
            busy.join()


def test_the_deadline_has_ended_once_a_user_joined(hasty: Usher) -> None:
    client = sign_up(hasty)
    with RawClient(hasty) as socket:
        began = time.monotonic()
        socket.upgrade(then=join_frame(client.token, 1))
        assert socket.event()["ok"] is True
        wait_until(lambda: time.monotonic() > began + 0.4)
        assert new_token(client)
        socket.send(event("token-refresh", 2, {"token": client.token}))
        while (answer := socket.event())["event"] != "reply":
            assert answer["event"] == "token-expiring", answer
        assert answer["ok"] is True, answer
