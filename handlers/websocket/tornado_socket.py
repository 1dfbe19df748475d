"""`/ws` as a Tornado `WebSocketHandler`: for TLS, for compression, and for who knows Tornado.

It does what upgrade.py does for the direct form: the same checks in the same order, and the same
`ClientSocket` behind them. docs/adr/0001 says what each form costs.
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
    """One socket. Handed what all sockets of a node share."""

    def initialize(self, context: SocketContext, upgrades: UpgradeHandler) -> None:
        """Called by Tornado with what the route hands over."""
        self._context, self._upgrades = context, upgrades
        self._handshake = OpeningHandshake()
        self._connection: TornadoConnection | None = None
        self._is_compressed = False

    def set_default_headers(self) -> None:
        """Say nothing of the software and its version; a 101 needs no date either."""
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
        """Refuse as everything else is refused, also what Tornado itself refuses."""
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
        # Tornado would keep the connection, whatever the header says.
        self.finish(body).add_done_callback(lambda _: self._hang_up())

    def _hang_up(self) -> None:
        connection = self.request.connection
        if isinstance(connection, HTTP1Connection) and connection.stream is not None:
            connection.stream.close()

    def check_origin(self, origin: str) -> bool:
        """Whether pages of this origin may open a socket. `prepare` has asked before, too."""
        return self._upgrades.origins.is_own_or_allowed(origin)

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        """`usher.v1` where it is offered; never the one that carries the token."""
        return SUBPROTOCOL if SUBPROTOCOL in subprotocols else None

    @property
    def max_message_size(self) -> int:
        """Bytes of a message, after inflating. Before a socket has joined it is less."""
        return MAX_MESSAGE_BYTES

    def get_compression_options(self) -> dict[str, Any] | None:
        """Options of permessage-deflate; None where it is not spoken.

        Tornado answers some offers wrongly, so it is shown only one that it answers right. A socket
        that has not shown a credential yet will send one, and so is not compressed (CRIME).
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
        """What reads and writes the frames: Tornado's own, with bounds that it lacks."""
        found = super().get_websocket_protocol()
        if isinstance(found, WebSocketProtocol13):
            return BoundedProtocol(self, found.params, self._note_sign_of_life)
        return found

    # ---- the socket ------------------------------------------------------------------------

    def open(self, *args: str, **kwargs: str) -> None:
        """The handshake is answered: begin as somebody, as nobody yet, or with a refusal."""
        self.set_nodelay(True)
        self._upgrades.begin(self._handshake, self._connect)

    def _connect(self, owner: ConnectionOwner) -> TornadoConnection:
        context = self._context
        self._connection = TornadoConnection(context.loop, self, owner, context.stalled)
        return self._connection

    def on_message(self, message: str | bytes) -> Awaitable[None] | None:
        """Hand a message on. Tornado reads the next one once what this returns is done."""
        assert self._connection is not None
        return self._connection.receive(message)

    def on_ping(self, data: bytes) -> None:
        """Note a sign of life; Tornado has answered it."""
        self._note_sign_of_life()

    def on_pong(self, data: bytes) -> None:
        """Note a sign of life."""
        self._note_sign_of_life()

    def _note_sign_of_life(self) -> None:
        if self._connection is not None:
            self._connection.heard()

    def on_close(self) -> None:
        """The connection is over, or the client left before it was answered."""
        if self._is_compressed:
            self._is_compressed = False
            self._context.compression.give_back()
            self._context.metrics.compressed_sockets.dec()
        if self._connection is not None:
            self._connection.ended(self.close_code)
        else:
            self._upgrades.abandon(self._handshake)
            self._handshake = OpeningHandshake()
