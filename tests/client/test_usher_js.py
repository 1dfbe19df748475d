"""static/usher.js in Node: reconnecting, giving up, waiting and requests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from services.websocket.protocol import CloseCode, Retry
from tests.support.node import JsClient, Link, Node, Scripted, closed_port, scripted_server
from tests.support.server import Usher, sign_up

FOREVER = 600_000
"""Milliseconds: a pause that no test waits for."""
NOT_OURS = (1000, 1001, 1002, 1003, 1007, 1008, 1010, 1011, 1013, 3000, 4999)
"""Close codes that Usher does not end a socket with: something on the way made them."""


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with closing(Node()) as running:
        yield running


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    with scripted_server() as running:
        yield running


def joined(node: Node, scripted: Scripted, *tokens: str, **options: Any) -> tuple[JsClient, Link]:
    """A client that is joined, and the server's side of its socket."""
    client = node.client(scripted.url, *(tokens or ("one", "two", "three")), **options)
    client.call("connect")
    link = scripted.accept().join()
    client.state("joined")
    return client, link


def assert_obeyed(client: JsClient, scripted: Scripted, retry: Retry) -> None:
    """After a close the client does what the class says, and nothing else."""
    if retry is Retry.REFRESH:
        client.state("refreshing")
        assert client.next("token")["detail"] == {"renew": True, "token": "two"}
        assert scripted.accept().join().protocols.endswith("usher.bearer.two")
        client.state("joined")
        assert "waiting" not in client.states
    elif retry is Retry.BACKOFF:
        state = client.state("waiting")
        assert state["retry"] == retry
        assert state["attempt"] == 1
        assert state["pause"] <= 21
        assert client.next("token")["detail"]["renew"] is False
        scripted.accept().join()
        client.state("joined")
    else:
        assert client.state("closed")["retry"] == retry
        assert "waiting" not in client.states
        client.call("connect")  # as a user may; it is the only socket that is opened
        scripted.accept().join()
        client.state("joined")
    client.result("close")
    assert scripted.waiting == 0


# ---- coming back, or not -------------------------------------------------------------------


@pytest.mark.parametrize("announced", [True, False], ids=["announced", "bare"])
@pytest.mark.parametrize("code", CloseCode, ids=lambda code: code.reason)
def test_the_retry_class_of_each_close_code_is_obeyed(
    node: Node, scripted: Scripted, code: CloseCode, announced: bool
) -> None:
    client, link = joined(node, scripted)
    if announced:
        link.say("closing", {"code": code, "reason": code.reason, "retry": code.retry})
    link.close(code, code.reason)
    assert_obeyed(client, scripted, code.retry)


@pytest.mark.parametrize("code", NOT_OURS)
def test_a_close_code_of_an_intermediary_does_not_end_the_client(
    node: Node, scripted: Scripted, code: int
) -> None:
    client, link = joined(node, scripted)
    link.close(code)
    assert_obeyed(client, scripted, Retry.BACKOFF)


def test_closing_counts_where_the_code_that_follows_is_another(
    node: Node, scripted: Scripted
) -> None:
    client, link = joined(node, scripted)
    link.say("closing", {"code": 4410, "reason": "session_revoked", "retry": "login"})
    link.close(1002)
    state = client.state("closed")
    assert (state["code"], state["reason"], state["retry"]) == (4410, "session_revoked", "login")


def test_a_closing_of_no_known_class_leaves_it_to_the_code(node: Node, scripted: Scripted) -> None:
    client, link = joined(node, scripted)
    link.say("closing", {"code": 4409, "reason": "replaced", "retry": "tomorrow"})
    link.close(4409)
    assert client.state("closed")["retry"] == "never"


def test_a_cut_line_is_tried_again(node: Node, scripted: Scripted) -> None:
    client, link = joined(node, scripted)
    link.drop()
    assert_obeyed(client, scripted, Retry.BACKOFF)


def test_the_servers_retry_class_overrides_the_table(node: Node, scripted: Scripted) -> None:
    client, link = joined(node, scripted)
    link.say("closing", {"code": 1012, "reason": "moved", "retry": "never"})
    link.close(1012, "moved")
    state = client.state("closed")
    assert (state["code"], state["reason"], state["retry"]) == (1012, "moved", "never")


def test_the_pause_that_the_server_asks_for_is_kept(node: Node, scripted: Scripted) -> None:
    client, link = joined(node, scripted, backoffMs=100)
    said = {"code": 4429, "reason": "rate_limited", "retry": "backoff", "after": 30}
    link.say("closing", said)
    link.close(4429, "rate_limited")
    assert 29_900 <= client.state("waiting")["pause"] <= 30_101
    client.result("close")


def test_a_token_refused_as_expired_twice_is_not_renewed_in_a_hurry(
    node: Node, scripted: Scripted
) -> None:
    client, link = joined(node, scripted)
    link.close(4419, "token_expired")
    client.state("refreshing")
    scripted.accept().close(4419, "token_expired")
    assert client.state("waiting")["retry"] == "refresh"
    assert client.states[-2:] == ["refreshing", "waiting"]
    client.state("refreshing")
    assert scripted.accept().join().protocols.endswith("usher.bearer.three")
    client.state("joined")
    client.result("close")


def test_the_pauses_grow_to_their_ceiling(node: Node) -> None:
    url = f"http://127.0.0.1:{closed_port()}"
    client = node.client(url, backoffMs=4, maxBackoffMs=40, timeoutMs=FOREVER)
    client.call("connect")
    states = [client.state("waiting") for _ in range(8)]
    assert [state["attempt"] for state in states] == list(range(1, 9))
    assert {state["code"] for state in states} == {1006}
    for count, state in enumerate(states):
        assert state["pause"] <= min(4 * 2**count, 40) + 1
    client.result("close")


def test_clients_that_are_cut_together_do_not_come_back_together(node: Node) -> None:
    clients = [node.client("http://127.0.0.1:9", 503, backoffMs=FOREVER) for _ in range(30)]
    for client in clients:
        client.call("connect")
    pauses = [client.state("waiting")["pause"] for client in clients]
    for client in clients:
        client.result("close")
    assert max(pauses) <= 30_001, "maxBackoffMs is the ceiling"
    assert max(pauses) - min(pauses) > 9_000


def test_the_pauses_start_afresh_once_a_connection_has_lasted(
    node: Node, scripted: Scripted
) -> None:
    client, link = joined(node, scripted, heartbeatMs=40)
    link.drop()
    assert client.state("waiting")["attempt"] == 1
    scripted.accept().close(1012)
    assert client.state("waiting")["attempt"] == 2
    link = scripted.accept().join()
    client.state("joined")
    for _ in range(2):
        client.next("frame", lambda passed: passed["frame"]["event"] == "reply")
    link.drop()
    assert client.state("waiting")["attempt"] == 1
    client.result("close")


def test_connect_while_waiting_does_not_wait(node: Node, scripted: Scripted) -> None:
    client, link = joined(node, scripted, backoffMs=FOREVER, maxBackoffMs=FOREVER)
    link.say("closing", {"code": 1012, "reason": "r", "retry": "backoff", "after": 600})
    link.close(1012)
    assert client.state("waiting")["pause"] >= FOREVER
    client.call("connect")
    scripted.accept().join()
    client.state("joined")
    client.result("close")


def test_a_server_that_never_lets_join_is_left(node: Node, scripted: Scripted) -> None:
    client = node.client(scripted.url, timeoutMs=80)
    client.call("connect")
    scripted.accept()
    assert client.state("waiting")["reason"] == "join_timeout"
    client.result("close")


def test_a_server_that_went_silent_is_left(node: Node, scripted: Scripted) -> None:
    scripted.mute = True
    client, _ = joined(node, scripted, timeoutMs=2000)  # in which it has to have joined, too
    assert client.state("waiting")["reason"] == "heartbeat_timeout"
    client.result("close")


def test_a_server_that_went_silent_right_after_an_answer_is_left(
    node: Node, scripted: Scripted
) -> None:
    """The next heartbeat was sent while the earlier one's answer was still being awaited."""
    client, link = joined(node, scripted, timeoutMs=1000, heartbeatMs=50)
    client.next("frame", lambda passed: passed["frame"]["event"] == "reply")
    link.mute = True
    assert client.state("waiting")["reason"] == "heartbeat_timeout"
    client.result("close")


def test_a_full_send_buffer_does_not_hide_a_dead_line(node: Node, scripted: Scripted) -> None:
    client, link = joined(node, scripted, timeoutMs=2000, heartbeatMs=100)
    link.deaf.set()
    # More than the kernel and the client take; on a busy machine the line may be dead before.
    outcomes = [client.result("send", event="much", data="x" * 60_000) for _ in range(200)]
    assert outcomes[-1]["code"] in {"busy", "not_joined"}
    assert client.first_state("waiting")["reason"] == "heartbeat_timeout"
    link.gone.set()
    client.result("close")


@pytest.mark.parametrize("text", ["not JSON", "[]", '{"event": 1}', "null"])
def test_a_server_with_another_protocol_is_left_and_retried(
    node: Node, scripted: Scripted, text: str
) -> None:
    client, link = joined(node, scripted)
    link.write(text)
    state = client.state("waiting")
    assert (state["reason"], state["retry"]) == ("invalid_frame", "backoff")
    client.result("close")


@pytest.mark.parametrize(
    ("status", "state", "retry"),
    [(401, "closed", "login"), (403, "waiting", "backoff"), (404, "waiting", "backoff"),
     (408, "waiting", "backoff"), (429, "waiting", "backoff"), (503, "waiting", "backoff")],
)  # fmt: skip
def test_of_the_refusals_of_get_token_only_401_ends_a_client(
    node: Node, status: int, state: str, retry: str
) -> None:
    client = node.client("http://127.0.0.1:9", status, backoffMs=FOREVER)
    call = client.call("connect")
    assert client.state(state)["retry"] == retry
    if state == "closed":
        assert client.outcome(call)["why"]["retry"] == retry
    client.result("close")


# ---- asking --------------------------------------------------------------------------------


def test_a_request_gets_its_own_reply(node: Node, scripted: Scripted) -> None:
    client, link = joined(node, scripted)
    calls = [client.call("request", event="ask", data=number) for number in range(3)]
    frames = [link.next("ask") for _ in calls]
    assert [frame["data"] for frame in frames] == [0, 1, 2]
    for frame in reversed(frames):
        link.reply(frame, frame["data"] * 10)
    assert [client.outcome(call) for call in reversed(calls)] == [20, 10, 0]
    call = client.call("request", event="ask")
    link.refuse(link.next("ask"), "forbidden")
    assert client.outcome(call)["code"] == "forbidden"
    client.result("close")


def test_a_request_without_a_reply_times_out_and_a_late_reply_is_ignored(
    node: Node, scripted: Scripted
) -> None:
    client, link = joined(node, scripted)
    call = client.call("request", event="slow", options={"timeoutMs": 30})
    frame = link.next("slow")
    assert client.outcome(call)["code"] == "timeout"
    link.reply(frame, "late")
    call = client.call("request", event="quick")
    link.reply(link.next("quick"), "in time")
    assert client.outcome(call) == "in time"
    assert client.states[-1] == "joined"
    client.result("close")


def test_only_so_many_requests_wait_at_once(node: Node, scripted: Scripted) -> None:
    client, link = joined(node, scripted, maxPending=3)
    client.next("frame", lambda passed: passed["frame"]["event"] == "reply")  # of the heartbeat
    calls = [client.call("request", event="ask") for _ in range(3)]
    assert client.result("request", event="ask")["code"] == "busy"
    frames = [link.next("ask") for _ in calls]
    link.reply(frames[0], "free again")
    assert client.outcome(calls[0]) == "free again"
    call = client.call("request", event="more")
    link.reply(link.next("more"), "taken")
    assert client.outcome(call) == "taken"
    client.result("close")


def test_requests_end_with_their_connection(node: Node, scripted: Scripted) -> None:
    client, link = joined(node, scripted)
    call = client.call("request", event="ask")
    link.next("ask")
    link.drop()
    assert client.outcome(call)["code"] == "closed"
    link = scripted.accept().join()
    client.state("joined")
    call, end = client.call("request", event="ask"), client.call("close")
    assert client.outcome(call)["code"] == "closed_by_client"
    client.outcome(end)
    assert client.result("request", event="ask")["code"] == "not_joined"
    assert client.result("send", event="ask")["code"] == "not_joined"


def test_a_frame_that_the_server_would_refuse_is_not_sent(node: Node, scripted: Scripted) -> None:
    client, link = joined(node, scripted)
    # two bytes each: it is bytes that count
    assert client.result("send", event="much", data="é" * 32_760)["code"] == "too_big"
    client.result("send", event="much", data="é" * 32_700)
    assert len(link.next("much")["data"]) == 32_700
    client.result("close")


def test_events_come_under_their_name_but_never_as_the_clients_own(
    node: Node, scripted: Scripted
) -> None:
    client, link = joined(node, scripted)
    link.say("state", {"name": "closed"})
    link.say("news", {"a": 1})
    assert client.next("news")["detail"] == {"event": "news", "data": {"a": 1}}
    assert "closed" not in client.states
    client.result("close")


# ---- tokens --------------------------------------------------------------------------------


def test_an_expiring_token_is_renewed_on_the_live_socket(node: Node, scripted: Scripted) -> None:
    client, link = joined(node, scripted)
    link.say("token-expiring", {"expires_at": 0})
    assert client.next("token")["detail"] == {"renew": True, "token": "two"}
    frame = link.next("token-refresh")
    assert frame["data"] == {"token": "two"}
    shown = client.next("frame", lambda passed: passed["frame"]["event"] == "token-refresh")
    assert shown["detail"]["frame"]["data"] == {"token": "[hidden]"}
    link.reply(frame, {"expires_at": 4_000_000_000})
    assert client.state("joined")["session"]["expires_at"] == 4_000_000_000
    assert client.states == ["connecting", "joined", "refreshing", "joined"]
    client.result("close")


def test_a_renewal_for_another_user_ends_the_connection(node: Node, scripted: Scripted) -> None:
    client, link = joined(node, scripted)
    link.say("token-expiring", {"expires_at": 0})
    link.refuse(link.next("token-refresh"), "identity_mismatch")
    state = client.state("closed")
    assert (state["code"], state["retry"]) == (4401, "login")


def test_credentials_are_masked_in_every_shown_frame(node: Node, scripted: Scripted) -> None:
    hidden = "[hidden]"
    client = node.client(scripted.url, "a-token", present="user-join")
    client.call("connect")
    link = scripted.accept()
    assert link.protocols == "usher.v1"
    assert link.next("user-join")["data"]["auth"]["token"] == "a-token"
    shown = client.next("frame", lambda passed: passed["frame"]["event"] == "user-join")
    assert shown["detail"]["frame"]["data"]["auth"]["token"] == hidden
    link.join()
    link.say("news", {"password": "p", "deep": [{"Refresh_Token": "r"}], "note": "eyJhb.eyJz.c"})
    shown = client.next("frame", lambda passed: passed["frame"]["event"] == "news")
    assert shown["detail"]["frame"]["data"] == {
        "password": hidden, "deep": [{"Refresh_Token": hidden}], "note": hidden,
    }  # fmt: skip
    client.result("close")


def test_a_token_as_subprotocol_joins_a_real_server(node: Node, server: Usher) -> None:
    assert_lives(node, server, "subprotocol")


def test_a_token_in_user_join_joins_a_real_server(node: Node, server: Usher) -> None:
    assert_lives(node, server, "user-join")


def assert_lives(node: Node, server: Usher, present: str) -> None:
    user = sign_up(server)
    assert user.token is not None
    client = node.client(server.url, user.token, present=present)
    session = client.result("connect")
    assert session["user"]["id"] == user.user["id"]
    assert 800 < client.result("expiresIn") <= 901
    assert client.result("request", event="heartbeat")["server_time"] > 0
    assert client.result("request", event="nonsense")["code"] == "unknown_event"
    assert user.post("/api/auth/logout").status == 204
    state = client.state("closed")
    assert (state["code"], state["retry"]) == (4410, "login")


@pytest.mark.parametrize("present", ["subprotocol", "user-join"])
def test_a_real_server_refuses_an_invalid_token_once(
    node: Node, server: Usher, present: str
) -> None:
    client = node.client(server.url, "not-a-token", present=present)
    why = client.result("connect")["why"]
    assert (why["code"], why["retry"]) == (4401, "login")
    assert client.states == ["connecting", "closed"]


def test_a_second_client_with_the_same_token_replaces_the_first(node: Node, server: Usher) -> None:
    token = sign_up(server).token
    assert token is not None
    first, second = node.client(server.url, token), node.client(server.url, token)
    first.result("connect")
    second.result("connect")
    state = first.state("closed")
    assert (state["code"], state["retry"]) == (4409, "never")
    assert "server_time" in json.dumps(second.result("request", event="heartbeat"))
    second.result("close")
