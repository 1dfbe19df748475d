"""An echo server on the product's connection code, for conformance suites of RFC 6455.

Run it with a port of 0; it prints the port that it got. Everything between the handshake and the
close frame is `services.websocket.connection`; only what is done with a message is not Usher's.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Awaitable, Callable
from functools import partial

from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPHeaders, parse_request_start_line
from tornado.netutil import bind_sockets
from tornado.web import Application
from tornado.websocket import WebSocketHandler, WebSocketProtocol, WebSocketProtocol13

from handlers.websocket import tornado_connection
from handlers.websocket.handshake import answer, check_handshake
from handlers.websocket.tornado_connection import TornadoConnection
from handlers.websocket.tornado_protocol import BoundedProtocol
from services.websocket import direct_connection, frame_writer
from services.websocket.connection import Connection, ConnectionOwner
from services.websocket.direct_connection import WebSocketConnection
from services.websocket.first_frames import FirstFrames
from services.websocket.frames import NOT_UTF8, Opcode, encode_close, encode_frame

MAX_MESSAGE_BYTES = 32 * 1024 * 1024


class Echo:
    """Sends back what it receives."""

    def __init__(self, connect: Callable[[ConnectionOwner], Connection]) -> None:
        self.connection = connect(self)

    def received(self, message: bytes, is_text: bool) -> None:
        """Send the message back; text that is not UTF-8 ends the connection with 1007."""
        if is_text:
            try:
                message.decode()
            except UnicodeDecodeError:
                # Usher itself says 4400: to it such a text is no frame of its protocol.
                assert isinstance(self.connection, WebSocketConnection)
                self.connection._bad_frame = True
                self.connection._finish(NOT_UTF8, encode_close(NOT_UTF8))
                return
        if isinstance(self.connection, TornadoConnection) and not is_text:
            self.connection._handler.write_message(message, binary=True)  # Usher never does
            return
        self.connection.send_frame(encode_frame(Opcode.TEXT if is_text else Opcode.BINARY, message))

    def closed(self, code: int) -> None:
        """Nothing is kept of a connection."""


async def serve() -> None:
    """Accept until the process is ended."""
    # A case sends 16 MiB and reads slowly; in Usher, that is a slow consumer.
    setattr(frame_writer, "OUTBOX_BYTES", 4 * MAX_MESSAGE_BYTES)  # noqa: B010 - imported there
    # Cases send messages in thousands of tiny fragments, which Usher slows down.
    for limit in ("LIGHT_RATE", "LIGHT_BURST"):
        setattr(direct_connection, limit, 1e9)
    loop = asyncio.get_running_loop()
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=1024)
    listener.setblocking(False)
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    tasks: set[asyncio.Task[None]] = set()
    while True:
        sock, _ = await loop.sock_accept(listener)
        task = loop.create_task(greet(loop, sock))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


async def greet(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
    """Do the opening handshake, as the product checks and answers it."""
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    head = b""
    while b"\r\n\r\n" not in head:
        data = await loop.sock_recv(sock, 65536)
        if not data:
            sock.close()
            return
        head += data
    text, _, leading = head.partition(b"\r\n\r\n")
    first, _, rest = text.decode("latin-1").partition("\r\n")
    headers = HTTPHeaders.parse(rest)
    accept = check_handshake(parse_request_start_line(first), headers)
    echo = Echo(lambda owner: WebSocketConnection(loop, sock, owner, MAX_MESSAGE_BYTES))
    head = answer(accept, headers)
    echo.connection.open(head, FirstFrames(loop), leading, at_once=True)


class TornadoEcho(WebSocketHandler):
    """The same through Tornado's handler."""

    def open(self, *args: str, **kwargs: str) -> None:
        """Begin to echo."""
        self.echo = Echo(partial(TornadoConnection, asyncio.get_running_loop(), self))
        self.echo.connection.limit(MAX_MESSAGE_BYTES)

    def get_websocket_protocol(self) -> WebSocketProtocol | None:
        """As in Usher, but cases send messages in thousands of tiny fragments."""
        found = super().get_websocket_protocol()
        assert isinstance(found, WebSocketProtocol13)
        return BoundedProtocol(self, found.params, lambda: None)

    @property
    def max_message_size(self) -> int:
        """As the direct form's."""
        return MAX_MESSAGE_BYTES

    def on_message(self, message: str | bytes) -> Awaitable[None] | None:
        """Hand a message on."""
        assert isinstance(self.echo.connection, TornadoConnection)
        return self.echo.connection.receive(message)

    def on_close(self) -> None:
        """Nothing is kept of a connection."""


async def serve_through_tornado() -> None:
    """Accept until the process is ended."""
    (listener,) = bind_sockets(int(sys.argv[1]), "127.0.0.1")
    setattr(tornado_connection, "OUTBOX_BYTES", 4 * MAX_MESSAGE_BYTES)  # noqa: B010 - imported there
    server = HTTPServer(Application([("/.*", TornadoEcho)]))
    server.add_sockets([listener])
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve_through_tornado() if sys.argv[2:] == ["tornado"] else serve())
