"""`/ws` as a Tornado `WebSocketHandler`, for TLS and compression.

It does the same as upgrade.py for the direct form: the same checks in the same order, and then the
same `ClientSocket`. docs/adr/0001 has the costs of both forms.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable
from http import HTTPStatus
from typing import Any

from tornado.http1connection import HTTP1Connection
from tornado.httputil import RequestStartLine, format_timestamp
from tornado.websocket import WebSocketHandler, WebSocketProtocol, WebSocketProtocol13

from handlers.problems import PROBLEM_TYPE, problem_body
from handlers.websocket import handshake
from handlers.websocket.context import SocketContext
from handlers.websocket.deflate import acceptable_offer
from handlers.websocket.tornado_connection import TornadoConnection
from handlers.websocket.tornado_protocol import BoundedProtocol
from handlers.websocket.upgrade import OpeningHandshake, UpgradeHandler
from services.errors import UsherError
from services.websocket.connection import ConnectionOwner
from services.websocket.protocol import MAX_MESSAGE_BYTES, SUBPROTOCOL

EXTENSIONS = "Sec-WebSocket-Extensions"


class SocketHandler(WebSocketHandler):
    """One socket. It receives the context that all sockets of a node share."""

    def initialize(self, context: SocketContext, upgrades: UpgradeHandler) -> None:
        """Called by Tornado with the arguments of the route."""
        self._context, self._upgrades = context, upgrades
        self._handshake = OpeningHandshake()
        self._connection: TornadoConnection | None = None
        self._is_compressed = False

    def set_default_headers(self) -> None:
        """Omit `Server`, which discloses the version, and `Date`, which a 101 does not need."""
        self.clear_header("Server")
        self.clear_header("Date")

    # ---- the opening handshake -------------------------------------------------------------

    async def prepare(self) -> None:
        """Check the Origin, then the handshake, then the credential; before Tornado's `get`."""
        request = self.request
        start = RequestStartLine(request.method or "", request.uri or "", request.version)
        try:
            _, self._handshake = await self._upgrades.examine(
                start, request.headers, request.remote_ip or ""
            )
        except UsherError as error:
            self._refuse(error)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Send all errors, including Tornado's own, in the usual form."""
        if status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            self._refuse(handshake.UpgradeRequired("another method"))
        else:
            self._refuse(UsherError())

    def _refuse(self, error: UsherError) -> None:
        status, reason, fields = handshake.refusal(error)
        self.set_status(status, reason)
        for name, value in fields.items():
            self.set_header(name, value)
        self.set_header("Content-Type", PROBLEM_TYPE)
        body = problem_body(error)
        self.set_header("Content-Length", str(len(body)))
        self.set_header("Date", format_timestamp(time.time()))
        # Tornado would keep the connection open, regardless of the header.
        self.finish(body).add_done_callback(lambda _: self._drop_connection())

    def _drop_connection(self) -> None:
        connection = self.request.connection
        if isinstance(connection, HTTP1Connection) and connection.stream is not None:
            connection.stream.close()

    def check_origin(self, origin: str) -> bool:
        """Whether pages of this origin may open a socket. `prepare` has already checked it."""
        return self._upgrades.origins.is_own_or_allowed(origin)

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        """`usher.v1` if it is offered; never the subprotocol that carries the token."""
        return SUBPROTOCOL if SUBPROTOCOL in subprotocols else None

    @property
    def max_message_size(self) -> int:
        """The maximum size of an inflated message, in bytes. It is lower before the join."""
        return MAX_MESSAGE_BYTES

    def get_compression_options(self) -> dict[str, Any] | None:
        """The options of permessage-deflate; None if it is not used.

        Tornado answers some offers wrongly, so only an offer that it answers correctly is passed
        on. A socket without a credential will send one, so it is not compressed (CRIME).
        """
        offer = acceptable_offer(self.request.headers.get_list(EXTENSIONS))
        if offer is None or self._handshake.identity is None:
            return None
        if not self._context.compression.take():
            return None
        self._is_compressed = True
        self._context.metrics.compressed_sockets.inc()
        self.request.headers[EXTENSIONS] = offer
        return self._context.compression.options

    def get_websocket_protocol(self) -> WebSocketProtocol | None:
        """Tornado's protocol, with the limits that it lacks."""
        found = super().get_websocket_protocol()
        if isinstance(found, WebSocketProtocol13):
            return BoundedProtocol(self, found.params, self._record_activity)
        return found

    # ---- the socket ------------------------------------------------------------------------

    def open(self, *args: str, **kwargs: str) -> None:
        """Open the socket after the handshake: with an identity, without one, or refused."""
        self.set_nodelay(True)
        self._upgrades.begin(self._handshake, self._connect)

    def _connect(self, owner: ConnectionOwner) -> TornadoConnection:
        context = self._context
        self._connection = TornadoConnection(context.loop, self, owner, context.stalled)
        return self._connection

    def on_message(self, message: str | bytes) -> Awaitable[None] | None:
        """Handle a message. Tornado reads the next one once the returned future is done."""
        assert self._connection is not None
        return self._connection.receive(message)

    def on_ping(self, data: bytes) -> None:
        """Record a ping, which Tornado has answered."""
        self._record_activity()

    def on_pong(self, data: bytes) -> None:
        """Record a pong."""
        self._record_activity()

    def _record_activity(self) -> None:
        if self._connection is not None:
            self._connection.record_activity()

    def on_close(self) -> None:
        """Handle the end of the connection, or a client that left before the response."""
        if self._is_compressed:
            self._is_compressed = False
            self._context.compression.give_back()
            self._context.metrics.compressed_sockets.dec()
        if self._connection is not None:
            self._connection.ended(self.close_code)
        else:
            self._upgrades.abandon(self._handshake)
            self._handshake = OpeningHandshake()
