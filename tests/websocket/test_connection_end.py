"""How a WebSocket connection ends: by a close of either side, or by a peer that vanishes."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from functools import partial

import pytest

from services.websocket.connection import FIRST_READ_BYTES
from services.websocket.direct_connection import WebSocketConnection
from services.websocket.frames import Opcode, encode_close, encode_text
from services.websocket.protocol import CloseCode
from tests.support.parts import client_frame, socket_pair
from tests.support.redis import until, within
from tests.websocket.lines import CLOSE, TEXT, Ear, LineOf, line_of, lines, turns

__all__ = ["line_of", "lines"]

# ---- closing -------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_close_says_why_and_waits_for_the_peers_answer(line_of: LineOf) -> None:
    line = line_of()
    line.connection.close(CloseCode.SERVICE_RESTART, after=2.0)
    assert line.ear.codes == [1012]
    assert not line.connection.is_open
    assert (await line.peer.event())["data"] == {
        "code": 1012,
        "reason": "service_restart",
        "retry": "backoff",
        "after": 2.0,
    }
    assert await line.peer.frame() == (Opcode.CLOSE, b"\x03\xf4service_restart")
    assert not line.is_shut
    await line.peer.send(client_frame(Opcode.CLOSE, b"\x03\xf4"))
    assert await line.peer.rest() == [], "the peer's answer is not answered"
    assert line.is_shut


@pytest.mark.gen_test
async def test_a_peer_that_does_not_answer_the_close_is_disconnected_after_a_second(
    line_of: LineOf,
) -> None:
    line, start = line_of(), asyncio.get_running_loop().time()
    line.connection.close(CloseCode.FORBIDDEN)
    await line.peer.rest()
    assert 0.8 < asyncio.get_running_loop().time() - start < 10
    assert line.is_shut
    assert line.ear.codes == [4403]


@pytest.mark.parametrize(
    ("payload", "code"), [(b"\x03\xe8bye", 1000), (b"\x0f\xa0", 4000), (b"", 1005)]
)
@pytest.mark.gen_test
async def test_a_close_of_the_peer_is_echoed_and_ends_the_connection(
    line_of: LineOf, payload: bytes, code: int
) -> None:
    line = line_of()
    await line.peer.send(client_frame(Opcode.CLOSE, payload))
    assert await line.peer.rest() == [(Opcode.CLOSE, payload[:2])]
    assert line.ear.codes == [code]
    assert line.is_shut


@pytest.mark.gen_test
async def test_the_echo_of_a_close_arrives_although_the_peer_says_more_behind_it() -> None:
    # Bytes that nobody reads make close(2) a reset, which drops what has not left.
    with socket.create_server(("127.0.0.1", 0)) as listening:
        theirs = socket.create_connection(listening.getsockname())
        ours, _ = listening.accept()
    for end in (ours, theirs):
        end.setblocking(False)
    theirs.send(CLOSE + TEXT * 2000)
    await until(lambda: len(ours.recv(100_000, socket.MSG_PEEK)) > 2 * FIRST_READ_BYTES)
    ear = Ear()
    ear.connection = WebSocketConnection(asyncio.get_running_loop(), ours, ear)
    ear.connection.begin()
    came = await within(asyncio.get_running_loop().sock_recv(theirs, 65536))
    assert came == encode_close(1000)
    assert (ear.codes, ear.texts, ours.fileno()) == ([1000], [], -1)
    theirs.close()


@pytest.mark.parametrize("stop", ["pause", "rest"])
@pytest.mark.gen_test
async def test_the_owner_hears_of_a_close_whose_peer_has_reset_behind_what_cannot_be_read(
    stop: str,
) -> None:
    # The close reads on, finds the bad bytes, and ends TCP, which the reset has already ended.
    with socket.create_server(("127.0.0.1", 0)) as listening:
        theirs = socket.create_connection(listening.getsockname())
        ours, _ = listening.accept()
    ours.setblocking(False)
    ear = Ear(lambda ear, _: getattr(ear.connection, stop)())
    ear.connection = WebSocketConnection(asyncio.get_running_loop(), ours, ear)
    gone: list[str] = []
    ear.on_closed = lambda: ear.connection.when_gone(lambda: gone.append("gone"))
    ear.connection.begin()
    theirs.sendall(TEXT + b"\xff" * 100)
    await until(lambda: ear.texts)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    theirs.close()
    ear.connection.close(CloseCode.UNAUTHENTICATED)
    await until(lambda: ours.fileno() < 0)
    assert (ear.codes, gone) == ([4401], ["gone"])


@pytest.mark.gen_test
async def test_what_comes_during_a_pause_is_delivered_after_it_and_a_short_one_costs_no_call(
    line_of: LineOf,
) -> None:
    class Counted:
        """The loop's readers, counted."""

        def __init__(self) -> None:
            self.calls: list[str] = []

        def add_reader(self, fd: int, act: Callable[[], None]) -> None:
            self.calls.append("add")
            loop.add_reader(fd, act)

        def remove_reader(self, fd: int) -> None:
            self.calls.append("remove")
            loop.remove_reader(fd)

        def forget(self, fd: int) -> None:
            self.remove_reader(fd)

        def call_soon(self, act: Callable[[], None]) -> None:
            loop.call_soon(act)

    loop, readers, ear = asyncio.get_running_loop(), Counted(), Ear()
    ours, theirs = socket_pair()
    ear.connection = WebSocketConnection(loop, ours, ear, readers=readers)
    ear.connection.begin()
    ear.connection.pause()
    ear.connection.resume()
    assert readers.calls == ["add"]
    ear.connection.pause()
    theirs.send(TEXT)
    await until(lambda: readers.calls == ["add", "remove"])  # a long one does not spin
    assert ear.texts == []
    ear.connection.resume()
    await until(lambda: ear.texts == [b"hello"])
    assert readers.calls == ["add", "remove", "add"]
    ear.connection.abort()
    theirs.close()


@pytest.mark.gen_test
async def test_replies_leave_before_the_echo_of_a_close_in_the_same_read(line_of: LineOf) -> None:
    line = line_of(lambda ear, message: ear.connection.send(b"re:" + message))
    await line.peer.send(TEXT + CLOSE + TEXT)
    assert await line.peer.rest() == [(Opcode.TEXT, b"re:hello"), (Opcode.CLOSE, b"\x03\xe8")]
    assert line.ear.texts == [b"hello"]


@pytest.mark.gen_test
async def test_a_close_during_processing_stops_all_that_is_behind_it(line_of: LineOf) -> None:
    def answer(ear: Ear, message: bytes) -> None:
        ear.connection.send(b"seen")
        if message == b"stop":
            ear.connection.close(CloseCode.BAD_REQUEST)
        ear.connection.send(b"more")

    line = line_of(answer)
    stop = client_frame(Opcode.TEXT, b"stop")
    await line.peer.send(TEXT + stop + TEXT + client_frame(Opcode.PING))
    frames = [await line.peer.frame() for _ in range(5)]
    assert [payload for _, payload in frames[:3]] == [b"seen", b"more", b"seen"]
    assert b'"closing"' in frames[3][1]
    assert frames[4][0] == Opcode.CLOSE
    assert line.ear.texts == [b"hello", b"stop"]
    await line.peer.send(TEXT + CLOSE)
    assert await line.peer.rest() == []
    assert line.ear.texts == [b"hello", b"stop"]


@pytest.mark.gen_test
async def test_a_flood_after_our_close_is_read_away_and_never_delivered(line_of: LineOf) -> None:
    line = line_of()
    line.connection.close(CloseCode.SESSION_REVOKED)
    line.connection.send(b"not any more")
    line.connection.ping()
    await line.peer.send((TEXT + client_frame(Opcode.PING, b"x")) * 20_000 + CLOSE)
    frames = await line.peer.last_words()
    assert [opcode for opcode, _ in frames] == [Opcode.TEXT, Opcode.CLOSE]
    assert not line.ear.messages
    assert line.ear.codes == [4410]


@pytest.mark.gen_test
async def test_a_flood_after_a_broken_frame_is_not_held(line_of: LineOf) -> None:
    line = line_of()
    await line.peer.send(b"\x81\x01x")
    assert await line.peer.close_code() == 1002
    await line.peer.send(TEXT * 50_000)
    assert await line.peer.rest() == []
    assert len(line.connection._reader._buffer) < 1000
    assert not line.ear.messages


@pytest.mark.gen_test
async def test_a_second_close_says_nothing(line_of: LineOf) -> None:
    line = line_of()
    line.connection.close(CloseCode.REPLACED)
    line.connection.close(CloseCode.SESSION_REVOKED)
    await line.peer.send(CLOSE)
    frames = await line.peer.last_words()
    assert len(frames) == 2
    assert line.ear.codes == [4409]


# ---- a peer that vanishes ------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_peer_that_vanishes_is_reported_once_as_an_abnormal_closure(
    line_of: LineOf,
) -> None:
    line = line_of()
    await line.peer.send(TEXT[:4])
    line.peer.close()
    await until(lambda: line.ear.codes)
    assert line.ear.codes == [1006]
    assert line.is_shut
    line.connection.send(b"into the void")
    line.connection.close(CloseCode.SESSION_REVOKED)
    line.connection.abort()
    line.connection.pause()
    line.connection.resume()
    await turns()
    assert line.ear.codes == [1006]


@pytest.mark.gen_test
async def test_a_peer_that_vanishes_with_frames_waiting_is_reported_once(line_of: LineOf) -> None:
    line = line_of(kernel_buffer=4096)
    line.fill()
    line.peer.close()
    await until(lambda: line.ear.codes)
    await turns()
    assert line.ear.codes == [1006]
    assert line.is_shut


@pytest.mark.gen_test
async def test_an_abort_ends_silently(line_of: LineOf) -> None:
    line = line_of()
    line.connection.abort()
    assert await line.peer.rest() == []
    assert line.ear.codes == [1006]


@pytest.mark.gen_test
async def test_a_broken_pipe_within_a_fan_out_does_not_disturb_the_fan_out(
    line_of: LineOf,
) -> None:
    room = {line_of() for _ in range(5)}
    gone = next(iter(room))

    for line in room:
        line.ear.on_closed = partial(room.discard, line)
    gone.peer.close()
    frame = encode_text(b"to all")
    for line in room:  # changing the set during this walk would raise
        line.connection.send_frame(frame)
    assert gone in room, "it leaves in a later turn"
    await until(lambda: gone not in room)
    for line in room:
        assert await line.peer.frame() == (Opcode.TEXT, b"to all")
    assert gone.ear.codes == [1006]
    assert len(room) == 4


@pytest.mark.gen_test
async def test_a_close_right_after_a_broken_pipe_is_reported_once(line_of: LineOf) -> None:
    line = line_of()
    line.peer.close()
    line.connection.send(b"nobody hears this")
    line.connection.close(CloseCode.SESSION_REVOKED)
    assert line.ear.codes == [4410]
    await until(lambda: line.is_shut)
    assert line.ear.codes == [4410]
