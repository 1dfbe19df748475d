"""What waits in a WebSocket connection until it can leave, or may not leave any more."""

from __future__ import annotations

import pytest

from services.websocket.connection import OUTBOX_BYTES
from services.websocket.frames import Opcode, Perishable, encode_text
from services.websocket.protocol import CloseCode
from tests.support.redis import until, within
from tests.websocket.lines import TEXT, Ear, Line, LineOf, line_of, lines, reported, turns

__all__ = ["line_of", "lines"]

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
