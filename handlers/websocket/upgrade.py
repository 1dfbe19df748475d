"""`GET /ws`: Origin first, then the credential, then the connection is handed over.

The handshake does not go through a `RequestHandler`: that machinery costs more than all our
checks together (docs/performance.md). Tornado parses the request line and the headers; then
`HTTP1Connection.detach()`, its documented way out of HTTP, gives the socket away.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Awaitable

import msgspec
from tornado import httputil
from tornado.http1connection import HTTP1Connection
from tornado.iostream import StreamClosedError

from handlers.cookies import CookieJar
from handlers.problems import PROBLEM_TYPE, problem_body
from handlers.websocket import handshake
from handlers.websocket.context import SocketContext
from handlers.websocket.socket import ClientSocket, close_code_for
from handlers.websocket.target import origin_form
from services.audit.events import Caller
from services.errors import BadRequest, OriginRefused, TooLarge, Unavailable, UsherError
from services.rooms.joins import Credential, TwoIdentities
from services.sessions.admission import Identity
from services.settings.origins import Origins
from services.settings.proxies import Proxies
from services.websocket.connection import READ_BYTES
from services.websocket.protocol import CloseCode

SOCKET_PATH = "/ws"
MAX_BODY_BYTES = 64 * 1024

log = logging.getLogger("usher.upgrade")


class OpeningHandshake(msgspec.Struct, frozen=True):
    """What the check of the credentials came to: somebody, nobody yet, or a refusal."""

    identity: Identity | None = None
    is_bearer: bool = False
    refusal: CloseCode | None = None
    group: str = ""
    """The address that it counts for until it has joined."""


class UpgradeHandler:
    """Takes handshakes and opens sockets."""

    def __init__(
        self, context: SocketContext, origins: Origins, cookies: CookieJar, proxies: Proxies
    ) -> None:
        self._context, self._origins, self._cookies = context, origins, cookies
        self._proxies = proxies

    async def upgrade(
        self,
        start: httputil.RequestStartLine,
        headers: httputil.HTTPHeaders,
        connection: httputil.HTTPConnection,
    ) -> None:
        """Answer one handshake. Called while Tornado waits behind the headers."""
        assert isinstance(connection, HTTP1Connection)
        # Tornado's context of a connection knows the peer.
        peer = str(getattr(connection.context, "remote_ip", ""))
        address = self._proxies.client_ip(peer, headers)
        try:
            own = self._check_origin(headers)
            accept = handshake.check_handshake(start, headers)
            if self._context.is_full:
                raise Unavailable("stopping, or too many unauthenticated")
            entry = await self._check_credentials(start, headers, own, address)
        except UsherError as error:
            refuse(error, start, connection)
            return
        if entry.identity is None and entry.refusal is None:
            group = self._context.unjoined.upgraded(peer, headers)
            full = OpeningHandshake(refusal=CloseCode.RATE_LIMITED)
            entry = full if group is None else OpeningHandshake(group=group)
        self._hand_over(connection, handshake.answer(accept, headers), entry, address)

    def _check_origin(self, headers: httputil.HTTPHeaders) -> bool:
        """Whether there is an Origin, and it may use cookies.

        Before any credential is looked at: a foreign page must not even use up a ticket
        (cross-site WebSocket hijacking, RFC 6455 section 10.2).
        """
        origin = headers.get("Origin")
        if origin is None:
            return False
        if not self._origins.is_own_or_allowed(origin):
            refused = self._origins.refused(origin, headers.get("Host"))
            log.warning("GET %s: %s", SOCKET_PATH, refused)
            raise OriginRefused(refused)
        return True

    async def _check_credentials(
        self,
        start: httputil.RequestStartLine,
        headers: httputil.HTTPHeaders,
        own: bool,
        address: str,
    ) -> OpeningHandshake:
        explicit = handshake.explicit_credentials(start, headers)
        cookie = handshake.cookie_credential(headers, self._cookies.access) if own else None
        credential = explicit[0] if explicit else cookie
        if credential is None:
            return OpeningHandshake()
        try:
            if len(explicit) > 1:
                raise TwoIdentities("two explicit credentials")
            beside = None if cookie is credential else cookie
            identity = await self._context.admit(credential, address, beside)
        except UsherError as error:
            return self._refused(credential, error, address)
        return OpeningHandshake(identity, credential.is_bearer)

    def _refused(self, credential: Credential, error: UsherError, address: str) -> OpeningHandshake:
        log.info("join by %s refused: %s", credential.way, error.evidence)
        audit, by = self._context.services.audit, Caller(address=address)
        audit.record("socket.refused", reason=error.code, target=credential.way, by=by, kept=False)
        if credential.way == "header" and not isinstance(error, TwoIdentities):
            self._context.metrics.joins.labels(outcome=error.code).inc()
            raise error
        return OpeningHandshake(refusal=close_code_for(error))

    def _hand_over(
        self, connection: HTTP1Connection, head: bytes, entry: OpeningHandshake, address: str
    ) -> None:
        taken = take_socket(connection)
        if taken is None:  # the client left while its credential was looked at
            if entry.group:
                self._context.unjoined.leave(entry.group)
            if entry.identity is not None:
                self._context.joins.release(entry.identity)
            return
        sock, leading = taken
        client = ClientSocket(self._context, sock, address)
        if entry.identity is not None:
            client.open_joined(head, leading, entry.identity, entry.is_bearer)
        elif entry.refusal is not None:
            client.open_refused(head, entry.refusal)
        else:
            client.open_unauthenticated(head, leading, entry.group)


def refuse(
    error: UsherError,
    start: httputil.RequestStartLine,
    connection: httputil.HTTPConnection,
) -> None:
    """Answer by HTTP, without an application. The client may have left meanwhile."""
    status, reason, fields = handshake.refusal(error)
    body = problem_body(error)
    fields |= {"Content-Type": PROBLEM_TYPE, "Content-Length": str(len(body))}
    fields["Date"] = httputil.format_timestamp(time.time())  # RFC 9110 section 6.6.1
    try:
        connection.write_headers(
            httputil.ResponseStartLine("HTTP/1.1", status, reason),
            httputil.HTTPHeaders(fields),
            body if start.method != "HEAD" else b"",
        )
        connection.finish()
    except StreamClosedError:
        log.debug("client left before it was refused")


def take_socket(connection: HTTP1Connection) -> tuple[socket.socket, bytes] | None:
    """Take the raw socket from Tornado, with what the client sent behind its handshake.

    None when the connection is closed by now.
    """
    stream = connection.detach()
    if stream.closed():
        return None
    leading = b""
    # The stream may have read ahead. A read that can be answered at once is; otherwise it
    # stays unanswered for ever, as the stream is not used any more.
    read = asyncio.ensure_future(stream.read_bytes(READ_BYTES, partial=True))
    if read.done():
        if read.exception() is not None:
            return None
        leading = read.result()
    stream.io_loop.remove_handler(stream.fileno())
    sock: socket.socket = stream.socket
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock, leading


class UpgradeRouter(httputil.HTTPServerConnectionDelegate):
    """Sends `/ws` to the upgrade handler and everything else to the Tornado application."""

    def __init__(
        self, application: httputil.HTTPServerConnectionDelegate, upgrade_handler: UpgradeHandler
    ) -> None:
        self._application, self._upgrade_handler = application, upgrade_handler
        self.under_way: set[object] = set()
        """Connections whose request is not answered yet. The server takes them out."""

    def start_request(
        self, server_conn: object, request_conn: httputil.HTTPConnection
    ) -> httputil.HTTPMessageDelegate:
        return _Request(
            self._application, self._upgrade_handler, server_conn, request_conn, self.under_way
        )

    def on_close(self, server_conn: object) -> None:
        self._application.on_close(server_conn)


class _Request(httputil.HTTPMessageDelegate):
    """One request, until its headers tell where it goes."""

    def __init__(
        self,
        application: httputil.HTTPServerConnectionDelegate,
        upgrade_handler: UpgradeHandler,
        server_conn: object,
        request_conn: httputil.HTTPConnection,
        under_way: set[object],
    ) -> None:
        self._application, self._upgrade_handler = application, upgrade_handler
        self._server_conn, self._request_conn = server_conn, request_conn
        self._under_way = under_way
        self._delegate: httputil.HTTPMessageDelegate | None = None

    def headers_received(
        self,
        start_line: httputil.RequestStartLine | httputil.ResponseStartLine,
        headers: httputil.HTTPHeaders,
    ) -> Awaitable[None] | None:
        assert isinstance(start_line, httputil.RequestStartLine)
        self._under_way.add(self._server_conn)
        try:
            start_line = origin_form(start_line, headers)
        except BadRequest as error:
            refuse(error, start_line, self._request_conn)
            return None
        if start_line.path.partition("?")[0] == SOCKET_PATH:
            return self._upgrade_handler.upgrade(start_line, headers, self._request_conn)
        length = headers.get("Content-Length", "").lstrip("0")
        # Many digits first: Python refuses to read a number of more than 4,300 of them.
        if length.isdecimal() and (len(length) > 9 or int(length) > MAX_BODY_BYTES):
            refuse(TooLarge("request body"), start_line, self._request_conn)
            return None
        self._delegate = self._application.start_request(self._server_conn, self._request_conn)
        return self._delegate.headers_received(start_line, headers)

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        return self._delegate.data_received(chunk) if self._delegate is not None else None

    def finish(self) -> None:
        if self._delegate is not None:
            self._delegate.finish()

    def on_connection_close(self) -> None:
        if self._delegate is not None:
            self._delegate.on_connection_close()
