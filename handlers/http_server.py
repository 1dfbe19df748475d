"""Tornado's HTTP server with a graceful stop and a 431 response to headers that are too large."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any

from tornado import httputil
from tornado.http1connection import HTTP1ServerConnection
from tornado.httpserver import HTTPServer
from tornado.iostream import IOStream, SSLIOStream, UnsatisfiableReadError
from tornado.netutil import add_accept_handler

from handlers.problems import PROBLEM_TYPE, problem_body
from handlers.tls import Tls, limit_handshake
from handlers.websocket.arrivals import Arrival, Arrivals
from handlers.websocket.unjoined import UnjoinedConnections
from handlers.websocket.upgrade import UpgradeRouter
from services.errors import HeadersTooLarge, RateLimited, UsherError

LINGER_SECONDS = 1.0
LINGER_BYTES = 1024 * 1024
"""What is read and thrown away of a request that was refused unread. To close a socket with bytes
that were not read resets the connection, and the client may never see the answer."""

log = logging.getLogger("usher.http")


class UsherServer(HTTPServer):
    """Serves one router.

    Args:
        router: which connections have a request under way, it notes itself.
        unjoined: how many connections of one address there are.
        options: as HTTPServer takes them.
    """

    def initialize(  # type: ignore[override]  # one kind of router, and options passed on
        self, router: UpgradeRouter, unjoined: UnjoinedConnections, **options: Any
    ) -> None:
        super().initialize(router, **options)
        self._router, self._unjoined = router, unjoined
        self._arrivals: Arrivals | None = None
        """Looks at connections first, where sockets do not go through Tornado."""
        if router.upgrade_handler is not None and self.ssl_options is None:
            self._arrivals = Arrivals(
                router.upgrade_handler, unjoined, self._arrived, self._turn_away
            )
        self._listening: list[tuple[socket.socket, Callable[[], None]]] = []
        self._counted: dict[object, str] = {}
        """Connections that count for an address, until they are closed or handed over."""
        self._draining = False
        self._empty = asyncio.Event()

    def add_sockets(self, sockets: Iterable[socket.socket]) -> None:
        """Begin to take connections."""
        if self._arrivals is None:
            super().add_sockets(sockets)
            return
        for sock in sockets:
            self._listening.append((sock, add_accept_handler(sock, self._arrivals.accepted)))

    def stop(self) -> None:
        """Take no connections any more."""
        super().stop()
        for sock, remove in self._listening:
            remove()
            sock.close()
        self._listening.clear()

    def handle_stream(self, stream: IOStream, address: tuple[Any, ...]) -> None:
        """Begin with a connection that was not looked at."""
        group = self._unjoined.connected(str(address[0]) if address else "")
        if group is None:
            # Before a TLS handshake nothing can be said.
            if not isinstance(stream, SSLIOStream):
                self._turn_away(stream.socket)
            stream.close()
            return
        if isinstance(stream, SSLIOStream):
            limit_handshake(stream)
        elif type(stream) is IOStream:  # Tornado makes it, and does not ask which class to use
            stream.__class__ = _AnsweringStream
        self._serve(stream, address, group)

    def _arrived(self, arrival: Arrival) -> None:
        """Begin with a connection that is no plain handshake."""
        stream = _AnsweringStream(
            arrival.sock,
            max_buffer_size=self.max_buffer_size,
            read_chunk_size=self.read_chunk_size,
        )
        self._serve(stream, arrival.address, arrival.group)

    def _serve(self, stream: IOStream, address: tuple[Any, ...], group: str) -> None:
        if group:
            self._counted[stream] = group
        super().handle_stream(stream, address)

    def renew(self, tls: Tls) -> None:
        """Read the certificate anew, for connections that come from now on.

        Raises:
            SettingError: it is no good. The old one goes on.
        """
        tls.reload()
        self.ssl_options = tls.context

    @staticmethod
    def _turn_away(sock: socket.socket) -> None:
        """Say why in one write, before a request was read: it must cost next to nothing."""
        with contextlib.suppress(OSError):
            sock.send(_answer(RateLimited("too many connections of one address")))
        sock.close()

    def start_request(
        self, server_conn: object, request_conn: httputil.HTTPConnection
    ) -> httputil.HTTPMessageDelegate:
        """A connection waits for its first request, or for the next: nothing is under way."""
        self._router.under_way.discard(server_conn)
        if self._draining:
            assert isinstance(server_conn, HTTP1ServerConnection)
            asyncio.get_running_loop().call_soon(server_conn.stream.close)
        return super().start_request(server_conn, request_conn)

    def on_close(self, server_conn: object) -> None:
        """A connection is closed, or was handed over as a WebSocket."""
        self._router.under_way.discard(server_conn)
        super().on_close(server_conn)
        stream = getattr(server_conn, "stream", None)
        if (counted := self._counted.pop(stream, "")) != "":
            self._unjoined.leave(counted)
        if not self._connections:
            self._empty.set()

    async def drain(self, seconds: float) -> None:
        """Take no connection any more, close those that wait, and let requests under way be
        answered within so many seconds. What is left then is closed."""
        self.stop()
        self._draining = True
        if self._arrivals is not None:
            await asyncio.gather(self._arrivals.drain(seconds), self._drain_requests(seconds))
        else:
            await self._drain_requests(seconds)

    async def _drain_requests(self, seconds: float) -> None:
        for connection in tuple(self._connections):
            if connection not in self._router.under_way:
                connection.stream.close()
        if self._connections:
            self._empty.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._empty.wait(), seconds)
        if self._connections:
            log.warning("%d requests could not be answered in time", len(self._connections))
            await self.close_all_connections()


class _AnsweringStream(IOStream):
    """Says 431 to headers that are too large (RFC 6585 section 5), where Tornado closes without a
    word. A class and not a function of each stream: that would be a circle, which every join then
    leaves to the garbage collector.

    A socket that speaks TLS can't be taken over: its client sees the connection close.
    """

    def close(self, exc_info: Any = False) -> None:
        """Close, with an answer where a header was the reason."""
        left: socket.socket | None = None
        if isinstance(exc_info, UnsatisfiableReadError) and not self.closed():
            with contextlib.suppress(OSError):
                left = self.socket.dup()
        super().close(exc_info)
        if left is not None:
            _refuse(left)


def _refuse(sock: socket.socket) -> None:
    loop, left = asyncio.get_running_loop(), LINGER_BYTES

    def end() -> None:
        timer.cancel()
        if sock.fileno() >= 0:
            loop.remove_reader(sock.fileno())
            sock.close()

    def read_away() -> None:
        nonlocal left
        try:
            got = len(sock.recv(64 * 1024))
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            got = 0
        left -= got
        if not got or left <= 0:
            end()

    timer = loop.call_later(LINGER_SECONDS, end)
    try:
        sock.setblocking(False)
        sock.send(_answer(HeadersTooLarge()))
        sock.shutdown(socket.SHUT_WR)
        loop.add_reader(sock.fileno(), read_away)
    except OSError:
        end()


def _answer(error: UsherError) -> bytes:
    body = problem_body(error)
    extra = f"Retry-After: {error.retry_after}\r\n" if isinstance(error, RateLimited) else ""
    head = (
        f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}\r\n"
        f"Content-Type: {PROBLEM_TYPE}\r\nContent-Length: {len(body)}\r\n{extra}"
        "Cache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
