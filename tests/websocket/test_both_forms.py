"""The direct form and the Tornado form of the socket: the same bytes, the same behaviour.

Where Tornado differs from RFC 6455, tests/support/protocol_errors.py has it by name; what is
made here keeps to the RFC.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from tests.support.raw import BINARY, CLOSE, PING, frame, joined, quiet_usher
from tests.support.server import TORNADO, Client, Usher, sign_up

EVENTS = ("heartbeat", "join", "leave", "message", "typing", "presence", "usage", "history", "nope")
ROOMS = ("channel:nobody", "user:nobody", "x", "", 5)
Pair = tuple[tuple[Usher, Client], tuple[Usher, Client]]


@pytest.fixture(scope="module")
def forms() -> Iterator[Pair]:
    with ExitStack() as stack:
        direct = stack.enter_context(quiet_usher("sqlite", MESSAGE_RATE=10_000))
        tornado = stack.enter_context(quiet_usher(TORNADO, MESSAGE_RATE=10_000))
        yield (direct, sign_up(direct)), (tornado, sign_up(tornado))


def text_of(event: str, frame_id: object, data: object) -> bytes:
    return json.dumps({"event": event, "id": frame_id, "data": data}).encode()


texts = st.one_of(
    st.builds(
        text_of,
        st.sampled_from(EVENTS),
        st.integers(0, 99) | st.text("abc", max_size=3),
        st.none() | st.fixed_dictionaries({"room": st.sampled_from(ROOMS)}),
    ),
    st.sampled_from([b"", b"{}", b"[]", b"null", b'{"event":1}', b'{"event":"heartbeat"}']),
)


@st.composite
def frames_of(draw: st.DrawFn) -> bytes:
    """One message, whole or in fragments, perhaps with a ping among them; or binary."""
    text = draw(texts)
    kind = draw(st.integers(0, 9))
    if kind == 0:
        return frame(text, BINARY)
    if kind < 4 and len(text) > 2:
        cut = draw(st.integers(1, len(text) - 1))
        between = frame(b"p", PING) if draw(st.booleans()) else b""
        return frame(text[:cut], final=False) + between + frame(text[cut:], 0)
    return frame(text)


ends = st.sampled_from([1000, 1001, 3000, 4321]).map(
    lambda code: frame(struct.pack("!H", code), CLOSE)
)


@seed(20261127)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(frames_of(), max_size=8), ends)
def test_the_same_bytes_get_the_same_replies_and_the_same_end(
    forms: Pair, said: list[bytes], end: bytes
) -> None:
    direct, tornado = (outcome(*form, b"".join(said) + end) for form in forms)
    assert tornado == direct


def outcome(server: Usher, person: Client, stream: bytes) -> tuple[Any, ...]:
    """What comes back, without what differs from run to run; and how it ends."""
    with joined(server, target=f"/ws?ticket={person.ticket()}") as client:
        client.send(stream)
        ending = client.ending()
    return ending.code, ending.reason, [shown(event) for event in ending.events]


def shown(event: dict[str, Any]) -> tuple[Any, ...]:
    error = event.get("error") or {}
    data = event.get("data") if event["event"] == "closing" else sorted(event.get("data") or {})
    return event["event"], event.get("id"), event.get("ok"), error.get("code"), data
