"""RFC 6455 sections 5.2 to 5.5 and 7.4, rule by rule, and any cut of the stream."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.websocket.frames import (
    MAX_CONTROL_BYTES,
    FrameError,
    FrameReader,
    Opcode,
    close_code_of,
    encode_close,
    encode_frame,
    encode_text,
    unmask,
)
from services.websocket.masking import mask_by_integer
from tests.support.parts import client_frame, masked

Message = tuple[Opcode, bytes]
CONTROL = (Opcode.CLOSE, Opcode.PING, Opcode.PONG)
LIMIT = 65536


def read(*chunks: bytes, limit: int = LIMIT) -> list[Message]:
    reader, messages = FrameReader(limit), []
    for chunk in chunks:
        reader.feed(chunk)
        while (message := reader.next()) is not None:
            messages.append(message)
    return messages


def refusal(stream: bytes, limit: int = LIMIT) -> int:
    """The close code that a stream is refused with."""
    with pytest.raises(FrameError) as caught:
        read(stream, limit=limit)
    return caught.value.close_code


# ---- what a server sends -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "header"),
    [
        (0, b"\x81\x00"),
        (125, b"\x81\x7d"),
        (126, b"\x81\x7e\x00\x7e"),
        (65535, b"\x81\x7e\xff\xff"),
        (65536, b"\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
    ],
)
def test_a_frame_of_ours_has_the_shortest_length_and_no_mask(size: int, header: bytes) -> None:
    assert encode_text(b"x" * size) == header + b"x" * size


def test_the_examples_of_the_rfc_are_encoded_and_read_as_printed() -> None:
    assert encode_frame(Opcode.TEXT, b"Hello") == bytes.fromhex("810548656c6c6f")
    assert encode_frame(Opcode.PING, b"Hello") == bytes.fromhex("890548656c6c6f")
    assert read(bytes.fromhex("818537fa213d7f9f4d5158")) == [(Opcode.TEXT, b"Hello")]
    assert read(bytes.fromhex("8a8537fa213d7f9f4d5158")) == [(Opcode.PONG, b"Hello")]


def test_a_close_frame_holds_its_code_and_its_reason() -> None:
    assert encode_close(4410, "session_revoked") == b"\x88\x11\x11\x3asession_revoked"
    assert encode_close(1005, "never said") == b"\x88\x00"


def test_a_close_frame_stays_a_control_frame_however_long_its_reason() -> None:
    frame = encode_close(1000, "r" * 500)
    assert frame[1] == MAX_CONTROL_BYTES
    assert len(frame) == 2 + MAX_CONTROL_BYTES


# ---- masks ---------------------------------------------------------------------------------


@given(st.binary(max_size=300), st.binary(min_size=4, max_size=4))
def test_unmasking_is_the_xor_of_section_5_3(payload: bytes, key: bytes) -> None:
    assert unmask(payload, key) == masked(payload, key)
    assert mask_by_integer(key, payload) == masked(payload, key)
    assert unmask(unmask(payload, key), key) == payload


def test_a_message_that_ends_in_masked_zeros_keeps_its_length() -> None:
    key = b"\x01\x02\x03\x04"
    assert read(client_frame(Opcode.BINARY, key + b"\x01\x02", key=key)) == [
        (Opcode.BINARY, key + b"\x01\x02")
    ]


# ---- what a client may send ----------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536])
@pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.BINARY])
def test_a_message_of_any_length_arrives(opcode: Opcode, size: int) -> None:
    payload = bytes(i % 251 for i in range(size))
    assert read(client_frame(opcode, payload)) == [(opcode, payload)]


def test_fragments_become_one_message_of_the_first_ones_kind() -> None:
    stream = (
        client_frame(Opcode.BINARY, b"a", final=False)
        + client_frame(Opcode.CONTINUATION, b"", final=False)
        + client_frame(Opcode.CONTINUATION, b"b")
    )
    assert read(stream) == [(Opcode.BINARY, b"ab")]


def test_an_empty_fragment_begins_a_message_too() -> None:
    stream = client_frame(Opcode.TEXT, b"", final=False) + client_frame(Opcode.CONTINUATION, b"")
    assert read(stream) == [(Opcode.TEXT, b"")]


@pytest.mark.parametrize("opcode", CONTROL)
def test_a_control_frame_may_come_between_fragments(opcode: Opcode) -> None:
    stream = (
        client_frame(Opcode.TEXT, b"a", final=False)
        + client_frame(opcode, b"now")
        + client_frame(Opcode.CONTINUATION, b"b")
    )
    assert read(stream) == [(opcode, b"now"), (Opcode.TEXT, b"ab")]


def test_two_fragmented_messages_in_a_row_stay_apart() -> None:
    one = client_frame(Opcode.TEXT, b"a", final=False) + client_frame(Opcode.CONTINUATION, b"b")
    assert read(one + one) == [(Opcode.TEXT, b"ab"), (Opcode.TEXT, b"ab")]


def test_a_caller_may_stop_between_the_messages_of_one_read() -> None:
    reader = FrameReader(LIMIT)
    reader.feed(client_frame(Opcode.TEXT, b"a") + client_frame(Opcode.TEXT, b"b"))
    assert reader.next() == (Opcode.TEXT, b"a")
    reader.feed(client_frame(Opcode.TEXT, b"c"))
    assert reader.next() == (Opcode.TEXT, b"b")
    assert reader.next() == (Opcode.TEXT, b"c")
    assert reader.next() is None


# ---- what breaks the protocol --------------------------------------------------------------


@pytest.mark.parametrize("bit", [0x40, 0x20, 0x10])
@pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.PING])
def test_a_reserved_bit_is_refused(opcode: Opcode, bit: int) -> None:
    frame = client_frame(opcode, b"x")
    assert refusal(bytes((frame[0] | bit,)) + frame[1:]) == 1002


@pytest.mark.parametrize("opcode", [3, 4, 5, 6, 7, 11, 12, 13, 14, 15])
def test_an_unknown_opcode_is_refused(opcode: int) -> None:
    assert refusal(client_frame(opcode, b"")) == 1002


@pytest.mark.parametrize("opcode", list(Opcode))
def test_a_frame_without_a_mask_is_refused(opcode: Opcode) -> None:
    assert refusal(encode_frame(opcode, b"x")) == 1002


@pytest.mark.parametrize("opcode", CONTROL)
def test_a_control_frame_in_fragments_is_refused(opcode: Opcode) -> None:
    assert refusal(client_frame(opcode, b"", final=False)) == 1002


@pytest.mark.parametrize("opcode", CONTROL)
def test_a_control_frame_over_125_bytes_is_refused_and_one_of_125_is_not(opcode: Opcode) -> None:
    assert read(client_frame(opcode, b"x" * 125)) == [(opcode, b"x" * 125)]
    assert refusal(client_frame(opcode, b"x" * 126)) == 1002


def test_a_continuation_of_nothing_is_refused() -> None:
    assert refusal(client_frame(Opcode.CONTINUATION, b"x")) == 1002
    whole = client_frame(Opcode.TEXT, b"a")
    assert refusal(whole + client_frame(Opcode.CONTINUATION, b"x")) == 1002


@pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.BINARY])
def test_a_new_message_within_a_fragmented_one_is_refused(opcode: Opcode) -> None:
    begun = client_frame(Opcode.TEXT, b"a", final=False)
    assert refusal(begun + client_frame(opcode, b"b")) == 1002


@pytest.mark.parametrize(
    "length",
    [
        b"\xfe" + struct.pack("!H", 125),
        b"\xff" + struct.pack("!Q", 65535),
        b"\xff" + struct.pack("!Q", 1),
        b"\xff" + struct.pack("!Q", 1 << 63),
    ],
)
def test_a_length_that_is_not_in_its_one_form_is_refused(length: bytes) -> None:
    assert refusal(b"\x81" + length, limit=1 << 62) == 1002


# ---- limits --------------------------------------------------------------------------------


def test_a_message_over_the_limit_is_refused_by_its_header_alone() -> None:
    assert refusal(b"\x81\xff" + struct.pack("!Q", (1 << 63) - 1)) == 1009
    assert refusal(b"\x82\xfe" + struct.pack("!H", 1001), limit=1000) == 1009


def test_the_limit_is_for_all_fragments_together() -> None:
    begun = client_frame(Opcode.TEXT, b"x" * 600, final=False)
    rest = client_frame(Opcode.CONTINUATION, b"x" * 401)
    assert refusal(begun + rest[:4], limit=1000) == 1009
    assert len(read(begun + rest, limit=1001)[0][1]) == 1001


def test_a_control_frame_within_a_full_message_is_not_over_the_limit() -> None:
    stream = (
        client_frame(Opcode.TEXT, b"x" * 100, final=False)
        + client_frame(Opcode.PING, b"p" * 100)
        + client_frame(Opcode.CONTINUATION, b"")
    )
    assert read(stream, limit=100) == [(Opcode.PING, b"p" * 100), (Opcode.TEXT, b"x" * 100)]


def test_the_limit_may_grow_between_messages() -> None:
    reader = FrameReader(10)
    reader.feed(client_frame(Opcode.TEXT, b"x" * 10))
    assert reader.next() == (Opcode.TEXT, b"x" * 10)
    reader.max_message = 20
    reader.feed(client_frame(Opcode.TEXT, b"x" * 20))
    assert reader.next() == (Opcode.TEXT, b"x" * 20)


# ---- any cut of the stream -----------------------------------------------------------------

payloads = st.binary(max_size=200) | st.builds(bytes, st.integers(120, 400))
keys = st.binary(min_size=4, max_size=4)


@st.composite
def control_frames(draw: st.DrawFn) -> tuple[bytes, list[Message]]:
    opcode, payload = draw(st.sampled_from(CONTROL)), draw(st.binary(max_size=125))
    return client_frame(opcode, payload, key=draw(keys)), [(opcode, payload)]


@st.composite
def fragmented(draw: st.DrawFn) -> tuple[bytes, list[Message]]:
    """A message in fragments, with control frames between them."""
    kind = draw(st.sampled_from((Opcode.TEXT, Opcode.BINARY)))
    parts = draw(st.lists(payloads, min_size=1, max_size=4))
    stream, messages, opcode = b"", list[Message](), kind
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        stream += client_frame(opcode, part, final=last, key=draw(keys))
        opcode = Opcode.CONTINUATION
        if not last and draw(st.booleans()):
            frame, between = draw(control_frames())
            stream, messages = stream + frame, messages + between
    return stream, [*messages, (kind, b"".join(parts))]


@given(st.lists(fragmented() | control_frames(), max_size=6), st.data())
def test_any_split_of_the_stream_gives_the_same_messages(
    sent: list[tuple[bytes, list[Message]]], data: st.DataObject
) -> None:
    stream = b"".join(part for part, _ in sent)
    expected = [message for _, messages in sent for message in messages]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    chunks = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert read(*chunks) == expected


def test_a_stream_that_comes_octet_by_octet_gives_the_same_messages() -> None:
    stream = client_frame(Opcode.TEXT, b"x" * 700) + client_frame(Opcode.PING, b"p")
    assert read(*(bytes((octet,)) for octet in stream)) == [
        (Opcode.TEXT, b"x" * 700),
        (Opcode.PING, b"p"),
    ]


def judged(chunks: list[bytes]) -> tuple[list[Message], int | None]:
    """What a stream gives, and the close code that it ends with."""
    reader, messages = FrameReader(1000), list[Message]()
    try:
        for chunk in chunks:
            reader.feed(chunk)
            while (message := reader.next()) is not None:
                messages.append(message)
    except FrameError as error:
        return messages, error.close_code
    return messages, None


# Starts that look like frames get further into the reader than noise does.
headers = st.sampled_from([b"\x81\x85", b"\x01\x81", b"\x80\x80", b"\x89\x80", b"\x82\xfe\x00\x80"])


@given(st.lists(headers | st.binary(max_size=40), max_size=12), st.data())
def test_any_octets_at_all_give_messages_or_a_refusal_wherever_they_are_cut(
    pieces: list[bytes], data: st.DataObject
) -> None:
    stream = b"".join(pieces)
    whole = judged([stream])
    cut = data.draw(st.integers(0, len(stream)))
    assert judged([stream[:cut], stream[cut:]]) == whole
    assert judged([bytes((octet,)) for octet in stream]) == whole
    messages, code = whole
    assert code in (None, 1002, 1009)
    assert all(len(payload) <= 1000 for _, payload in messages)


# ---- close codes (section 7.4) -------------------------------------------------------------


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 4410, 4999])
def test_a_close_code_that_may_travel_is_read(code: int) -> None:
    assert close_code_of(struct.pack("!H", code) + "früh".encode()) == code


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535])
def test_a_close_code_that_must_not_travel_is_refused(code: int) -> None:
    with pytest.raises(FrameError) as caught:
        close_code_of(struct.pack("!H", code))
    assert caught.value.close_code == 1002


def test_an_empty_close_frame_has_no_status_and_half_a_code_is_refused() -> None:
    assert close_code_of(b"") == 1005
    with pytest.raises(FrameError) as caught:
        close_code_of(b"\x03")
    assert caught.value.close_code == 1002


def test_a_close_reason_that_is_not_utf_8_is_refused() -> None:
    with pytest.raises(FrameError) as caught:
        close_code_of(b"\x03\xe8\xff\xfe")
    assert caught.value.close_code == 1007
