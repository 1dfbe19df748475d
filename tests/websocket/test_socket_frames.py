"""What clients send over a socket: sizes, bad frames, and ids."""

from __future__ import annotations

import json

import pytest

from tests.support.raw import (
    BINARY,
    PING,
    PONG,
    TEXT,
    Ending,
    RawClient,
    by_header,
    ending_of,
    event,
    frame,
    is_utf8,
    joined,
)
from tests.support.server import Client, Usher
from tests.websocket.sockets import KIB, ada, ends, installation, refusal

__all__ = ["ada", "installation"]


def bytes_of(length: int, frame_id: int = 1) -> bytes:
    """A heartbeat of exactly so many bytes of JSON."""
    start = b'{"event":"heartbeat","id":%d,"data":"' % frame_id
    return start + b"x" * (length - len(start) - 2) + b'"}'


def padded_join(token: str | None, length: int) -> bytes:
    body = json.dumps({"event": "user-join", "id": 1, "data": {"auth": {"token": token}}})
    return (body + " " * (length - len(body))).encode()


def test_before_joining_a_frame_may_have_8_kib_and_no_more(
    installation: Usher, ada: Client
) -> None:
    with RawClient(installation) as client:
        client.upgrade(then=frame(padded_join(ada.token, 8 * KIB)))
        assert client.event()["ok"] is True
    end = ending_of(installation, then=frame(padded_join(ada.token, 8 * KIB + 1)))
    ends(end, 1009, "message_too_big", "never")


def is_too_big(end: Ending, server: Usher) -> None:
    """Tornado ends a message above its limit by itself, so `closing` does not come before."""
    if server.through_tornado:
        assert (end.code, end.reason) == (1009, "message too big")
        assert all(each["event"] != "closing" for each in end.events)
    else:
        ends(end, 1009, "message_too_big", "never")


def test_after_joining_a_frame_may_have_64_kib_and_no_more(
    installation: Usher, ada: Client
) -> None:
    with joined(installation, by_header(ada.token)) as client:
        client.send(frame(bytes_of(64 * KIB)))
        assert client.event()["ok"] is True
        client.send(frame(bytes_of(64 * KIB + 1)))
        is_too_big(client.ending(), installation)


def test_fragments_count_together(installation: Usher, ada: Client) -> None:
    with joined(installation, by_header(ada.token)) as client:
        whole = bytes_of(64 * KIB)
        client.send(frame(whole[:1], final=False) + frame(whole[1:9], 0, final=False))
        client.send(frame(b"", PING))
        client.send(frame(whole[9:], 0))
        assert client.frame()[0] == PONG
        assert client.event()["ok"] is True
        client.send(frame(whole, final=False) + frame(b"x", 0))
        is_too_big(client.ending(), installation)
    halves = frame(b" " * 5 * KIB, final=False) + frame(b" " * 5 * KIB, 0)
    ends(ending_of(installation, then=halves), 1009, "message_too_big", "never")


@pytest.mark.parametrize("claimed", [64 * KIB + 1, 2**31, 2**62])
def test_a_frame_that_only_claims_to_be_big_is_not_waited_for(
    installation: Usher, ada: Client, claimed: int
) -> None:
    with joined(installation, by_header(ada.token)) as client:
        client.send(b"\x81\xff" + claimed.to_bytes(8, "big") + b"mask")
        is_too_big(client.ending(), installation)


NOT_FRAMES = [
    b"",
    b"hello",
    b"{",
    b"null",
    b"1",
    b'"heartbeat"',
    b"[]",
    b"{}",
    b'{"id":1}',
    b'{"event":1}',
    b'{"event":null}',
    b'{"event":["heartbeat"]}',
    b'{"event":"heartbeat","id":null}',
    b'{"event":"heartbeat","id":true}',
    b'{"event":"heartbeat","id":[1]}',
    b'{"event":"heartbeat","id":{}}',
    b'{"event":"heartbeat","id":01}',
    b'{"event":"heartbeat","id":NaN}',
    b'{"event":"heartbeat","id":1}{}',
    b'{"event":"heartbeat","data":}',
    b'{"event":"heartbeat","data":nul}',
    b"{'event':'heartbeat'}",
    b'\xef\xbb\xbf{"event":"heartbeat"}',
    b'{"event":"heart\xff"}',
    b'{"event":"heartbeat","data":"\xed\xa0\x80"}',
    b'{"event":"heartbeat","data":' + b"[" * 30_000,
    b'{"event":"heartbeat","data":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
]


@pytest.mark.parametrize("text", NOT_FRAMES, ids=lambda text: repr(text[:40]))
def test_what_is_not_such_json_closes_with_4400(
    installation: Usher, ada: Client, text: bytes
) -> None:
    with joined(installation, by_header(ada.token)) as client:
        client.send(frame(text) + event("heartbeat", "behind"))
        end = client.ending()
    if installation.through_tornado and not is_utf8(text):
        # Tornado ends text that is not UTF-8 without a close frame (RFC 6455 asks for 1007).
        assert end.code == 1006
        return
    ends(end, 4400, "bad_request", "never")
    assert len(end.events) == 1, end


def test_an_unauthenticated_client_is_closed_with_4400_too(installation: Usher) -> None:
    ends(ending_of(installation, then=frame(b"hello")), 4400, "bad_request", "never")


def test_a_binary_message_closes_with_4400(installation: Usher, ada: Client) -> None:
    body = b'{"event":"heartbeat","id":1}'
    with joined(installation, by_header(ada.token)) as client:
        client.send(frame(body, BINARY))
        ends(client.ending(), 4400, "bad_request", "never")
    ends(ending_of(installation, then=frame(body, BINARY)), 4400, "bad_request", "never")


@pytest.mark.parametrize(
    "name", ["", "no-such-event", "Heartbeat", "heartbeat ", "reply", "joined", "closing", "ü" * 99]
)
def test_an_unknown_event_gets_an_error_and_the_socket_stays_open(
    installation: Usher, ada: Client, name: str
) -> None:
    with joined(installation, by_header(ada.token)) as client:
        refusal(client.ask(name, {"x": 1}), "unknown_event")
        client.send(event(name))  # without an id: no answer
        client.lives()


def test_unknown_members_are_ignored(installation: Usher, ada: Client) -> None:
    with joined(installation, by_header(ada.token)) as client:
        client.send(frame(b'{"v":2,"event":"heartbeat","meta":{"a":[1]},"id":9,"ok":false}'))
        reply = client.event()
        assert (reply["id"], reply["ok"]) == (9, True)


IDS = [
    "a",
    "",
    " ",
    "0",
    "null",
    'quo"te\\back/slash',
    "\u0000\u001f\u007f",
    "line\nbreak\u2028\u2029",
    "ünïcödé ✓ 漢字",
    "\U0001f600\U0001f468\u200d\U0001f469",
    "\u202eright to left",
    "</script>",
    "x" * 5000,
    0,
    1,
    -1,
    2**31,
    2**53 + 1,
    2**64,
    -(10**40),
    0.5,
    -0.0,
    1e-300,
    1.7976931348623157e308,
    123456789.123456789,
]


def test_every_id_gets_exactly_one_reply_and_comes_back_as_it_was(
    installation: Usher, ada: Client
) -> None:
    with joined(installation, by_header(ada.token)) as client:
        names = ("heartbeat", "no-such-event", "token-refresh")
        asked = [(names[n % 3], frame_id) for n, frame_id in enumerate(IDS * 2)]
        client.send(b"".join(event(name, frame_id) for name, frame_id in asked))
        client.send(event("heartbeat", "the end"))
        replies = []
        while (reply := client.event())["id"] != "the end":
            replies.append(reply)
        assert [reply["event"] for reply in replies] == ["reply"] * len(asked)
        assert [repr(reply["id"]) for reply in replies] == [repr(i) for _, i in asked]
        assert [reply["ok"] for reply in replies] == [name == "heartbeat" for name, _ in asked]


@pytest.mark.parametrize(
    "raw", ["1.0", "1e3", "1E+5", "-0", "1.50", '"\\u0041"', '"\\/"', "10" * 99]
)
def test_an_id_comes_back_in_its_own_spelling(installation: Usher, ada: Client, raw: str) -> None:
    with joined(installation, by_header(ada.token)) as client:
        client.send(frame(b'{"event":"heartbeat","id": %b }' % raw.encode()))
        opcode, payload = client.frame()
        assert opcode == TEXT
        assert b'"id":%b,' % raw.encode() in payload


def test_the_same_id_twice_gets_two_replies(installation: Usher, ada: Client) -> None:
    with joined(installation, by_header(ada.token)) as client:
        client.send(event("heartbeat", 1) * 2)
        assert [client.event()["id"], client.event()["id"]] == [1, 1]
        client.lives()


def test_replies_come_in_the_order_of_their_frames(installation: Usher, ada: Client) -> None:
    with joined(installation, by_header(ada.token)) as client:
        frames = []
        for number in range(60):  # every third has to wait for Redis
            name = "token-refresh" if number % 3 == 0 else "heartbeat"
            frames.append(event(name, number, {"token": ada.token}))
        client.send(b"".join(frames))
        assert [client.event()["id"] for _ in range(60)] == list(range(60))


def test_without_an_id_nothing_is_answered(installation: Usher, ada: Client) -> None:
    with joined(installation, by_header(ada.token)) as client:
        client.send(event("heartbeat") + event("nonsense") + event("token-refresh", None, {}))
        client.send(event("token-refresh", None, {"token": ada.token}))
        client.lives()
