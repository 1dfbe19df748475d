"""One WebSocket on a real pair of sockets: what it reads and replies, and its pauses."""

from __future__ import annotations

import asyncio
import socket

import pytest

from services.websocket import direct_connection as wire
from services.websocket.direct_connection import WebSocketConnection
from services.websocket.first_frames import FirstFrames
from services.websocket.frames import Opcode, encode_text
from services.websocket.protocol import MAX_UNJOINED_MESSAGE_BYTES, CloseCode
from tests.support.parts import Peer, client_frame, socket_pair
from tests.support.redis import until, within
from tests.websocket.lines import CLOSE, TEXT, Ear, Line, LineOf, line_of, lines, reported, turns

__all__ = ["line_of", "lines"]

# ---- reading -------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_messages_arrive_in_order_with_their_kind(line_of: LineOf) -> None:
    line = line_of()
    await line.peer.send(TEXT + client_frame(Opcode.BINARY, b"\x00") + TEXT)
    await reported(line, 3)
    assert line.ear.messages == [(b"hello", True), (b"\x00", False), (b"hello", True)]


@pytest.mark.gen_test
async def test_what_came_behind_the_handshake_is_delivered_first(lines: list[Line]) -> None:
    ours, theirs = socket_pair()
    ear, peer = Ear(), Peer(theirs)
    begun = WebSocketConnection(asyncio.get_running_loop(), ours, ear)
    second = client_frame(Opcode.TEXT, b"second")
    leading = client_frame(Opcode.TEXT, b"first") + second[:3]
    begun.open(b"", FirstFrames(asyncio.get_running_loop()), leading, at_once=True)
    await until(lambda: ear.texts == [b"first"])
    await peer.send(second[3:])
    await until(lambda: ear.texts == [b"first", b"second"])
    begun.abort()
    peer.close()


@pytest.mark.gen_test
async def test_a_ping_is_answered_with_its_own_payload(line_of: LineOf) -> None:
    line = line_of()
    await line.peer.send(client_frame(Opcode.PING, b"are you there"))
    assert await line.peer.frame() == (Opcode.PONG, b"are you there")
    assert not line.ear.messages


@pytest.mark.gen_test
async def test_a_ping_is_sent_and_its_pong_is_received_silently(
    line_of: LineOf,
) -> None:
    line = line_of()
    line.connection.last_heard = 0.0
    line.connection.ping()
    assert await line.peer.frame() == (Opcode.PING, b"")
    await line.peer.send(client_frame(Opcode.PONG))
    await until(lambda: line.connection.last_heard > 0.0)
    assert not line.ear.messages


@pytest.mark.gen_test
async def test_an_unauthenticated_client_may_send_at_most_8_kib(line_of: LineOf) -> None:
    line = line_of()
    await line.peer.send(client_frame(Opcode.TEXT, b"x" * MAX_UNJOINED_MESSAGE_BYTES))
    await reported(line)
    await line.peer.send(client_frame(Opcode.TEXT, b"x" * (MAX_UNJOINED_MESSAGE_BYTES + 1)))
    assert (await line.peer.event())["data"]["code"] == 1009
    assert await line.peer.close_code() == 1009
    assert line.ear.codes == [1009]
    assert len(line.ear.messages) == 1


@pytest.mark.gen_test
async def test_the_limit_can_be_raised_on_joining(line_of: LineOf) -> None:
    line = line_of()
    line.connection.limit(65536)
    await line.peer.send(client_frame(Opcode.TEXT, b"x" * 65536))
    await reported(line)
    assert line.ear.texts == [b"x" * 65536]


@pytest.mark.parametrize(
    ("stream", "code"),
    [
        (b"\x81\x01x", 1002),
        (client_frame(Opcode.CONTINUATION, b""), 1002),
        (client_frame(Opcode.CLOSE, b"\x03"), 1002),
        (client_frame(Opcode.CLOSE, b"\x03\xee"), 1002),
        (client_frame(Opcode.CLOSE, b"\x03\xe8\xff"), 1007),
    ],
)
@pytest.mark.gen_test
async def test_a_broken_protocol_ends_the_socket_with_its_code(
    line_of: LineOf, stream: bytes, code: int
) -> None:
    line = line_of()
    await line.peer.send(stream + TEXT)
    assert await line.peer.close_code() == code
    assert line.ear.codes == [code]
    assert not line.ear.messages, "what follows a broken frame is not read"
    line.peer.close()
    await until(lambda: line.is_shut)


@pytest.mark.parametrize(
    ("stream", "code"),
    [
        (b"\x81\x01x", 1002),
        (client_frame(Opcode.TEXT, b"x" * (MAX_UNJOINED_MESSAGE_BYTES + 1)), 1009),
        (client_frame(Opcode.CLOSE, b"\x03"), 1002),
    ],
)
@pytest.mark.gen_test
async def test_after_an_invalid_frame_the_stream_ends_without_waiting_for_the_peer(
    line_of: LineOf, monkeypatch: pytest.MonkeyPatch, stream: bytes, code: int
) -> None:
    monkeypatch.setattr(wire, "CLOSE_HANDSHAKE_SECONDS", 3600.0)
    line = line_of()
    await line.peer.send(stream)
    frames = await line.peer.rest()  # which returns at the end of the stream only
    assert frames[-1] == (Opcode.CLOSE, code.to_bytes(2, "big") + frames[-1][1][2:])
    line.peer.close()
    await until(lambda: line.is_shut)


@pytest.mark.gen_test
async def test_a_close_behind_a_backlog_ends_with_whole_frames_and_a_close_frame(
    line_of: LineOf,
) -> None:
    line = line_of(kernel_buffer=4096)
    line.fill()
    await line.peer.send(CLOSE)
    await until(lambda: line.ear.codes == [1000])
    frames = await line.peer.rest()
    assert frames[-1] == (Opcode.CLOSE, b"\x03\xe8")
    assert all(len(payload) == 1000 for _, payload in frames[:-1])
    await until(lambda: line.is_shut)


@pytest.mark.gen_test
async def test_a_peer_that_reads_nothing_after_its_close_is_disconnected(
    line_of: LineOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "CLOSE_HANDSHAKE_SECONDS", 0.05)
    line = line_of(kernel_buffer=4096)
    line.fill()
    await line.peer.send(CLOSE)
    await until(lambda: line.is_shut)


# ---- replies -------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_the_replies_to_many_frames_of_one_read_leave_in_one_send(line_of: LineOf) -> None:
    line = line_of(lambda ear, message: ear.connection.send(b"re:" + message))
    # A datagram-like pair keeps the bounds of every send(2): one record is one system call.
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, theirs):
        end.setblocking(False)
    single = line.ear.connection = WebSocketConnection(asyncio.get_running_loop(), ours, line.ear)
    single.begin()
    theirs.send(b"".join(client_frame(Opcode.TEXT, b"%d" % n) for n in range(20)))
    record = await within(asyncio.get_running_loop().sock_recv(theirs, 65536))
    assert record == b"".join(encode_text(b"re:%d" % n) for n in range(20))
    single.abort()
    theirs.close()


@pytest.mark.gen_test
async def test_a_reply_follows_the_pong_of_a_ping_that_came_before(line_of: LineOf) -> None:
    line = line_of(lambda ear, _: ear.connection.send(b"reply"))
    await line.peer.send(client_frame(Opcode.PING, b"1") + TEXT + client_frame(Opcode.PING, b"2"))
    assert [await line.peer.frame() for _ in range(3)] == [
        (Opcode.PONG, b"1"),
        (Opcode.TEXT, b"reply"),
        (Opcode.PONG, b"2"),
    ]


# ---- pause and resume ----------------------------------------------------------------------


@pytest.mark.gen_test
async def test_nothing_is_delivered_while_paused_and_everything_after(line_of: LineOf) -> None:
    line = line_of(lambda ear, _: ear.connection.pause())
    await line.peer.send(b"".join(client_frame(Opcode.TEXT, b"%d" % n) for n in range(3)))
    await reported(line)
    await line.peer.send(client_frame(Opcode.TEXT, b"3"))
    await turns()
    for number in range(4):
        await reported(line, number + 1)
        assert line.ear.texts == [b"%d" % n for n in range(number + 1)]
        line.connection.resume()


@pytest.mark.gen_test
async def test_pausing_and_resuming_within_one_message_continues(line_of: LineOf) -> None:
    def answer(ear: Ear, _: bytes) -> None:
        ear.connection.pause()
        ear.connection.resume()

    line = line_of(answer)
    await line.peer.send(TEXT * 3)
    await reported(line, 3)


@pytest.mark.gen_test
async def test_a_paused_wire_can_still_send_and_be_closed(
    line_of: LineOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "CLOSE_HANDSHAKE_SECONDS", 3600.0)
    line = line_of(lambda ear, _: ear.connection.pause())
    await line.peer.send(TEXT + TEXT)
    await reported(line)
    line.connection.send(b"later")
    assert await line.peer.frame() == (Opcode.TEXT, b"later")
    line.connection.close(CloseCode.SESSION_REVOKED)
    assert await line.peer.close_code() == 4410
    await line.peer.send(CLOSE)
    await until(lambda: line.is_shut)
    assert line.ear.texts == [b"hello"], "what waited behind the pause came after the close"
