"""One WebSocket on a real pair of sockets: what it reads, what waits, and how it ends."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from services.websocket import direct_connection as wire
from services.websocket.connection import FIRST_READ_BYTES, OUTBOX_BYTES
from services.websocket.direct_connection import WebSocketConnection
from services.websocket.first_frames import FirstFrames
from services.websocket.frames import Opcode, Perishable, encode_close, encode_text
from services.websocket.protocol import MAX_UNJOINED_MESSAGE_BYTES, CloseCode
from tests.support.parts import Peer, client_frame, socket_pair
from tests.support.redis import until, within

TEXT = client_frame(Opcode.TEXT, b"hello")
CLOSE = client_frame(Opcode.CLOSE, b"\x03\xe8")
Answer = Callable[["Ear", bytes], None]


class Ear:
    """The owner of a connection, which records all calls."""

    def __init__(self, answer: Answer | None = None) -> None:
        self.answer = answer
        self.messages: list[tuple[bytes, bool]] = []
        self.codes: list[int] = []
        self.on_closed: Callable[[], object] = list
        self.connection: WebSocketConnection

    @property
    def texts(self) -> list[bytes]:
        return [message for message, _ in self.messages]

    def received(self, message: bytes, is_text: bool) -> None:
        self.messages.append((message, is_text))
        if self.answer is not None:
            self.answer(self, message)

    def closed(self, code: int) -> None:
        self.codes.append(code)
        self.on_closed()


class Line:
    """A started wire, its owner and its peer."""

    def __init__(self, answer: Answer | None = None, kernel_buffer: int | None = None) -> None:
        ours, theirs = socket_pair()
        if kernel_buffer is not None:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, kernel_buffer)
        self.sock, self.peer, self.ear = ours, Peer(theirs), Ear(answer)
        self.connection = self.ear.connection = WebSocketConnection(
            asyncio.get_running_loop(), ours, self.ear
        )
        self.connection.begin()

    @property
    def is_shut(self) -> bool:
        """Whether the socket has been let go of."""
        return self.sock.fileno() < 0

    def fill(self) -> int:
        """Send until the kernel takes no more; returns how many frames were sent."""
        for number in range(1, 10_000):
            self.connection.send(b"x" * 1000)
            if self.connection._outbox is not None:
                return number
        raise AssertionError("the kernel takes everything")


@pytest.fixture
def lines() -> Iterator[list[Line]]:
    """Whatever a test opens is closed behind it."""
    opened: list[Line] = []
    yield opened
    for line in opened:
        line.peer.close()
        line.sock.close()


@pytest.fixture
def line_of(lines: list[Line]) -> Callable[..., Line]:
    def make(answer: Answer | None = None, kernel_buffer: int | None = None) -> Line:
        lines.append(Line(answer, kernel_buffer))
        return lines[-1]

    return make


LineOf = Callable[..., Line]


async def reported(line: Line, count: int = 1) -> None:
    await until(lambda: len(line.ear.messages) >= count)


async def turns(count: int = 5) -> None:
    """Lets the loop run whatever is ready: enough to show that something does not happen."""
    for _ in range(count):
        await asyncio.sleep(0)


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


# ---- the outbox ----------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_what_the_kernel_does_not_take_is_sent_when_it_does(line_of: LineOf) -> None:
    line = line_of(kernel_buffer=4096)
    sent = line.fill()
    line.connection.send(b"last")
    for _ in range(sent):
        assert await line.peer.frame() == (Opcode.TEXT, b"x" * 1000)
    assert await line.peer.frame() == (Opcode.TEXT, b"last")
    await until(lambda: line.connection._outbox is None)
    line.connection.send(b"and on")
    assert await line.peer.frame() == (Opcode.TEXT, b"and on")


@pytest.mark.gen_test
async def test_a_slow_reader_is_closed_when_its_outbox_is_full(line_of: LineOf) -> None:
    line = line_of(kernel_buffer=4096)
    line.fill()
    waiting = 1000
    while line.connection.is_open:
        assert waiting <= OUTBOX_BYTES + 4000, "nothing bounds the outbox"
        line.connection.send(b"y" * 1000)
        waiting += 1004
    assert waiting > OUTBOX_BYTES - 4000
    assert line.ear.codes == [4413]
    frames = await line.peer.last_words()
    assert int.from_bytes(frames[-1][1][:2], "big") == 4413
    assert b"y" * 1000 not in [payload for _, payload in frames], "what waited was dropped"


@pytest.mark.gen_test
async def test_one_enormous_answer_counts_as_well(line_of: LineOf) -> None:
    line = line_of(kernel_buffer=4096)
    line.connection.send(b"x" * (OUTBOX_BYTES * 2))
    assert line.ear.codes == [4413]


@pytest.mark.gen_test
async def test_a_close_lets_the_frame_begun_end_and_drops_those_behind_it(line_of: LineOf) -> None:
    line = line_of(kernel_buffer=4096)
    sent = line.fill()
    for _ in range(5):
        line.connection.send(b"secret")
    line.connection.close(CloseCode.SESSION_REVOKED)
    frames = await line.peer.last_words()
    assert [opcode for opcode, _ in frames[-2:]] == [Opcode.TEXT, Opcode.CLOSE]
    assert b'"code":4410' in frames[-2][1]
    assert {payload for _, payload in frames[:-2]} == {b"x" * 1000}
    assert len(frames) - 2 in (sent - 1, sent)


@pytest.mark.gen_test
async def test_of_replies_that_left_together_those_not_begun_are_dropped_too(
    line_of: LineOf,
) -> None:
    line = line_of(lambda ear, _: ear.connection.send(b"r" * 1000), kernel_buffer=4096)
    await line.peer.send(TEXT * 200)
    await reported(line, 200)
    line.connection.close(CloseCode.SESSION_REVOKED)
    frames = await line.peer.last_words()
    assert b'"code":4410' in frames[-2][1]
    assert 0 < len(frames) - 2 < 100, "200 replies were one frame to the outbox"


@pytest.mark.gen_test
async def test_replies_behind_a_full_outbox_do_not_follow_the_close_frame(
    line_of: LineOf,
) -> None:
    line = line_of(lambda ear, _: ear.connection.send(b"r" * 50_000), kernel_buffer=4096)
    line.fill()
    await line.peer.send(TEXT * 8)
    await until(lambda: line.ear.codes)
    frames = await line.peer.last_words()
    assert frames[-1][0] == Opcode.CLOSE
    assert [opcode for opcode, _ in frames].count(Opcode.CLOSE) == 1


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


# ---- held, after a stall of the loop ---------------------------------------------------------


async def texts_of(line: Line, count: int) -> list[bytes]:
    """The next frames that the peer gets."""
    return [(await within(line.peer.frame()))[1] for _ in range(count)]


@pytest.mark.gen_test
async def test_a_held_socket_lets_nothing_in_or_out_until_it_is_released(line_of: LineOf) -> None:
    line = line_of(lambda ear, message: ear.connection.send(b"to " + message))
    line.connection.hold()
    await line.peer.send(TEXT)
    line.connection.send(b"news")
    await turns(20)
    assert line.ear.messages == []
    line.connection.release()
    await reported(line)
    assert await texts_of(line, 2) == [b"news", b"to hello"]


@pytest.mark.gen_test
async def test_a_held_socket_that_is_closed_says_so_at_once_and_nothing_else(
    line_of: LineOf,
) -> None:
    line = line_of(lambda ear, message: ear.connection.send(b"to " + message))
    line.connection.hold()
    await line.peer.send(TEXT)
    line.connection.send(b"not for who was revoked")
    line.connection.close(CloseCode.SESSION_REVOKED)
    [closing] = await texts_of(line, 1)
    assert b'"closing"' in closing
    line.connection.release()
    await turns()
    assert line.ear.messages == []
    assert line.ear.codes == [CloseCode.SESSION_REVOKED]


@pytest.mark.gen_test
async def test_a_stall_within_a_read_keeps_its_answers_back(lines: list[Line]) -> None:
    line = Line(lambda ear, message: ear.connection.send(b"to " + message))
    lines.append(line)
    asked: list[int] = []

    def stalled() -> bool:
        asked.append(len(line.ear.messages))
        if line.ear.messages:  # between the read and its answer
            line.connection.hold()
        return bool(line.ear.messages)

    line.connection._stalled = stalled
    await line.peer.send(TEXT * 3)
    await reported(line, 3)
    await turns(20)
    assert asked == [0, 3], "once for the read, once for its answers; not for each message"
    line.connection._stalled = lambda: False
    line.connection.release()
    assert await texts_of(line, 3) == [b"to hello"] * 3


@pytest.mark.gen_test
async def test_a_pause_within_a_hold_ends_with_neither_alone(line_of: LineOf) -> None:
    line = line_of()
    line.connection.hold()
    line.connection.pause()
    await line.peer.send(TEXT)
    line.connection.release()
    await turns(20)
    assert line.ear.messages == []
    line.connection.hold()
    line.connection.resume()
    await turns(20)
    assert line.ear.messages == []
    line.connection.release()
    await reported(line)


@pytest.mark.gen_test
async def test_what_waited_for_a_slow_reader_waits_on_in_a_hold(line_of: LineOf) -> None:
    line = line_of(kernel_buffer=8192)
    count = line.fill()
    line.connection.hold()
    line.connection.send(b"last")
    line.connection.release()
    frames = await texts_of(line, count + 1)
    assert frames[-1] == b"last"
    assert len(frames) == count + 1


# ---- what may not leave after a moment -------------------------------------------------------


@pytest.mark.gen_test
async def test_what_waits_for_a_slow_reader_until_it_may_not_leave_is_dropped_or_replaced(
    line_of: LineOf,
) -> None:
    line, over = line_of(kernel_buffer=4096), list[bool]()
    sent = line.fill()
    send = line.connection.send_perishable
    send(Perishable.of(encode_text(b"secret"), lambda: bool(over)))
    send(Perishable.of(encode_text(b"reply"), lambda: bool(over), encode_text(b"refused")))
    line.connection.send(b"of another room")
    over.append(True)
    for _ in range(sent):
        assert await line.peer.frame() == (Opcode.TEXT, b"x" * 1000)
    assert await line.peer.frame() == (Opcode.TEXT, b"refused")
    assert await line.peer.frame() == (Opcode.TEXT, b"of another room")
    await until(lambda: line.connection._outbox is None)
    assert line.connection._queued == 0


@pytest.mark.gen_test
async def test_what_waits_while_a_connection_is_held_is_looked_at_when_it_leaves(
    line_of: LineOf,
) -> None:
    line, over = line_of(), list[bool]()
    line.connection.hold()
    line.connection.send_perishable(Perishable.of(encode_text(b"secret"), lambda: bool(over)))
    line.connection.send_perishable(Perishable.of(encode_text(b"in time"), lambda: False))
    over.append(True)
    line.connection.release()
    assert await line.peer.frame() == (Opcode.TEXT, b"in time")
    line.connection.send(b"and on")
    assert await line.peer.frame() == (Opcode.TEXT, b"and on")


@pytest.mark.gen_test
async def test_what_is_gathered_for_one_write_is_looked_at_when_it_leaves(line_of: LineOf) -> None:
    over = list[bool]()

    def answer(ear: Ear, _: bytes) -> None:
        ear.connection.send_perishable(Perishable.of(encode_text(b"secret"), lambda: bool(over)))
        over.append(True)
        ear.connection.send(b"reply")

    line = line_of(answer)
    await line.peer.send(TEXT)
    assert await line.peer.frame() == (Opcode.TEXT, b"reply")
