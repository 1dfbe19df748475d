"""Tornado's HTTP server with a graceful stop, and connections that are bounded (streams.py)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from tornado import httputil
from tornado.http1connection import HTTP1ServerConnection
from tornado.httpserver import HTTPServer
from tornado.iostream import IOStream
from tornado.netutil import add_accept_handler

from handlers.direct.direct_calls import DirectCalls
from handlers.direct.direct_tickets import DirectTickets
from handlers.direct.plain_call import plain_calls_below
from handlers.proxy_protocol import ProxyHeaders
from handlers.request_router import RequestRouter
from handlers.streams import (
    SEND_BUFFER_BYTES,
    AnsweringStream,
    AnsweringTlsStream,
    UnreadAnswers,
    answer_bytes,
    close_at_once,
)
from handlers.tls import Tls, limit_handshake
from handlers.websocket.arrivals import Arrival, Arrivals, first_bytes, overdue
from handlers.websocket.plain_head import forwarded_for, plain_head_below
from services.errors import Overdue, RateLimited
from services.settings.proxies import Proxies
from services.websocket.connection import READ_BYTES

HEAD_END = b"\r\n\r\n"
IDLE_SECONDS = 3600.0
"""How long a connection may be without a request, if that is not said: Tornado's default."""

log = logging.getLogger("usher.http")


class UsherServer(HTTPServer):
    """Serves one router.

    Args:
        router: the root router. The server itself tracks connections with a request in progress.
        proxies: the proxies whose connections begin with a PROXY header; None if no proxy's do.
        tickets: answers plain requests for tickets, where sockets do not go through Tornado.
        options: options of HTTPServer.
    """

    def initialize(  # type: ignore[override]  # one kind of router, and options passed on
        self,
        router: RequestRouter,
        *,
        proxies: Proxies | None = None,
        tickets: DirectTickets | None = None,
        **options: Any,
    ) -> None:
        super().initialize(router, **options)
        self._router, self._unjoined, self._rotation = router, router.unjoined, router.rotation
        self._proxies, self._proxy_headers = proxies, list[ProxyHeaders]()
        self._arrivals: Arrivals | None = None
        """Looks at connections first, where sockets do not go through Tornado."""
        if router.upgrade_handler is not None and self.ssl_options is None:
            self._arrivals = Arrivals(
                router.upgrade_handler,
                self._unjoined,
                router.under_way,
                self._handle_arrival,
                self._refuse_with_one_write,
                plain_head_below(router.prefix),
            )
        self._direct: DirectCalls | None = None
        if self._arrivals is not None and tickets is not None:
            self._direct = DirectCalls(
                tickets,
                plain_calls_below(router.prefix),
                self._unjoined,
                self._rotation,
                self._arrivals.readers,
                self._hand_to_tornado,
                self.conn_params.header_timeout or IDLE_SECONDS,
            )
        self._listening: list[tuple[socket.socket, Callable[[], None]]] = []
        self._counted: dict[object, str] = {}
        """Connections that count for an address, until they are closed or handed over."""
        self._unread = UnreadAnswers()
        self._draining = False
        self._empty = asyncio.Event()

    def add_sockets(self, sockets: Iterable[socket.socket]) -> None:
        """Start accepting connections."""
        accepted = self._accepted if self._arrivals is None else self._arrivals.accepted
        if self._proxies is not None:
            headers = ProxyHeaders(self._proxies, accepted)
            self._proxy_headers.append(headers)
            accepted = headers.accepted
        for sock in sockets:
            self._listening.append((sock, add_accept_handler(sock, accepted)))

    def stop(self) -> None:
        """Stop accepting connections."""
        super().stop()
        for sock, remove in self._listening:
            remove()
            sock.close()
        self._listening.clear()
        for headers in self._proxy_headers:
            headers.close()

    def _accepted(self, sock: socket.socket, address: tuple[Any, ...]) -> None:
        """Handle a connection where none is examined for plain handshakes."""
        peer = str(address[0]) if address else ""
        group = self._unjoined.connected(peer)
        if group is None:
            # Before the TLS handshake no response can be sent.
            self._refuse_with_one_write(sock, can_answer=self.ssl_options is None)
            return
        sock.setblocking(False)
        arrival = Arrival(sock, address, peer, group, asyncio.get_running_loop().time())
        self._handle_arrival(
            arrival, b"" if group or self.ssl_options is not None else first_bytes(sock)
        )

    def _handle_arrival(self, arrival: Arrival, first: bytes) -> None:
        """Handle a connection that does not begin with a plain handshake, in the rotation."""
        network = arrival.group
        if not network:  # a trusted proxy, which forwards the client's address
            fields = {"X-Forwarded-For": forwarded_for(first)}
            network = self._unjoined.network(arrival.peer, fields)
        self._rotation.start(network, partial(self._begin, arrival, network, first))

    def _begin(self, arrival: Arrival, network: str, first: bytes) -> None:
        late = overdue(arrival, asyncio.get_running_loop().time())
        if late is not None and self.ssl_options is None:
            self._refuse_overdue(arrival, late)
            return
        direct = self._direct
        if direct is not None and (call := direct.read_call(first)) is not None:
            direct.begin(arrival, network, call)
        else:
            self._hand_to_tornado(arrival, network, HEAD_END in first)

    def _hand_to_tornado(
        self, arrival: Arrival, network: str, has_turn: bool, unsent: bytes = b""
    ) -> None:
        """Let Tornado serve a connection.

        Args:
            has_turn: whether a request has come whose turn it is.
            unsent: the rest of the answer to an earlier request.
        """
        with contextlib.suppress(OSError):  # some systems refuse it once the client has left
            arrival.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        options = {"max_buffer_size": self.max_buffer_size, "read_chunk_size": self.read_chunk_size}
        stream: IOStream
        if isinstance(self.ssl_options, ssl.SSLContext):
            try:
                sock = self.ssl_options.wrap_socket(
                    arrival.sock, server_side=True, do_handshake_on_connect=False
                )
            except OSError:  # the client left at once
                arrival.sock.close()
                self._stop_counting(arrival.group)
                return
            stream = AnsweringTlsStream(sock, **options)
            # It costs the loop more than a request: a crowd makes way for it, too.
            self._router.under_way.enter(network)
            limit_handshake(stream).add_done_callback(
                lambda _: self._router.under_way.leave(network)
            )
        else:
            stream = AnsweringStream(arrival.sock, **options)
            if has_turn:  # this is its turn: it does not wait for another behind a crowd
                self._router.begun.add(stream)
        if arrival.group:
            self._counted[stream] = arrival.group
        if unsent:
            stream.write(unsent)
        self.handle_stream(stream, arrival.address)

    def _refuse_overdue(self, arrival: Arrival, late: Overdue) -> None:
        with contextlib.suppress(OSError):  # the client may have left
            arrival.sock.recv(READ_BYTES)  # closing with unread bytes would reset the connection
            arrival.sock.send(answer_bytes(late))
        arrival.sock.close()
        self._stop_counting(arrival.group)

    def _stop_counting(self, group: str) -> None:
        if group:
            self._unjoined.leave(group)

    def renew(self, tls: Tls) -> None:
        """Reload the certificate, for new connections.

        Raises:
            SettingError: the new certificate is invalid. The old one stays in use.
        """
        tls.reload()
        self.ssl_options = tls.context

    @staticmethod
    def _refuse_with_one_write(sock: socket.socket, can_answer: bool = True) -> None:
        """Refuse a connection with one write, before its request is read, to keep it cheap."""
        if can_answer:
            with contextlib.suppress(OSError):
                sock.send(answer_bytes(RateLimited("too many connections of one address")))
        sock.close()

    def start_request(
        self, server_conn: object, request_conn: httputil.HTTPConnection
    ) -> httputil.HTTPMessageDelegate:
        """Record that a connection is idle, waiting for a request."""
        self._router.leave(server_conn)
        if self._draining:
            assert isinstance(server_conn, HTTP1ServerConnection)
            asyncio.get_running_loop().call_soon(server_conn.stream.close)
        return super().start_request(server_conn, request_conn)

    def on_close(self, server_conn: object) -> None:
        """Record that a connection is closed, or was handed over as a WebSocket."""
        self._router.leave(server_conn)
        super().on_close(server_conn)
        stream = getattr(server_conn, "stream", None)
        self._router.begun.discard(stream)
        self._stop_counting(self._counted.pop(stream, ""))
        if not self._connections:
            self._empty.set()

    async def close_unread(self) -> None:
        """Close connections whose client reads nothing of an answer. Call it periodically."""
        streams = [connection.stream for connection in self._connections]
        unread = self._unread.look(streams, asyncio.get_running_loop().time())
        for stream in unread:
            close_at_once(stream)
        if unread:
            log.info("%d connections closed: the client did not read the response", len(unread))

    async def drain(self, seconds: float) -> None:
        """Stop accepting connections, close idle ones, and wait up to a number of seconds for
        requests in progress. Then close the remaining connections."""
        self.stop()
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        with contextlib.suppress(asyncio.TimeoutError):  # requests that wait in the rotation
            await asyncio.wait_for(self._rotation.idle(), seconds)
        seconds = max(0.0, end - loop.time())
        self._draining = True
        drains = [self._drain_requests(seconds)]
        if self._arrivals is not None:
            drains.append(self._arrivals.drain(seconds))
        if self._direct is not None:
            drains.append(self._direct.drain(seconds))
        await asyncio.gather(*drains)

    async def _drain_requests(self, seconds: float) -> None:
        for connection in tuple(self._connections):
            if not self._router.is_under_way(connection):
                connection.stream.close()
        if self._connections:
            self._empty.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._empty.wait(), seconds)
        if self._connections:
            log.warning("%d requests could not be answered in time", len(self._connections))
            await self.close_all_connections()
