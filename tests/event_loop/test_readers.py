"""event_loop/readers.py: which readers are called, and which are not any more."""

from __future__ import annotations

import asyncio
import logging
import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial

import pytest

from services.event_loop.readers import AT_ONCE, EpollReaders, LoopReaders, Readers, readers_of
from tests.support.parts import socket_pair
from tests.support.redis import until

pytestmark = pytest.mark.skipif(not hasattr(select, "epoll"), reason="epoll: Linux only")


@pytest.fixture
def pairs() -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    with ExitStack() as stack:
        made = [socket_pair() for _ in range(3)]
        for pair in made:
            for end in pair:
                stack.enter_context(end)
        yield made


class Reading:
    """Reads what comes on the first sockets of pairs."""

    def __init__(self, readers: Readers, pairs: list[tuple[socket.socket, socket.socket]]) -> None:
        self.readers, self.came = readers, list[tuple[int, bytes]]()
        self.socks = [ours for ours, _ in pairs]
        for number in range(len(pairs)):
            readers.add_reader(self.socks[number].fileno(), partial(self.read, number))

    def read(self, number: int) -> None:
        self.came.append((number, self.socks[number].recv(100)))


@pytest.mark.gen_test
async def test_each_socket_is_called_back_for_its_own_data_and_for_its_end(
    pairs: list[tuple[socket.socket, socket.socket]],
) -> None:
    reading = Reading(readers_of(asyncio.get_running_loop()), pairs)
    pairs[1][1].send(b"one")
    await until(lambda: reading.came == [(1, b"one")])
    pairs[2][1].send(b"two")
    pairs[0][1].close()
    await until(lambda: {(0, b""), (2, b"two")} <= set(reading.came))
    reading.readers.remove_reader(pairs[0][0].fileno())


@pytest.mark.gen_test
async def test_a_reader_removed_in_the_same_poll_is_not_called(
    pairs: list[tuple[socket.socket, socket.socket]],
) -> None:
    readers = EpollReaders(asyncio.get_running_loop())
    called: list[int] = []

    def act(number: int) -> None:
        called.append(number)
        for ours, _ in pairs:
            readers.remove_reader(ours.fileno())

    for number, (ours, theirs) in enumerate(pairs):
        theirs.send(b"x")
        readers.add_reader(ours.fileno(), partial(act, number))
    await until(lambda: len(called) > 0)
    for _ in range(3):
        await asyncio.sleep(0)
    assert len(called) == 1


@pytest.mark.gen_test
async def test_the_error_of_one_socket_does_not_keep_the_others_waiting(
    pairs: list[tuple[socket.socket, socket.socket]], caplog: pytest.LogCaptureFixture
) -> None:
    reading = Reading(readers_of(asyncio.get_running_loop()), pairs)
    reading.socks[0] = reading.socks[1]  # which has nothing for it: BlockingIOError
    pairs[0][1].send(b"x")
    pairs[2][1].send(b"y")
    with caplog.at_level(logging.ERROR, "usher.readers"):
        await until(lambda: (2, b"y") in reading.came)
        await until(lambda: len(caplog.records) > 0)
    reading.readers.remove_reader(pairs[0][0].fileno())


@pytest.mark.gen_test
async def test_a_socket_may_be_added_again_and_removing_it_twice_says_so(
    pairs: list[tuple[socket.socket, socket.socket]],
) -> None:
    ours, theirs = pairs[0]
    readers = EpollReaders(asyncio.get_running_loop())
    came: list[bytes] = []
    for _ in range(2):
        readers.add_reader(ours.fileno(), lambda: came.append(ours.recv(100)))
        with pytest.raises(FileExistsError):
            readers.add_reader(ours.fileno(), lambda: None)
        assert readers.remove_reader(ours.fileno()) is True
        assert readers.remove_reader(ours.fileno()) is False
    theirs.send(b"unheard")
    for _ in range(3):
        await asyncio.sleep(0)
    assert came == []
    readers.add_reader(ours.fileno(), lambda: came.append(ours.recv(100)))
    await until(lambda: came == [b"unheard"])


@pytest.mark.gen_test
async def test_more_sockets_than_one_poll_takes_are_all_called() -> None:
    readers, called = EpollReaders(asyncio.get_running_loop()), set[int]()
    with ExitStack() as stack:
        pair = socket_pair()
        for end in pair:
            stack.enter_context(end)
        copies = [stack.enter_context(pair[0].dup()) for _ in range(AT_ONCE + 50)]

        def act(number: int) -> None:
            called.add(number)
            readers.remove_reader(number)

        for copy in copies:
            number = copy.fileno()
            readers.add_reader(number, partial(act, number))
        pair[1].send(b"x")
        await until(lambda: len(called) == len(copies))


@pytest.mark.gen_test
async def test_a_number_that_was_forgotten_with_its_socket_serves_the_next_one() -> None:
    readers, came = EpollReaders(asyncio.get_running_loop()), list[str]()
    first, peer = socket_pair()
    number = first.fileno()
    readers.add_reader(number, lambda: came.append("of the first"))
    peer.send(b"unread")
    readers.forget(number)
    first.close()
    peer.close()
    with ExitStack() as stack:
        second, other = socket_pair()
        for end in (second, other):
            stack.enter_context(end)
        assert second.fileno() == number
        readers.add_reader(number, lambda: came.append(second.recv(9).decode()))
        other.send(b"second")
        await until(lambda: came == ["second"])
        readers.remove_reader(number)


@pytest.mark.gen_test
@pytest.mark.parametrize("form", [EpollReaders, LoopReaders])
async def test_what_is_to_be_done_soon_is_done_in_the_next_turn_and_in_order(
    form: type[EpollReaders | LoopReaders],
) -> None:
    readers, done = form(asyncio.get_running_loop()), list[int]()
    for number in range(3):
        readers.call_soon(partial(done.append, number))
    assert done == []
    await asyncio.sleep(0)
    assert done == [0, 1, 2]


@pytest.mark.gen_test
async def test_the_fault_of_one_does_not_keep_the_others_from_what_they_have_to_do_soon(
    caplog: pytest.LogCaptureFixture,
) -> None:
    readers, done = EpollReaders(asyncio.get_running_loop()), list[str]()

    def fault() -> None:
        readers.call_soon(lambda: done.append("in the turn after"))
        raise RuntimeError("of one socket")

    readers.call_soon(fault)
    readers.call_soon(lambda: done.append("next"))
    await until(lambda: done == ["next", "in the turn after"])
    assert "writing to a socket failed" in caplog.text
