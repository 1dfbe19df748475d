"""The baseline: Tornado's own WebSocketHandler, no authentication at all: an echo, and a room.

On uvloop where it installs, as Usher is. ``python -m benchmarks.bare_tornado`` prints its address.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import tornado.httpserver
import tornado.netutil
import tornado.web
import tornado.websocket

LoopFactory = Callable[[], asyncio.AbstractEventLoop]
try:
    import uvloop

    new_loop: LoopFactory = uvloop.new_event_loop
except ImportError:
    new_loop = asyncio.new_event_loop


class EchoHandler(tornado.websocket.WebSocketHandler):
    """Echoes every message.

    Nagle's algorithm is off: with Tornado's default, replies to pipelined requests wait for the
    client's delayed acknowledgement, and the comparison would be won without any merit.
    """

    def open(self, *args: str, **kwargs: str) -> None:
        self.set_nodelay(True)

    async def on_message(self, message: str | bytes) -> None:
        await self.write_message(message, binary=isinstance(message, bytes))


class RoomHandler(EchoHandler):
    """A room as most people would write it: what one says goes to all, one after the other."""

    def initialize(self, room: set[RoomHandler]) -> None:
        self._room = room

    def open(self, *args: str, **kwargs: str) -> None:
        super().open(*args, **kwargs)
        self._room.add(self)

    def on_close(self) -> None:
        self._room.discard(self)

    async def on_message(self, message: str | bytes) -> None:
        for member in tuple(self._room):
            # Not awaited: one reader must not hold up the others. Tornado queues and writes.
            member.write_message(message)


async def main() -> None:
    """Listen on a free port of the loopback address until killed."""
    sockets = tornado.netutil.bind_sockets(0, "127.0.0.1", socket.AF_INET, backlog=1024)
    room: set[RoomHandler] = set()
    routes: list[Any] = [("/ws", EchoHandler), ("/room", RoomHandler, {"room": room})]
    server = tornado.httpserver.HTTPServer(tornado.web.Application(routes))
    server.add_sockets(sockets)
    print(f"http://127.0.0.1:{sockets[0].getsockname()[1]}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    new_loop().run_until_complete(main())
