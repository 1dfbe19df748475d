"""Frames and handshakes that nobody would send: answered or closed, and harmless to others."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.flows.target import ada, canary, target
from tests.support.protocol_errors import BY_TORNADO, LIVES_THROUGH_TORNADO, PROTOCOL_ERRORS
from tests.support.raw import (
    CLOSE,
    RawClient,
    by_header,
    ending_of,
    frame,
    handshake,
    is_utf8,
    joined,
)
from tests.support.server import Client, Usher

__all__ = ["ada", "canary", "target"]

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)
EVENTS = st.sampled_from(["heartbeat", "token-refresh", "user-join"]) | st.text(max_size=12)
ENVELOPES = st.fixed_dictionaries(
    {},
    optional={"event": EVENTS | JSON, "id": st.text(max_size=12) | st.integers() | JSON}
    | {"data": JSON | st.fixed_dictionaries({"auth": JSON, "token": JSON})},
)
SLOW_IS_FINE = settings(suppress_health_check=list(HealthCheck), max_examples=80)


@SLOW_IS_FINE
@given(st.lists(ENVELOPES, min_size=1, max_size=6))
def test_any_json_gets_its_reply_or_closes_with_4400(
    target: Usher, ada: Client, canary: RawClient, bodies: list[dict[str, Any]]
) -> None:
    texts = [json.dumps(body).encode() for body in bodies]
    with joined(target, target=f"/ws?ticket={ada.ticket()}") as client:
        client.send(b"".join(map(frame, texts)) + frame((1000).to_bytes(2, "big"), CLOSE))
        end = client.ending()
    assert end.code in (1000, 4400)
    replies = [repr(e["id"]) for e in end.events if e["event"] == "reply"]
    asked = [repr(json.loads(t).get("id")) for t in texts if "id" in json.loads(t)]
    # In order, each once, and all of them unless one of them was no frame.
    assert replies == asked[: len(replies)]
    assert end.code == 4400 or len(replies) == len(asked)
    canary.lives()


@SLOW_IS_FINE
@given(st.binary(max_size=300) | st.text(max_size=100).map(str.encode))
def test_any_text_message_is_answered_or_closes_with_4400(
    target: Usher, ada: Client, canary: RawClient, payload: bytes
) -> None:
    with joined(target, target=f"/ws?ticket={ada.ticket()}") as client:
        client.send(frame(payload) + frame(b"", CLOSE))
        ends = {1005, 4400} | ({1006} if target.through_tornado and not is_utf8(payload) else set())
        assert client.ending().code in ends
    canary.lives()


@SLOW_IS_FINE
@given(
    chunks=st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=5),
    is_joined=st.booleans(),
)
def test_any_bytes_behind_the_handshake_end_in_a_close(
    target: Usher, ada: Client, canary: RawClient, chunks: list[bytes], is_joined: bool
) -> None:
    with RawClient(target) as client:
        client.upgrade("/ws", by_header(ada.token) if is_joined else [])
        with contextlib.suppress(OSError):
            for chunk in chunks:
                client.send(chunk)
            client.socket.shutdown(socket.SHUT_WR)
        end = client.ending()
    assert end.code in (1000, 1002, 1005, 1006, 1007, 1009, 4400, 4401) or end.code >= 3000
    canary.lives()


FRAMES = st.builds(
    frame,
    st.binary(max_size=130),
    st.integers(0, 15),
    final=st.booleans(),
    masked=st.sampled_from([True, True, True, False]),
)


@SLOW_IS_FINE
@given(st.lists(FRAMES, min_size=1, max_size=8))
def test_any_frames_end_in_a_close(
    target: Usher, ada: Client, canary: RawClient, frames: list[bytes]
) -> None:
    with joined(target, target=f"/ws?ticket={ada.ticket()}") as client:
        with contextlib.suppress(OSError):
            client.send(b"".join(frames))
            client.socket.shutdown(socket.SHUT_WR)
        client.ending()
    canary.lives()


@SLOW_IS_FINE
@given(st.binary(max_size=400), st.integers(0, 220))
def test_any_bytes_for_a_handshake_end_the_connection(
    target: Usher, ada: Client, canary: RawClient, noise: bytes, cut: int
) -> None:
    with RawClient(target) as client:
        with contextlib.suppress(OSError):
            client.send(handshake()[:cut] + noise)
            client.socket.shutdown(socket.SHUT_WR)
        received = b""
        with contextlib.suppress(ConnectionError):
            while data := client.socket.recv(65536):
                received += data
    assert received == b"" or received.startswith(b"HTTP/1.1 ")
    canary.lives()


def expected_of(target: Usher, name: str) -> int:
    if not target.through_tornado:
        return 1002
    return 1005 if name in LIVES_THROUGH_TORNADO else BY_TORNADO[name]


@pytest.mark.parametrize("name", PROTOCOL_ERRORS)
def test_what_breaks_rfc_6455_closes_with_1002(
    target: Usher, ada: Client, canary: RawClient, name: str
) -> None:
    for headers in ([], by_header(ada.token)):
        then = PROTOCOL_ERRORS[name]
        if target.through_tornado and name in LIVES_THROUGH_TORNADO:
            then += frame(b"", CLOSE)
        end = ending_of(target, headers, then=then)
        assert end.code == expected_of(target, name)
        if target.through_tornado:  # `joined` leaves a moment after the 101: here, not any more
            return
        assert [e["event"] for e in end.events] == ["joined"] * bool(headers)


def test_a_close_reason_that_is_not_utf_8_closes_with_1007(target: Usher) -> None:
    end = ending_of(target, then=frame(struct.pack("!H", 1000) + b"\xff", CLOSE))
    # Tornado ends it without a close frame.
    assert end.code == (1006 if target.through_tornado else 1007)


def test_compression_is_offered_in_vain(target: Usher, ada: Client) -> None:
    offer = "permessage-deflate; client_max_window_bits, x-webkit-deflate-frame"
    with RawClient(target) as client:
        headers = [*by_header(ada.token), ("Sec-WebSocket-Extensions", offer)]
        assert "sec-websocket-extensions" not in client.upgrade("/ws", headers).headers
        assert client.event()["event"] == "joined"
        client.lives()
