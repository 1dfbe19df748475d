"""A network that can be cut: a TCP proxy on loopback whose connections end when it is told to."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Any

PATIENCE = 20.0


class Line:
    """Leads from one port of this machine to another.

    Args:
        port: where it is reached.
        to: where it leads.
    """

    def __init__(self, port: int, to: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._port, self._to = port, to
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._ends: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def mend(self) -> None:
        """From now on it can be reached."""
        self._done(self._listen())

    def cut(self) -> None:
        """Its connections end, and nobody comes through until it is mended."""
        self._done(self._end())

    def close(self) -> None:
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _done(self, work: Any) -> None:
        future: Future[None] = asyncio.run_coroutine_threadsafe(work, self._loop)
        future.result(PATIENCE)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._through, "127.0.0.1", self._port)

    async def _end(self) -> None:
        if self._server is not None:
            self._server.close()
        self._server = None
        while self._ends:
            for end in self._ends:
                end.transport.abort()
            await asyncio.sleep(0)

    async def _through(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        self._ends.add(back)
        try:
            far, forth = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            back.transport.abort()
            self._ends.discard(back)
            return
        self._ends.add(forth)
        await asyncio.gather(self._copy(near, forth), self._copy(far, back))
        self._ends -= {back, forth}

    async def _copy(self, read: asyncio.StreamReader, write: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await read.read(65536):
                write.write(data)
                await write.drain()
        with suppress(OSError):
            write.close()


@contextmanager
def line(port: int, to: int) -> Iterator[Line]:
    """A line that is whole at first."""
    running = Line(port, to)
    try:
        running.mend()
        yield running
    finally:
        running.close()
