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
        router: the root router. The server itself tracks connections with a request in progress.
        unjoined: counts the connections of each address.
        options: options of HTTPServer.
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
        """Start accepting connections."""
        if self._arrivals is None:
            super().add_sockets(sockets)
            return
        for sock in sockets:
            self._listening.append((sock, add_accept_handler(sock, self._arrivals.accepted)))

    def stop(self) -> None:
        """Stop accepting connections."""
        super().stop()
        for sock, remove in self._listening:
            remove()
            sock.close()
        self._listening.clear()

    def handle_stream(self, stream: IOStream, address: tuple[Any, ...]) -> None:
        """Handle a connection whose first bytes were not examined."""
        group = self._unjoined.connected(str(address[0]) if address else "")
        if group is None:
            # Before the TLS handshake no response can be sent.
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
        """Handle a connection that does not begin with a plain handshake."""
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
        """Reload the certificate, for new connections.

        Raises:
            SettingError: the new certificate is invalid. The old one stays in use.
        """
        tls.reload()
        self.ssl_options = tls.context

    @staticmethod
    def _turn_away(sock: socket.socket) -> None:
        """Refuse a connection with one write, before its request is read, to keep it cheap."""
        with contextlib.suppress(OSError):
            sock.send(_answer(RateLimited("too many connections of one address")))
        sock.close()

    def start_request(
        self, server_conn: object, request_conn: httputil.HTTPConnection
    ) -> httputil.HTTPMessageDelegate:
        """Record that a connection is idle, waiting for a request."""
        self._router.under_way.discard(server_conn)
        if self._draining:
            assert isinstance(server_conn, HTTP1ServerConnection)
            asyncio.get_running_loop().call_soon(server_conn.stream.close)
        return super().start_request(server_conn, request_conn)

    def on_close(self, server_conn: object) -> None:
        """Record that a connection is closed, or was handed over as a WebSocket."""
        self._router.under_way.discard(server_conn)
        super().on_close(server_conn)
        stream = getattr(server_conn, "stream", None)
        if (counted := self._counted.pop(stream, "")) != "":
            self._unjoined.leave(counted)
        if not self._connections:
            self._empty.set()

    async def drain(self, seconds: float) -> None:
        """Stop accepting connections, close idle ones, and wait up to a number of seconds for
        requests in progress. Then close the remaining connections."""
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
    """Answers headers that are too large with 431 (RFC 6585 section 5), where Tornado only closes
    the connection. It is a class because a function stored on each stream would be a reference
    cycle, which every join would leave to the garbage collector.

    With TLS the socket cannot be taken over, so the client sees the connection close.
    """

    def close(self, exc_info: Any = False) -> None:
        """Close, and send 431 if the headers were too large."""
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
