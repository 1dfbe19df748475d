"""A line over which everything takes its time: a TCP proxy on loopback that holds bytes back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def far_away(port: int, round_trip: float) -> Iterator[int]:
    """A port that leads to another on this machine, with `round_trip` seconds there and back.

    Bytes keep their order, and any number of them may be under way: it is the distance that is
    long, not the line that is narrow.
    """
    line = _Line(port, round_trip)
    thread = threading.Thread(target=line.run)
    thread.start()
    try:
        yield line.listen()
    finally:
        line.loop.call_soon_threadsafe(line.over.set)
        thread.join()


class _Line:
    def __init__(self, port: int, round_trip: float) -> None:
        self.loop = asyncio.new_event_loop()
        self.over = asyncio.Event()
        self.ends: set[asyncio.Transport] = set()
        self._port, self._round_trip = port, round_trip
        self._ready = threading.Event()
        self._own_port = 0

    def listen(self) -> int:
        assert self._ready.wait(timeout=10)
        return self._own_port

    def run(self) -> None:
        self.loop.run_until_complete(self._serve())
        self.loop.close()

    async def _serve(self) -> None:
        server = await self.loop.create_server(self._near_end, "127.0.0.1", 0)
        self._own_port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self.over.wait()
        server.close()
        while self.ends:
            for end in self.ends:
                end.abort()
            await asyncio.sleep(0)

    def later(self, work: Callable[[], object]) -> None:
        """Half a round trip later, in the order of the calls."""
        self.loop.call_later(self._round_trip / 2, work)

    def _near_end(self) -> _End:
        near, far = _End(self), _End(self)
        near.other, far.other = far, near
        self.later(lambda: self.loop.create_task(self._reach(far)))
        return near

    async def _reach(self, far: _End) -> None:
        await self.loop.create_connection(lambda: far, "127.0.0.1", self._port)


class _End(asyncio.Protocol):
    """One end of a line. What it reads, the other end writes later."""

    def __init__(self, line: _Line) -> None:
        self._line = line
        self._transport: asyncio.Transport | None = None
        self._early: list[bytes] = []
        self.other: _End = self

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._line.ends.add(transport)
        transport.writelines(self._early)

    def data_received(self, data: bytes) -> None:
        self._line.later(lambda: self.other.write(data))

    def connection_lost(self, _: Exception | None) -> None:
        assert self._transport is not None
        self._line.ends.discard(self._transport)
        self._line.later(self.other.close)

    def write(self, data: bytes) -> None:
        if self._transport is None:
            self._early.append(data)
        else:
            self._transport.write(data)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
