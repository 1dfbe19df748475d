"""websocket/socket.py on the wire: joining, frames and replies, expiry, and every ending."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.raw import (
    PING,
    PONG,
    SECRET,
    Ending,
    RawClient,
    assert_quiet,
    by_header,
    claims_of,
    ending_of,
    event,
    expired,
    forged,
    frame,
    handshake,
    joined,
    quiet_usher,
)
from tests.support.server import Client, Usher, log_in, new_token, sign_up, usher, wait_until

KIB = 1024


@pytest.fixture(scope="module")
def installation(socket_kind: str) -> Iterator[Usher]:
    """A server for clients that say more than people do; test_message_rate.py is about the rate."""
    with quiet_usher(socket_kind, JWT_SECRETS=SECRET, MESSAGE_RATE=10_000) as server:
        yield server


@pytest.fixture(scope="module")
def hasty(socket_kind: str) -> Iterator[Usher]:
    """A server with little patience."""
    settings = {"ACCESS_TOKEN_TTL_SECONDS": 10, "JOIN_TIMEOUT_SECONDS": 0.3}
    with quiet_usher(socket_kind, JWT_SECRETS=SECRET, **settings) as server:
        yield server


@pytest.fixture(scope="module")
def ada(installation: Usher) -> Client:
    return sign_up(installation, email="ada@example.org")


@pytest.fixture(scope="module")
def ben(installation: Usher) -> Client:
    return sign_up(installation)


def join_frame(credential: str | None, frame_id: Any = None) -> bytes:
    return event("user-join", frame_id, {"auth": {"token": credential}})


def refusal(reply: Any, code: str) -> None:
    """The reply has to be this error, and nothing more than the contract's members."""
    assert set(reply) == {"event", "id", "ok", "error"}, reply
    assert reply["ok"] is False
    assert set(reply["error"]) == {"code", "message"}
    assert reply["error"]["code"] == code
    assert isinstance(reply["error"]["message"], str)


def ends(end: Ending, code: int, reason: str, retry: str) -> None:
    """`closing` last, then a close frame that says the same."""
    assert end.closing == {"code": code, "reason": reason, "retry": retry}
    assert (end.code, end.reason) == (code, reason)


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


# ---- endings from outside --------------------------------------------------------------------


def test_a_logout_closes_the_sockets_of_its_session_and_no_others(
    installation: Usher, ada: Client
) -> None:
    mail = "eve@example.org"
    eve = sign_up(installation, email=mail)
    elsewhere = log_in(installation, mail)
    with (
        joined(installation, by_header(eve.token)) as one,
        joined(installation, target=f"/ws?ticket={eve.ticket()}") as two,
        joined(installation, by_header(elsewhere.token)) as other,
        joined(installation, by_header(ada.token)) as other_user,
    ):
        assert eve.post("/api/auth/logout").status == 204
        # The logout is acknowledged: nothing sent from now on is answered.
        for socket in (one, two):
            socket.send(event("heartbeat", "after"))
            end = socket.ending()
            ends(end, 4410, "session_revoked", "login")
            assert len(end.events) == 1, end
        other.lives()
        other_user.lives()


def test_a_stopping_server_asks_everybody_to_come_back(socket_kind: str) -> None:
    with usher(socket_kind) as server:
        client = sign_up(server)
        with joined(server, by_header(client.token)) as known, RawClient(server) as unauthenticated:
            unauthenticated.upgrade()
            server.process.terminate()
            for socket in (known, unauthenticated):
                end = socket.ending()
                assert (end.code, end.reason) == (1012, "service_restart")
                after = end.closing.pop("after")
                assert 0 < after <= 60
                assert end.closing == {
                    "code": 1012,
                    "reason": "service_restart",
                    "retry": "backoff",
                }
        assert server.end() == 0
        assert_quiet(server.log)


# ---- slow consumers --------------------------------------------------------------------------


def closes(server: Usher, code: int) -> float:
    """How often the server has closed a socket so."""
    text = Client(server).get("/metrics").text.decode()
    found = re.search(rf'^usher_closes_total{{code="{code}"}} (\S+)$', text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def flood_without_reading(client: RawClient) -> None:
    """Ask for megabytes until the server has had enough."""
    question = event("heartbeat", "x" * 60_000)
    try:
        for _ in range(1000):
            client.send(question)
    except OSError:
        return  # it let go of us


def test_a_slow_consumer_is_closed_with_4413_and_affects_no_other(
    installation: Usher, ada: Client, ben: Client
) -> None:
    before = closes(installation, 4413)
    with (
        joined(installation, by_header(ben.token)) as other,
        joined(installation, by_header(ada.token), receive_buffer=4096) as slow,
    ):
        flood = threading.Thread(target=flood_without_reading, args=(slow,))
        flood.start()
        waited = []
        while flood.is_alive():
            began = time.monotonic()
            other.lives()
            waited.append(time.monotonic() - began)
        flood.join()
        wait_until(lambda: closes(installation, 4413) == before + 1)
        assert max(waited) < 5
        other.lives()


def test_a_slow_consumer_receives_the_reason_when_it_reads_on(
    installation: Usher, ada: Client
) -> None:
    end = Ending(1006, "")
    for _ in range(5):  # it has a second to read on; a busy machine may need another try
        before = closes(installation, 4413)
        with joined(installation, by_header(new_token(ada)), receive_buffer=4096) as slow:
            slow.socket.setblocking(False)
            _fill(installation, slow, before)
            slow.socket.settimeout(20)
            end = slow.ending()
        if end.code != 1006:
            break
    ends(end, 4413, "slow_consumer", "backoff")


def _fill(server: Usher, slow: RawClient, before: float) -> None:
    """Send whole questions and read nothing, until the server has closed."""
    question = event("heartbeat", "x" * 8000)
    end = time.monotonic() + 20
    while closes(server, 4413) == before:
        assert time.monotonic() < end
        for _ in range(50):
            slow.socket.settimeout(5)
            slow.send(question)


def test_a_slow_reader_that_keeps_up_in_the_end_loses_nothing(
    installation: Usher, ada: Client
) -> None:
    with joined(installation, by_header(ada.token), receive_buffer=4096) as client:
        client.send(b"".join(event("heartbeat", f"{n}" + "x" * 8000) for n in range(20)))
        assert [int(client.event()["id"].strip("x")) for _ in range(20)] == list(range(20))


# ---- leaving ---------------------------------------------------------------------------------


def test_a_close_frame_is_answered_in_kind(installation: Usher, ada: Client) -> None:
    for code in (1000, 1001, 3000, 4999):
        with joined(installation, by_header(ada.token)) as client:
            client.send(frame(code.to_bytes(2, "big") + b"bye", 0x8))
            end = client.ending()
            assert (end.code, end.events) == (code, [])
    with joined(installation, by_header(ada.token)) as client:
        client.send(frame(b"", 0x8))
        assert client.ending().code == 1005


def test_a_closed_socket_is_not_in_the_list_of_sessions(installation: Usher) -> None:
    client = sign_up(installation)

    def live() -> int:
        (session,) = client.get("/api/sessions").body["items"]
        return int(session["live_sockets"])

    with joined(installation, by_header(client.token)):
        wait_until(lambda: live() == 1)
        with joined(installation, target=f"/ws?ticket={client.ticket()}"):
            wait_until(lambda: live() == 2)
        wait_until(lambda: live() == 1)
    wait_until(lambda: live() == 0)


def test_a_connection_closed_during_the_credential_check_leaves_nothing(
    installation: Usher,
) -> None:
    client = sign_up(installation)
    for _ in range(20):
        with RawClient(installation) as socket:
            socket.send(handshake("/ws", by_header(client.token)))
        with RawClient(installation) as socket:
            socket.send(handshake() + join_frame(client.token))
    (session,) = client.get("/api/sessions").body["items"]
    wait_until(lambda: client.get("/api/sessions").body["items"][0]["live_sockets"] == 0)
    assert session["current"] is True
