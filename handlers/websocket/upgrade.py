"""`GET /ws`: checks the Origin, then the credential, then takes the connection over.

The handshake does not use a `RequestHandler`, which costs more than all our checks together
(docs/performance.md). Plain handshakes come from arrivals.py. For all others Tornado parses the
request line and the headers, and `HTTP1Connection.detach()`, its public method for that, releases
the socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Callable

import msgspec
from tornado import httputil
from tornado.http1connection import HTTP1Connection
from tornado.iostream import StreamClosedError

from handlers.cookies import CookieJar
from handlers.problems import PROBLEM_TYPE, problem_body
from handlers.websocket import handshake
from handlers.websocket.context import SocketContext
from handlers.websocket.plain_head import SOCKET_PATH, Headers
from handlers.websocket.socket import ClientSocket, close_code_for
from services.audit.events import Caller
from services.errors import OriginRefused, Unavailable, UsherError
from services.rooms.joins import Credential, TwoIdentities
from services.sessions.admission import Identity
from services.settings.origins import Origins
from services.settings.proxies import Proxies
from services.websocket.connection import READ_BYTES, Connection, ConnectionOwner
from services.websocket.direct_connection import WebSocketConnection
from services.websocket.protocol import CloseCode

MAX_BODY_BYTES = 64 * 1024

log = logging.getLogger("usher.upgrade")


class OpeningHandshake(msgspec.Struct, frozen=True, gc=False):
    """The result of the credential check: an identity, none yet, or a refusal."""

    address: str = ""
    identity: Identity | None = None
    is_bearer: bool = False
    refusal: CloseCode | None = None
    group: str = ""
    """The address that it counts for until it has joined, or is gone."""


class Presented(msgspec.Struct, frozen=True, gc=False):
    """A handshake with a valid Origin and form, and the credentials presented in it.

    Attributes:
        accept: the value of `Sec-WebSocket-Accept`.
        address: the client's address.
        credential: the credential to check; None if `user-join` must present one.
        beside: the cookie that was sent together with an explicit credential.
        too_many: there are two explicit credentials.
    """

    accept: str
    address: str
    credential: Credential | None
    beside: Credential | None = None
    too_many: bool = False


class UpgradeHandler:
    """Checks handshakes and opens sockets."""

    def __init__(
        self, context: SocketContext, origins: Origins, cookies: CookieJar, proxies: Proxies
    ) -> None:
        self._context, self.origins, self._cookies = context, origins, cookies
        self._proxies, self.readers, self.loop = proxies, context.readers, context.loop

    async def upgrade(
        self,
        start: httputil.RequestStartLine,
        headers: httputil.HTTPHeaders,
        connection: httputil.HTTPConnection,
    ) -> None:
        """Answer one handshake. Called after Tornado has parsed the headers."""
        assert isinstance(connection, HTTP1Connection)
        # Tornado's context of a connection knows the peer.
        peer = str(getattr(connection.context, "remote_ip", ""))
        try:
            accept, entry = await self.examine(start, headers, peer)
        except UsherError as error:
            refuse(error, start, connection)
            return
        taken = take_socket(connection)
        if taken is None:  # the client left while its credential was checked
            self.abandon(entry)
            return
        sock, leading = taken
        with contextlib.suppress(OSError):  # some systems refuse it once the client has left
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.begin_on(sock, entry, handshake.answer(accept, headers), leading)

    async def examine(
        self, start: httputil.RequestStartLine, headers: Headers, peer: str
    ) -> tuple[str, OpeningHandshake]:
        """Check one handshake: its Origin, then its form, then its credential.

        Args:
            peer: the address of the peer.

        Returns:
            The value of `Sec-WebSocket-Accept`, and the result of the credential check, which must
            be passed to `begin` or `abandon`.

        Raises:
            UsherError: the handshake must be refused with the error's HTTP status.
        """
        presented = self.check(start, headers, peer)
        if presented.credential is None:
            return presented.accept, self.accept_unauthenticated(presented, headers, peer)
        return presented.accept, await self.admit(presented, presented.credential)

    def check(self, start: httputil.RequestStartLine, headers: Headers, peer: str) -> Presented:
        """Check the Origin and the form of a handshake, without reading any credential.

        Raises:
            UsherError: as `examine`.
        """
        own = self._check_origin(headers)
        accept = handshake.check_handshake(start, headers)
        if self._context.is_full:
            raise Unavailable("stopping, or too many unauthenticated")
        address = self._proxies.client_ip(peer, headers)
        explicit = handshake.explicit_credentials(start, headers)
        cookie = handshake.cookie_credential(headers, self._cookies.access) if own else None
        if not explicit:
            return Presented(accept, address, cookie)
        return Presented(accept, address, explicit[0], cookie, len(explicit) > 1)

    async def admit(self, presented: Presented, credential: Credential) -> OpeningHandshake:
        """Identify the credential of a handshake, or return the refusal.

        Raises:
            UsherError: as `examine`.
        """
        address = presented.address
        try:
            if presented.too_many:
                raise TwoIdentities("two explicit credentials")
            identity = await self._context.admit(credential, address, presented.beside)
        except UsherError as error:
            return self._refused(credential, error, address)
        return OpeningHandshake(address, identity, credential.is_bearer)

    def accept_unauthenticated(
        self, presented: Presented, headers: Headers, peer: str
    ) -> OpeningHandshake:
        """Accept a socket that waits for `user-join`, unless its address has too many of them."""
        group = self._context.unjoined.upgraded(peer, headers)
        if group is None:
            return OpeningHandshake(presented.address, refusal=CloseCode.RATE_LIMITED)
        return OpeningHandshake(presented.address, group=group)

    def begin(
        self,
        entry: OpeningHandshake,
        connect: Callable[[ConnectionOwner], Connection],
        head: bytes = b"",
        leading: bytes = b"",
    ) -> None:
        """Open a socket with an identity, without one, or to report a refusal.

        Args:
            connect: creates its connection.
            head: the handshake's response, if it is not sent yet.
            leading: data that the client sent after its handshake.
        """
        session_id = "" if entry.identity is None else entry.identity.session_id
        client = ClientSocket(self._context, connect, entry.address, session_id)
        if entry.identity is not None:
            client.open_joined(head, leading, entry.identity, entry.is_bearer)
        elif entry.refusal is not None:
            client.open_refused(head, entry.refusal, entry.group)
        else:
            client.open_unauthenticated(head, leading, entry.group)

    def begin_on(
        self, sock: socket.socket, entry: OpeningHandshake, head: bytes, leading: bytes
    ) -> None:
        """Like `begin`, for the direct form.

        Args:
            sock: connected, non-blocking and without Nagle's algorithm. The connection owns it from
                now on.
        """
        context = self._context

        def connect(owner: ConnectionOwner) -> Connection:
            return WebSocketConnection(
                context.loop, sock, owner, stalled=context.stalled, readers=context.readers
            )

        self.begin(entry, connect, head, leading)

    def abandon(self, entry: OpeningHandshake) -> None:
        """Release the resources of a handshake whose client left meanwhile."""
        if entry.group:
            self._context.unjoined.leave(entry.group)
        if entry.identity is not None:
            self._context.joins.release(entry.identity)

    def _check_origin(self, headers: Headers) -> bool:
        """Check the Origin. Returns whether there is one, and it may use cookies.

        It runs before any credential is read: a page of another origin must not even use up a
        ticket (cross-site WebSocket hijacking, RFC 6455 section 10.2).
        """
        origin = headers.get("Origin")
        if origin is None:
            return False
        if not self.origins.is_own_or_allowed(origin):
            refused = self.origins.refused(origin, headers.get("Host"))
            log.warning("GET %s: %s", SOCKET_PATH, refused)
            raise OriginRefused(refused)
        return True

    def _refused(self, credential: Credential, error: UsherError, address: str) -> OpeningHandshake:
        log.info("join by %s refused: %s", credential.way, error.evidence)
        audit, by = self._context.services.audit, Caller(address=address)
        audit.record("socket.refused", reason=error.code, target=credential.way, by=by, kept=False)
        if credential.way == "header" and not isinstance(error, TwoIdentities):
            self._context.metrics.joins.inc(error.code)
            raise error
        group = self._context.unjoined.refused(address)
        return OpeningHandshake(address, refusal=close_code_for(error), group=group)


def refuse(
    error: UsherError,
    start: httputil.RequestStartLine,
    connection: httputil.HTTPConnection,
) -> None:
    """Send an HTTP error response. The client may have left meanwhile."""
    status, reason, fields, body = refusal(error)
    try:
        connection.write_headers(
            httputil.ResponseStartLine("HTTP/1.1", status, reason),
            httputil.HTTPHeaders(fields),
            body if start.method != "HEAD" else b"",
        )
        connection.finish()
    except StreamClosedError:
        log.debug("client left before it was refused")


def refusal(error: UsherError) -> tuple[int, str, dict[str, str], bytes]:
    """Status, reason, headers and body of an HTTP response that refuses a handshake."""
    status, reason, fields = handshake.refusal(error)
    body = problem_body(error)
    fields |= {"Content-Type": PROBLEM_TYPE, "Content-Length": str(len(body))}
    fields["Date"] = httputil.format_timestamp(time.time())  # RFC 9110 section 6.6.1
    return status, reason, fields, body


def refusal_text(error: UsherError) -> bytes:
    """The bytes of that response, spelt as Tornado spells them."""
    status, reason, fields, body = refusal(error)
    lines = (f"{name}: {value}" for name, value in httputil.HTTPHeaders(fields).get_all())
    head = "\r\n".join((f"HTTP/1.1 {status} {reason}", *lines, "", ""))
    return head.encode("latin-1") + body


def take_socket(connection: HTTP1Connection) -> tuple[socket.socket, bytes] | None:
    """Take the raw socket from Tornado, with the data that the client sent after its handshake.

    Returns None if the connection is already closed.
    """
    stream = connection.detach()
    if stream.closed():
        return None
    leading = b""
    # The stream may have read ahead. If so, the read completes at once; otherwise it stays
    # pending, because the stream is not used any more.
    read = asyncio.ensure_future(stream.read_bytes(READ_BYTES, partial=True))
    if read.done():
        if read.exception() is not None:
            return None
        leading = read.result()
    stream.io_loop.remove_handler(stream.fileno())
    sock: socket.socket = stream.socket
    return sock, leading
