"""What follows a handshake: not before its reader can listen, and nothing of it after a close."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from services.websocket.direct_connection import WebSocketConnection
from services.websocket.first_frames import DELAY_SECONDS, FirstFrames
from services.websocket.frames import Opcode, encode_text
from services.websocket.protocol import CloseCode
from tests.support.parts import Peer, client_frame, socket_pair
from tests.support.redis import until

HEAD = encode_text(b"the answer to the handshake")


class Noted:
    """What is answered and begun, noted."""

    def __init__(self, act: Callable[[], object]) -> None:
        self._act = act
        self.answers: list[bytes] = []

    def answer(self, head: bytes) -> None:
        self.answers.append(head)

    def begin(self) -> None:
        self._act()


class Opening:
    """A connection whose handshake is just being answered, its owner and its peer."""

    def __init__(self, leading: bytes = b"") -> None:
        ours, theirs = socket_pair()
        self.loop = asyncio.get_running_loop()
        self.peer = Peer(theirs)
        self.messages: list[bytes] = []
        self.codes: list[int] = []
        self.connection = WebSocketConnection(self.loop, ours, self)
        self.began: list[bool] = []
        first_frames = FirstFrames(self.loop)
        self.connection.open(HEAD, first_frames, leading)
        first_frames.add(Noted(lambda: self.began.append(True)))

    def received(self, message: bytes, is_text: bool) -> None:
        self.messages.append(message)

    def closed(self, code: int) -> None:
        self.codes.append(code)


@pytest.fixture
def openings() -> Iterator[list[Opening]]:
    opened: list[Opening] = []
    yield opened
    for opening in opened:
        opening.connection.abort()
        opening.peer.close()


@pytest.fixture
def opening(openings: list[Opening]) -> type[Opening]:
    class Kept(Opening):
        def __init__(self, leading: bytes = b"") -> None:
            super().__init__(leading)
            openings.append(self)

    return Kept


# ---- the timer -------------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_no_callback_runs_before_its_delay_and_all_run_in_order() -> None:
    first_frames = FirstFrames(asyncio.get_running_loop())
    called: list[tuple[int, float]] = []
    added: list[float] = []

    def note(number: int) -> None:
        called.append((number, time.monotonic()))

    for number in range(200):
        added.append(time.monotonic())
        first_frames.add(Noted(partial(note, number)))
        if number % 7 == 0:
            time.sleep(0.0005)  # noqa: ASYNC251 a loop that is busy: its own clock stands still
        if number % 20 == 0:
            await asyncio.sleep(0.001)
    await until(lambda: len(called) == len(added))
    assert [number for number, _ in called] == list(range(200))
    assert min(at - added[number] for number, at in called) >= DELAY_SECONDS


@pytest.mark.gen_test
async def test_one_timer_serves_all_sockets() -> None:
    first_frames = FirstFrames(asyncio.get_running_loop())
    called: list[int] = []
    before = time.monotonic()
    for number in range(1000):
        first_frames.add(Noted(partial(called.append, number)))
    apart = time.monotonic() - before
    at_once: list[int] = []
    while len(called) < 1000:
        await asyncio.sleep(0.0005)
        at_once.append(len(called))
    assert len(set(at_once)) <= 3 + apart * 1000, "they are called together, not one by one"


@pytest.mark.gen_test
async def test_the_fault_of_one_does_not_keep_the_others_waiting() -> None:
    first_frames = FirstFrames(asyncio.get_running_loop())
    called: list[str] = []

    def fault() -> None:
        raise RuntimeError("of one socket")

    first_frames.add(Noted(fault))
    first_frames.add(Noted(lambda: called.append("next")))
    await until(lambda: called == ["next"])
    first_frames.add(Noted(lambda: called.append("later")))
    await until(lambda: called == ["next", "later"])


# ---- a connection ----------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_the_handshakes_answer_leaves_alone(opening: type[Opening]) -> None:
    line = opening()
    line.connection.send(b"joined")
    line.connection.send(b"said meanwhile")
    await asyncio.sleep(0)
    # All that has left, read in the same turn of the loop: no timer can have come before.
    assert line.peer.sock.recv(65536) == HEAD
    assert line.began == []
    assert await line.peer.frame() == (Opcode.TEXT, b"joined")
    assert await line.peer.frame() == (Opcode.TEXT, b"said meanwhile")
    assert line.began == [True]


@pytest.mark.gen_test
async def test_a_close_meanwhile_leaves_nothing_but_itself(opening: type[Opening]) -> None:
    line = opening(client_frame(Opcode.TEXT, b"came with the handshake"))
    line.connection.send(b"joined")
    line.connection.send(b"of a room")
    line.connection.close(CloseCode.SESSION_REVOKED)
    assert line.codes == [CloseCode.SESSION_REVOKED]
    line.connection.send(b"too late")
    await line.peer.frame()
    assert (await line.peer.event())["event"] == "closing"
    opcode, payload = await line.peer.frame()
    assert (opcode, payload[:2]) == (Opcode.CLOSE, (4410).to_bytes(2, "big"))
    assert line.messages == []
    await line.peer.send(client_frame(Opcode.CLOSE, payload[:2]))
    with pytest.raises(EOFError):
        await line.peer.frame()


@pytest.mark.gen_test
async def test_what_comes_meanwhile_is_delivered_in_order(opening: type[Opening]) -> None:
    second = client_frame(Opcode.TEXT, b"second")
    line = opening(client_frame(Opcode.TEXT, b"first") + second[:3])
    await line.peer.send(second[3:])
    assert line.messages == []
    await until(lambda: line.messages == [b"first", b"second"])


@pytest.mark.gen_test
async def test_a_node_that_stood_still_meanwhile_lets_nothing_in_or_out(
    opening: type[Opening],
) -> None:
    line = opening(client_frame(Opcode.TEXT, b"first"))
    line.connection.send(b"joined")
    line.connection.hold()
    await line.peer.send(client_frame(Opcode.TEXT, b"second"))
    await until(lambda: line.began == [True])
    assert line.messages == []
    line.connection.release()
    await line.peer.frame()
    assert await line.peer.frame() == (Opcode.TEXT, b"joined")
    await until(lambda: line.messages == [b"first", b"second"])


@pytest.mark.gen_test
async def test_one_that_stood_still_and_continued_meanwhile_begins_in_order(
    opening: type[Opening],
) -> None:
    line = opening(client_frame(Opcode.TEXT, b"first"))
    line.connection.hold()
    line.connection.release()
    await line.peer.send(client_frame(Opcode.TEXT, b"second"))
    line.connection.send(b"joined")
    await line.peer.frame()
    assert await line.peer.frame() == (Opcode.TEXT, b"joined")
    await until(lambda: line.messages == [b"first", b"second"])


@pytest.mark.gen_test
async def test_a_peer_that_is_gone_meanwhile_is_dropped(opening: type[Opening]) -> None:
    line = opening()
    line.connection.send(b"joined")
    line.peer.close()
    await until(lambda: line.codes == [1006])


@pytest.mark.gen_test
async def test_the_answers_of_one_turn_of_the_loop_leave_one_behind_the_other() -> None:
    first_frames, order = FirstFrames(asyncio.get_running_loop()), list[str]()
    for number in range(3):

        class Answered(Noted):
            def answer(self, head: bytes) -> None:
                order.append(head.decode())

        first_frames.add(Answered(lambda: order.append("begun")), b"%d" % number)
    assert order == []
    await asyncio.sleep(0)
    assert order == ["0", "1", "2"]
    await until(lambda: order == ["0", "1", "2", "begun", "begun", "begun"])


@pytest.mark.gen_test
async def test_one_that_sends_nothing_by_itself_begins_with_its_answer() -> None:
    first_frames, order = FirstFrames(asyncio.get_running_loop()), list[str]()
    one = Noted(lambda: order.append("begun"))
    first_frames.add(one, HEAD, at_once=True)
    await asyncio.sleep(0)
    assert (one.answers, order) == ([HEAD], ["begun"])


@pytest.mark.gen_test
async def test_what_is_gathered_leaves_in_one_write_and_no_later_than_the_next_turn(
    opening: type[Opening],
) -> None:
    line = opening()
    await line.peer.frame()
    await until(lambda: line.began == [True])
    line.connection.gather()
    line.connection.send(b"first")
    line.connection.send(b"second")
    with pytest.raises(BlockingIOError):
        line.peer.sock.recv(1)
    await asyncio.sleep(0)
    assert line.peer.sock.recv(65536) == encode_text(b"first") + encode_text(b"second")
    await line.peer.send(client_frame(Opcode.TEXT, b"third"))
    await until(lambda: line.messages == [b"third"])


@pytest.mark.gen_test
async def test_a_close_drops_what_was_gathered(opening: type[Opening]) -> None:
    line = opening()
    await line.peer.frame()
    await until(lambda: line.began == [True])
    line.connection.gather()
    line.connection.send(b"of a room")
    line.connection.close(CloseCode.SESSION_REVOKED)
    assert (await line.peer.event())["event"] == "closing"
