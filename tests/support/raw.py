"""A client that speaks HTTP and RFC 6455 by hand, so that it can speak them wrong."""

from __future__ import annotations

import json
import os
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import jwt

from tests.support.server import PATIENCE, Client, Usher, usher

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"""The key of RFC 6455 section 1.3, and its answer."""
TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA


Headers = Iterable[tuple[str, str]]


def handshake(target: str = "/ws", headers: Headers = (), *, drop: Iterable[str] = ()) -> bytes:
    """An opening handshake. `headers` are added, or replace those of their name.

    Args:
        drop: names of usual headers to leave out.
    """
    usual = {
        "Host": "usher.test",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": KEY,
        "Sec-WebSocket-Version": "13",
    }
    extra = list(headers)
    for name in (*drop, *(name for name, _ in extra)):
        usual.pop(name, None)
    lines = [f"{name}: {value}" for name, value in (*usual.items(), *extra)]
    return "\r\n".join((f"GET {target} HTTP/1.1", *lines, "", "")).encode("latin-1")


def frame(payload: bytes, opcode: int = TEXT, *, final: bool = True, masked: bool = True) -> bytes:
    """One frame as a client sends it."""
    length, first = len(payload), opcode | (0x80 if final else 0)
    mask_bit = 0x80 if masked else 0
    if length < 126:
        head = struct.pack("!BB", first, mask_bit | length)
    elif length < 65536:
        head = struct.pack("!BBH", first, mask_bit | 126, length)
    else:
        head = struct.pack("!BBQ", first, mask_bit | 127, length)
    if not masked:
        return head + payload
    key = os.urandom(4)
    stream = key * (length // 4 + 1)
    return head + key + bytes(a ^ b for a, b in zip(payload, stream, strict=False))


def event(name: str, frame_id: Any = None, data: Any = None) -> bytes:
    """One event in a frame."""
    body = {"event": name} | ({} if frame_id is None else {"id": frame_id})
    return frame(json.dumps(body | ({} if data is None else {"data": data})).encode())


@dataclass
class Response:
    """The head and body of an HTTP answer. Header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes = b""

    @property
    def problem(self) -> Any:
        assert self.headers["content-type"] == "application/problem+json"
        return json.loads(self.body)


@dataclass
class Ending:
    """How a socket ended: the events before, and the close frame (1006 without one)."""

    code: int
    reason: str
    events: list[Any] = field(default_factory=list)

    @property
    def closing(self) -> Any:
        """The data of the last event, which has to be `closing`."""
        assert self.events, f"closed with {self.code} and no event"
        assert self.events[-1]["event"] == "closing", self.events
        return self.events[-1]["data"]


class RawClient:
    """One TCP connection to a server. Everything it waits for has a limit of time."""

    def __init__(self, server: Usher, *, receive_buffer: int | None = None) -> None:
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(("127.0.0.1", server.port))
        self._unread = b""
        self.joined: dict[str, Any] = {}
        """The data of `joined`, once it came."""

    def __enter__(self) -> RawClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    # ---- HTTP ------------------------------------------------------------------------------

    def response(self) -> Response:
        """The next HTTP answer, with its body when it has a length."""
        answer = self.head()
        answer.body = self._exactly(int(answer.headers.get("content-length", "0")))
        return answer

    def head(self) -> Response:
        """The next HTTP answer down to the end of its headers."""
        head = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        headers = {}
        for line in head[1:-2]:
            name, _, value = line.partition(":")
            assert name.lower() not in headers, f"{name} twice"
            headers[name.lower()] = value.strip()
        return Response(int(head[0].split()[1]), headers)

    def upgrade(self, target: str = "/ws", headers: Headers = (), *, then: bytes = b"") -> Response:
        """A good handshake, with `then` in the same write."""
        self.send(handshake(target, headers) + then)
        response = self.response()
        assert response.status == 101, response
        return response

    # ---- frames ----------------------------------------------------------------------------

    def frame(self) -> tuple[int, bytes]:
        """The next frame: opcode and payload. The server masks and fragments nothing."""
        first, length = self._exactly(2)
        assert first & 0x70 == 0, "reserved bit set"
        assert first & 0x80, "a fragment"
        assert length < 128, "masked"
        if length == 126:
            (length,) = struct.unpack("!H", self._exactly(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", self._exactly(8))
        return first & 0x0F, self._exactly(length)

    def event(self) -> Any:
        """The next event; nothing else may come."""
        opcode, payload = self.frame()
        assert opcode == TEXT, (opcode, payload)
        return json.loads(payload)

    def ask(self, name: str, data: Any = None, frame_id: Any = "ask") -> Any:
        """Send an event and give the reply, which has to be the next frame."""
        self.send(event(name, frame_id, data))
        reply = self.event()
        assert (reply["event"], reply["id"]) == ("reply", frame_id), reply
        return reply

    def lives(self) -> None:
        """The server still answers this socket."""
        answer = self.ask("heartbeat")
        assert answer["ok"] is True, answer

    def ending(self) -> Ending:
        """Read to the end of the stream; answers the close frame as RFC 6455 asks."""
        events: list[Any] = []
        try:
            while True:
                opcode, payload = self.frame()
                if opcode == TEXT:
                    events.append(json.loads(payload))
                if opcode == CLOSE:
                    self._answer_close(payload)
                    code = int.from_bytes(payload[:2], "big") if payload else 1005
                    return Ending(code, payload[2:].decode(), events)
        except (ConnectionError, EOFError):
            return Ending(1006, "", events)

    def _answer_close(self, payload: bytes) -> None:
        try:
            self.send(frame(payload[:2], CLOSE))
        except ConnectionError:
            return
        assert self.is_at_end(), "bytes behind the close frame"

    def is_at_end(self) -> bool:
        """Wait for the server's end of the stream; False when bytes come instead."""
        if self._unread:
            return False
        try:
            self._unread = self.socket.recv(1)
        except ConnectionError:
            return True
        return not self._unread

    # ---- bytes -----------------------------------------------------------------------------

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._unread:
            self._more()
        found, _, self._unread = self._unread.partition(mark)
        return found + mark

    def _exactly(self, length: int) -> bytes:
        while len(self._unread) < length:
            self._more()
        found, self._unread = self._unread[:length], self._unread[length:]
        return found

    def _more(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            raise EOFError("the server ended the stream")
        self._unread += data


@contextmanager
def quiet_usher(database: str, **settings: Any) -> Iterator[Usher]:
    """A server that must end well, and must not have logged an error or a traceback."""
    with usher(database, **settings) as server:
        yield server
        assert server.process.poll() is None, "it died:\n" + server.log
        assert server.end() == 0, server.log
        assert_quiet(server.log)


def is_utf8(text: bytes) -> bool:
    """Whether these bytes are text."""
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def assert_quiet(log: str) -> None:
    for word in ("Traceback", "Uncaught", " ERROR ", " CRITICAL ", "never retrieved"):
        assert word not in log, log[-20_000:]


# ---- tokens, good and forged -----------------------------------------------------------------

SECRET = "a secret of this test and of nobody else"


def forged(token: str | None, *, secret: str = SECRET, headers: Any = None, **claims: Any) -> str:
    """A token like `token`, with other claims, signed anew. A claim of None is left out."""
    assert token is not None
    payload = jwt.decode(token, options={"verify_signature": False}) | claims
    payload = {name: value for name, value in payload.items() if value is not None}
    header = jwt.get_unverified_header(token) | (headers or {})
    return jwt.encode(payload, secret, algorithm="HS256", headers=header)


def claims_of(token: str | None) -> dict[str, Any]:
    """What a token says, unverified."""
    assert token is not None
    return dict(jwt.decode(token, options={"verify_signature": False}))


def expired(token: str | None) -> str:
    """A genuine token that is too old, signed with SECRET."""
    now = time.time()
    return forged(token, iat=now - 100, exp=now - 1)


# ---- sockets ---------------------------------------------------------------------------------


def by_header(token: str | None) -> list[tuple[str, str]]:
    """Way 1."""
    return [("Authorization", f"Bearer {token}")]


def by_subprotocol(token: str | None) -> list[tuple[str, str]]:
    """Way 2."""
    return [("Sec-WebSocket-Protocol", f"usher.v1, usher.bearer.{token}")]


def by_cookie(client: Client, origin: str | None = None) -> list[tuple[str, str]]:
    """Way 4, from the own origin unless another is given."""
    cookie = f"access_token={client.cookies['access_token']}"
    return [("Cookie", cookie), ("Origin", origin or client.server.url)]


@contextmanager
def joined(
    server: Usher, headers: Headers = (), target: str = "/ws", **options: Any
) -> Iterator[RawClient]:
    """A socket that has joined on open; `joined` is read."""
    with RawClient(server, **options) as client:
        client.upgrade(target, headers)
        first = client.event()
        assert first["event"] == "joined", first
        client.joined = first["data"]
        yield client


def ending_of(
    server: Usher, headers: Headers = (), target: str = "/ws", then: bytes = b""
) -> Ending:
    """How a socket ends that is opened so."""
    with RawClient(server) as client:
        client.upgrade(target, headers, then=then)
        return client.ending()
