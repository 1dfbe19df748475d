"""Many sockets in one room, read as cheaply as can be: marks are counted, frames not parsed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks import machine
from benchmarks.errors import BenchmarkFailed
from benchmarks.installation import MARK
from benchmarks.reactor import READ_BYTES, Reactor
from benchmarks.ws_load import Address, Client, open_all

MARK_BYTES = MARK.encode()
FIRST, SECOND = MARK_BYTES
RESERVED_FILES = 300
FAREWELL_BYTES = 60
"""The end of what was read last is kept: it may be a good-bye, to be shown."""


class Tally:
    """The number of marks received by all members, and their shared read buffer."""

    def __init__(self) -> None:
        self.total = 0
        self.buffer = bytearray(READ_BYTES)


class Member(Client):
    """Counts the marks that arrive after its join, also one that two reads share."""

    def __init__(
        self, reactor: Reactor, address: Address, upgrade: bytes, greeting: bytes, tally: Tally
    ) -> None:
        self._tally = tally
        self._half = False
        self._last = bytearray()
        self.seen = 0
        super().__init__(reactor, address, upgrade, greeting)

    def on_ready(self, events: int) -> None:
        if not self.joined or self._rest:
            self._read_frames(events)
            return
        buffer = self._tally.buffer
        try:
            size = self.sock.recv_into(buffer)
        except ConnectionResetError:
            size = 0
        if not size:
            self.close()
            self.on_closed()
            return
        found = buffer.count(MARK_BYTES, 0, size)
        if self._half and buffer[0] == SECOND:
            found += 1
        self._half = buffer[size - 1] == FIRST
        self._last = buffer[max(0, size - FAREWELL_BYTES) : size]
        if found:
            self.on_marks(found)

    def _read_frames(self, events: int) -> None:
        """Parse frames until the join is complete and no partial frame is left."""
        super().on_ready(events)

    def on_text(self, payload: bytes) -> None:
        found = payload.count(MARK_BYTES)
        if found:
            self.on_marks(found)

    def on_marks(self, found: int) -> None:
        """So many more marks have arrived."""
        self.seen += found
        self._tally.total += found

    def on_closed(self) -> None:
        raise BenchmarkFailed(f"a member was closed; its last bytes: {bytes(self._last)!r}")


def open_crowd(reactor: Reactor, members: Iterable[Member], count: int, at_once: int) -> None:
    """Open ``count`` members; raises BenchmarkFailed when there are too few file descriptors."""
    if machine.raise_file_limit(count + RESERVED_FILES) < count + RESERVED_FILES:
        raise BenchmarkFailed(f"{count} sockets need a higher limit: ulimit -n")
    open_all(reactor, members, at_once)


def leave_all(members: Sequence[Member]) -> None:
    """Reset every connection, so that no port stays in TIME_WAIT."""
    for member in members:
        member.abandon()
