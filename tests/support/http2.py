"""A WebSocket within HTTP/2 (RFC 8441), by hand: what a browser does where a proxy offers it."""

from __future__ import annotations

import socket
import ssl
from types import TracebackType

import h2.connection
import h2.events
import h2.settings

from tests.support.raw import Headers, RawClient
from tests.support.server import PATIENCE


class Http2Socket(RawClient):
    """One connection to a proxy that speaks TLS, with one stream for a WebSocket.

    Args:
        port: where the proxy listens.

    Attributes:
        alpn: the protocol that the proxy chose.
        offers_websockets: whether its settings have SETTINGS_ENABLE_CONNECT_PROTOCOL.
    """

    def __init__(self, port: int) -> None:
        context = ssl.create_default_context()
        context.set_alpn_protocols(["h2"])
        raw = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self.socket = self._tls = context.wrap_socket(raw, server_hostname="127.0.0.1")
        self._unread, self.joined = b"", {}
        self._port, self._stream, self._status = port, 0, 0
        self._settings, self._ended = False, False
        self.alpn = self._tls.selected_alpn_protocol()
        self._http = h2.connection.H2Connection()
        self._http.initiate_connection()
        self._flush()
        while not self._settings:
            self._receive()

    def __enter__(self) -> Http2Socket:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._tls.close()

    @property
    def offers_websockets(self) -> bool:
        code = h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL
        return self._http.remote_settings.get(code, 0) == 1

    def open(self, target: str = "/ws", headers: Headers = ()) -> int:
        """Ask for a WebSocket. Returns the status: 200 stands for 101."""
        self._stream = self._http.get_next_available_stream_id()
        self._http.send_headers(
            self._stream,
            [
                (":method", "CONNECT"),
                (":protocol", "websocket"),
                (":scheme", "https"),
                (":path", target),
                (":authority", f"127.0.0.1:{self._port}"),
                ("sec-websocket-version", "13"),
                *((name.lower(), value) for name, value in headers),
            ],
        )
        self._flush()
        while not self._status:
            self._receive()
        return self._status

    def send(self, data: bytes) -> None:
        self._http.send_data(self._stream, data)
        self._flush()

    def is_at_end(self) -> bool:
        """Wait for the end of the stream; False when bytes come instead."""
        try:
            self._more()
        except EOFError:
            return True
        return False

    def _more(self) -> None:
        had = len(self._unread)
        while len(self._unread) == had:
            if self._ended:
                raise EOFError("the stream ended")
            self._receive()

    def _flush(self) -> None:
        self._tls.sendall(self._http.data_to_send())

    def _receive(self) -> None:
        data = self._tls.recv(65_536)
        if not data:
            self._ended = True
            raise EOFError("the proxy closed the connection")
        for event in self._http.receive_data(data):
            if isinstance(event, h2.events.RemoteSettingsChanged):
                self._settings = True
            elif isinstance(event, h2.events.ResponseReceived):
                found = dict(event.headers or [])
                self._status = int(found.get(b":status", b"0"))
            elif isinstance(event, h2.events.DataReceived):
                self._unread += event.data or b""
                length = event.flow_controlled_length or 0
                if length:
                    self._http.acknowledge_received_data(length, event.stream_id or 0)
            elif isinstance(event, h2.events.StreamEnded | h2.events.StreamReset):
                self._ended = True
        self._flush()
