"""The baseline: Tornado's own WebSocketHandler, accept and echo, no authentication at all.

On uvloop where it installs, as Usher is. ``python -m benchmarks.bare_tornado`` prints its address.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

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
    """Every message comes back as it was.

    Nagle's algorithm is off: with Tornado's default, replies to pipelined requests wait for the
    client's delayed acknowledgement, and the comparison would be won without any merit.
    """

    def open(self, *args: str, **kwargs: str) -> None:
        self.set_nodelay(True)

    async def on_message(self, message: str | bytes) -> None:
        await self.write_message(message, binary=isinstance(message, bytes))


async def main() -> None:
    """Listen on a free port of the loopback address until killed."""
    sockets = tornado.netutil.bind_sockets(0, "127.0.0.1", socket.AF_INET, backlog=1024)
    server = tornado.httpserver.HTTPServer(tornado.web.Application([("/ws", EchoHandler)]))
    server.add_sockets(sockets)
    print(f"http://127.0.0.1:{sockets[0].getsockname()[1]}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    new_loop().run_until_complete(main())
