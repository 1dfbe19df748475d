"""Routes requests: a socket's handshake to its handler, everything else to the Tornado application.

Each request takes a turn (services/event_loop/rotation.py) before its handler runs: after its
headers, or with each piece of its body.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable

from tornado import httputil

from handlers.websocket.plain_head import SOCKET_PATH
from handlers.websocket.target import target_below
from handlers.websocket.unjoined import UnjoinedConnections
from handlers.websocket.upgrade import MAX_BODY_BYTES, UpgradeHandler, refuse
from services.errors import BadRequest, NotFound, TooLarge
from services.event_loop.rotation import Rotation, UnderWay

log = logging.getLogger("usher.http")


class RequestRouter(httputil.HTTPServerConnectionDelegate):
    """Sends `/ws` to the upgrade handler and everything else to the Tornado application.

    Args:
        upgrade_handler: None if sockets use Tornado's application, which has a route for them.
        unjoined: knows the network that a request comes from.
        under_way: counts requests, by network.
        prefix: what the path of every request begins with, `/usher` say; the routes do not have it.
    """

    def __init__(
        self,
        application: httputil.HTTPServerConnectionDelegate,
        upgrade_handler: UpgradeHandler | None,
        unjoined: UnjoinedConnections,
        under_way: UnderWay,
        prefix: str = "",
    ) -> None:
        self._application, self.upgrade_handler = application, upgrade_handler
        self.unjoined, self.under_way = unjoined, under_way
        self.prefix, self.target = prefix, target_below(prefix)
        self.rotation = Rotation(under_way)
        """Begins requests."""
        self.begun: set[object] = set()
        """Streams of connections whose turn has come, with a request that has not been read."""
        self._networks: dict[object, str] = {}
        """Connections whose request is not answered yet, and its network."""

    def start_request(
        self, server_conn: object, request_conn: httputil.HTTPConnection
    ) -> httputil.HTTPMessageDelegate:
        return _Request(self, self._application, server_conn, request_conn)

    def on_close(self, server_conn: object) -> None:
        self._application.on_close(server_conn)

    def is_under_way(self, server_conn: object) -> bool:
        """Whether a connection has a request that is not answered yet."""
        return server_conn in self._networks

    def enter(self, server_conn: object, network: str) -> None:
        """A connection has a request, until `leave`."""
        self.leave(server_conn)
        self._networks[server_conn] = network
        self.under_way.enter(network)

    def leave(self, server_conn: object) -> None:
        """A connection is idle, or closed."""
        network = self._networks.pop(server_conn, None)
        if network is not None:
            self.under_way.leave(network)


class _Request(httputil.HTTPMessageDelegate):
    """One request, until its headers determine its handler."""

    def __init__(
        self,
        router: RequestRouter,
        application: httputil.HTTPServerConnectionDelegate,
        server_conn: object,
        request_conn: httputil.HTTPConnection,
    ) -> None:
        self._router, self._application = router, application
        self._server_conn, self._request_conn = server_conn, request_conn
        self._network = ""
        self._delegate: httputil.HTTPMessageDelegate | None = None

    def headers_received(
        self,
        start_line: httputil.RequestStartLine | httputil.ResponseStartLine,
        headers: httputil.HTTPHeaders,
    ) -> Awaitable[None] | None:
        assert isinstance(start_line, httputil.RequestStartLine)
        peer = str(getattr(getattr(self._request_conn, "context", None), "remote_ip", ""))
        self._network = self._router.unjoined.network(peer, headers)
        self._router.enter(self._server_conn, self._network)
        stream = getattr(self._server_conn, "stream", None)
        has_turn = stream in self._router.begun
        self._router.begun.discard(stream)
        try:
            start_line = self._router.target(start_line, headers)
        except (BadRequest, NotFound) as error:
            log.info("%s: %s", error.code, error.evidence)
            refuse(error, start_line, self._request_conn)
            return None
        direct = self._router.upgrade_handler
        if direct is not None and start_line.path.partition("?")[0] == SOCKET_PATH:
            return direct.upgrade(start_line, headers, self._request_conn)
        length = headers.get("Content-Length", "").lstrip("0")
        # Check the length first: Python refuses to parse a number of more than 4,300 digits.
        if length.isdecimal() and (len(length) > 9 or int(length) > MAX_BODY_BYTES):
            refuse(TooLarge("request body"), start_line, self._request_conn)
            return None
        self._delegate = self._application.start_request(self._server_conn, self._request_conn)
        begun = self._delegate.headers_received(start_line, headers)
        if begun is not None or length or "Transfer-Encoding" in headers:
            return begun  # a body follows: it takes turns
        return None if has_turn else self._router.rotation.turn(self._network)

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        if self._delegate is None:
            return None
        # Each piece takes a turn, so that bodies held back come no faster than whole requests.
        received = self._delegate.data_received(chunk)
        return received or self._router.rotation.turn(self._network)

    def finish(self) -> None:
        if self._delegate is not None:
            self._delegate.finish()

    def on_connection_close(self) -> None:
        if self._delegate is not None:
            self._delegate.on_connection_close()
