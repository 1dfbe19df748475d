"""The envelope: what is a frame, what is not, and what is said in return."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.errors import BadRequest, StoreUnavailable
from services.websocket.protocol import (
    MAX_MESSAGE_BYTES,
    CloseCode,
    Expiry,
    NotAFrame,
    Retry,
    TokenRefresh,
    UserJoin,
    decode_data,
    decode_frame,
    encode_closing,
    encode_error,
    encode_event,
    encode_refusal,
    encode_reply,
)

CONTRACT = {
    1009: ("message_too_big", "never"),
    1012: ("service_restart", "backoff"),
    4400: ("bad_request", "never"),
    4401: ("unauthenticated", "login"),
    4403: ("forbidden", "never"),
    4408: ("join_timeout", "backoff"),
    4409: ("replaced", "never"),
    4410: ("session_revoked", "login"),
    4413: ("slow_consumer", "backoff"),
    4419: ("token_expired", "refresh"),
    4429: ("rate_limited", "backoff"),
    4503: ("unavailable", "backoff"),
}


def decoded(text: bytes) -> Any:
    return msgspec.json.decode(text)


# ---- close codes ---------------------------------------------------------------------------


def test_the_close_codes_are_those_of_the_contract() -> None:
    assert {int(c): (c.reason, c.retry.value) for c in CloseCode} == CONTRACT


def test_a_close_code_is_found_by_its_number() -> None:
    found = CloseCode(4410)  # type: ignore[call-arg]  # the look-up of Enum, not __new__
    assert found is CloseCode.SESSION_REVOKED
    assert found.retry is Retry.LOGIN


def test_closing_says_code_reason_and_what_to_do() -> None:
    assert decoded(encode_closing(CloseCode.TOKEN_EXPIRED)) == {
        "event": "closing",
        "data": {"code": 4419, "reason": "token_expired", "retry": "refresh"},
    }
    assert decoded(encode_closing(CloseCode.SERVICE_RESTART, 1.5))["data"]["after"] == 1.5


# ---- decoding ------------------------------------------------------------------------------


def test_a_frame_has_an_event_an_id_and_data() -> None:
    frame = decode_frame(b' {"event": "user-join", "id": "a", "data": {"auth": {"token": "t"}}}')
    assert frame.event == "user-join"
    assert bytes(frame.id) == b'"a"'
    assert decode_data(frame, msgspec.json.Decoder(UserJoin)).auth.token == "t"


def test_what_is_not_known_in_a_frame_is_passed_over() -> None:
    frame = decode_frame(b'{"event":"token-refresh","more":1,"data":{"token":"t","more":[]}}')
    assert decode_data(frame, msgspec.json.Decoder(TokenRefresh)).token == "t"
    assert not frame.id


@pytest.mark.parametrize("frame_id", [b'"x"', b'""', b"0", b"-1", b"1.5", b"1e999", b'"\\u00e9"'])
def test_an_id_is_echoed_as_it_came(frame_id: bytes) -> None:
    frame = decode_frame(b'{"event":"heartbeat","id": %b }' % frame_id)
    assert frame.id, "an empty id is an id as well"
    assert b'"id":%b,' % frame_id in encode_reply(bytes(frame.id), Expiry(1.0))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"hello",
        b"null",
        b"[]",
        b'"event"',
        b"{}",
        b'{"event":null}',
        b'{"event":1}',
        b'{"Event":"a"}',
        b'{"event":"a"} {"event":"a"}',
        b'{"event":"a"',
        b'{"event":"a","id":null}',
        b'{"event":"a","id":true}',
        b'{"event":"a","id":{}}',
        b'{"event":"a","id":[1]}',
        b'{"event":"a","id":1,"id":{}}',
        b'{"event":"a","id":01}',
        b'{"event":"a","id":-}',
        b'{"event":"a","id":"\\q"}',
        b'{"event":"a","data":NaN}',
        b'{"event":"a","data":{"token"}}',
        b'{"event":"a","data":"\xff"}',
        b'{"event":"a","data":"\xed\xa0\x80"}',
        b'\xef\xbb\xbf{"event":"a"}',
        '{"event":"a"}'.encode("utf-16"),
    ],
)
def test_what_is_not_such_a_frame_is_refused(text: bytes) -> None:
    with pytest.raises(NotAFrame):
        decode_frame(text)


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
@pytest.mark.parametrize("before", [b"", b'{"event":"a","data":', b'{"event":"a","x":'])
def test_nesting_without_end_is_refused_and_not_followed(before: bytes, opening: bytes) -> None:
    with pytest.raises(NotAFrame):
        decode_frame((before + opening * MAX_MESSAGE_BYTES)[:MAX_MESSAGE_BYTES])


@given(st.binary(max_size=200) | st.text(max_size=60).map(str.encode))
def test_any_octets_are_a_frame_or_refused(text: bytes) -> None:
    try:
        frame = decode_frame(text)
    except NotAFrame:
        return
    assert isinstance(frame.event, str)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(json_values, json_values, json_values)
def test_json_is_a_frame_exactly_when_the_contract_says_so(
    event: object, frame_id: object, data: object
) -> None:
    text = msgspec.json.encode({"event": event, "id": frame_id, "data": data})
    is_id = isinstance(frame_id, str | int) and not isinstance(frame_id, bool)
    try:
        frame = decode_frame(text)
    except NotAFrame:
        assert not isinstance(event, str) or not is_id
        return
    assert (frame.event, decoded(bytes(frame.id))) == (event, frame_id)
    assert decode_data(frame, msgspec.json.Decoder(object)) == data


def test_a_refusal_holds_nothing_of_what_was_sent() -> None:
    with pytest.raises(NotAFrame) as caught:
        decode_frame(b'{"event":"a","id":{"token":"secret-token"}}')
    assert "secret" not in str(caught.value)


# ---- data ----------------------------------------------------------------------------------


def test_absent_data_counts_as_an_empty_object() -> None:
    frame = decode_frame(b'{"event":"heartbeat"}')
    assert decode_data(frame, msgspec.json.Decoder(object)) == {}


@pytest.mark.parametrize(
    "data", [b"{}", b"null", b"[]", b'{"auth":{}}', b'{"auth":"t"}', b'{"auth":{"token":5}}']
)
def test_data_of_another_type_is_a_bad_request_and_the_socket_stays_open(data: bytes) -> None:
    frame = decode_frame(b'{"event":"user-join","data":%b}' % data)
    with pytest.raises(BadRequest) as caught:
        decode_data(frame, msgspec.json.Decoder(UserJoin))
    assert not isinstance(caught.value, NotAFrame)


def test_a_number_out_of_range_is_a_bad_request() -> None:
    frame = decode_frame(b'{"event":"heartbeat","data":1e999}')
    with pytest.raises(BadRequest):
        decode_data(frame, msgspec.json.Decoder(object))


def test_the_evidence_of_invalid_data_is_short_and_contains_no_value() -> None:
    event = "e" * 5000
    frame = decode_frame(msgspec.json.encode({"event": event, "data": {"token": "hush"}}))
    with pytest.raises(BadRequest) as caught:
        decode_data(frame, msgspec.json.Decoder(UserJoin))
    assert len(caught.value.evidence) < 200
    assert "hush" not in caught.value.evidence


# ---- encoding ------------------------------------------------------------------------------


def test_an_event_and_a_reply_are_json_of_the_contract() -> None:
    assert decoded(encode_event('a"b', Expiry(2.0))) == {
        "event": 'a"b',
        "data": {"expires_at": 2.0},
    }
    assert decoded(encode_reply(b"7", Expiry(2.0))) == {
        "event": "reply",
        "id": 7,
        "ok": True,
        "data": {"expires_at": 2.0},
    }


def test_an_error_reply_contains_only_public_text() -> None:
    error = StoreUnavailable("redis at 10.0.0.7 lost")
    assert decoded(encode_refusal(b'"i"', error)) == {
        "event": "reply",
        "id": "i",
        "ok": False,
        "error": {"code": "unavailable", "message": StoreUnavailable.title},
    }


def test_text_in_an_error_is_escaped() -> None:
    assert decoded(encode_error(b"1", 'c"', "m\n"))["error"] == {"code": 'c"', "message": "m\n"}


def test_half_an_emoji_is_wrong_data_and_no_reason_to_end_the_socket() -> None:
    frame = decode_frame(b'{"event":"message","id":"7","data":"\\ud83d"}')
    assert (frame.event, bytes(frame.id)) == ("message", b'"7"')
    with pytest.raises(BadRequest):
        decode_data(frame, msgspec.json.Decoder(object))


@pytest.mark.parametrize("frame_id", [b"1e999", b"-1e999", b"[" * 900 + b"]" * 900, b"9" * 5000])
def test_beside_wrong_data_an_id_that_cannot_be_echoed_is_refused(frame_id: bytes) -> None:
    with pytest.raises(NotAFrame):
        decode_frame(b'{"event":"x","id":%b,"data":"\\ud83d"}' % frame_id)


@pytest.mark.parametrize("text", [b'{"event":"x","data":NaN}', b'{"event":"x","data":[1,]}'])
def test_invalid_json_and_pythons_extensions_are_not_frames(text: bytes) -> None:
    with pytest.raises(NotAFrame):
        decode_frame(text)
