"""A WebSocket server that writes every byte itself, to see what a client's library makes of it.

A client opens `/CASE`. It prints what its library tells it, one line each: `open SUBPROTOCOL`,
`text …`, `close CODE REASON`, `error …`. On the text `sleep` it sends `asleep`, leaves its library
alone for some seconds, and sends `awake`. On open it sends `hello`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from tests.support.raw import CLOSE, PING, PONG, TEXT, frame
from tests.support.server import PATIENCE

REFUSED, BEHIND, RESTART, SLEEP = "refused", "behind", "restart", "sleep"
CASES = (REFUSED, BEHIND, RESTART, SLEEP)
"""HTTP 401; a close in one packet with the 101; 1012 on an open socket; a ping to a program that
sleeps, and then 4410."""
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_PROBLEM = b'{"status":401,"title":"Unauthorized","code":"token_expired"}'


@dataclass
class Seen:
    """What the client did in one case.

    Attributes:
        headers: of its handshake, names in lower case.
        answered: the code of the close frame that it sent; None without one.
        pong_asleep: whether the ping was answered before the client was awake.
    """

    headers: dict[str, str] = field(default_factory=dict)
    answered: int | None = None
    pong_asleep: bool = False


class Peer:
    """Listens on a free port, until `close`."""

    def __init__(self) -> None:
        self.seen: dict[str, Seen] = {}
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def url(self, case: str) -> str:
        return f"ws://127.0.0.1:{self.port}/{case}"

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._accepting.join(PATIENCE)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # closed
            client.settimeout(PATIENCE)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError, EOFError):
            reader = _Reader(client)
            case, headers = reader.request()
            if case not in CASES:
                client.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                return
            seen = self.seen.setdefault(case, Seen(headers))
            if case == REFUSED:
                client.sendall(_refusal())
                return
            opening = _switching(headers)
            if case == BEHIND:
                client.sendall(opening + _cut(4401, "unauthenticated"))
            else:
                client.sendall(opening)
            _talk(client, reader, case, seen)


def _talk(client: socket.socket, reader: _Reader, case: str, seen: Seen) -> None:
    """Read to the close frame, and say what the case says."""
    asleep = False
    for opcode, payload in reader.frames():
        if opcode == CLOSE:
            seen.answered = struct.unpack("!H", payload[:2])[0] if len(payload) >= 2 else 1005
            return
        seen.pong_asleep |= asleep and opcode == PONG
        if opcode == PING:
            client.sendall(frame(payload, PONG, masked=False))
        elif opcode == TEXT:
            asleep = payload == b"asleep"
            client.sendall(_answer(case, payload))


def _answer(case: str, said: bytes) -> bytes:
    """What follows a text of the client."""
    if said == b"hello":
        by_case = {RESTART: _cut(1012, "service_restart"), SLEEP: frame(b"sleep", masked=False)}
        return by_case.get(case, b"")
    if said == b"asleep":
        return frame(b"are you there", PING, masked=False)
    return _cut(4410, "session_revoked")  # it is awake


class _Reader:
    def __init__(self, client: socket.socket) -> None:
        self._client = client
        self._unread = b""

    def request(self) -> tuple[str, dict[str, str]]:
        """The case, and the headers."""
        while b"\r\n\r\n" not in self._unread:
            self._more()
        head, _, self._unread = self._unread.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        pairs = [line.partition(":") for line in lines]
        headers: dict[str, str] = {}
        for name, _, value in pairs:
            known = headers.get(name.lower())
            headers[name.lower()] = value.strip() if known is None else f"{known}, {value.strip()}"
        return first.split(" ")[1].strip("/").partition("?")[0], headers

    def frames(self) -> Iterator[tuple[int, bytes]]:
        while True:
            first, second = self._take(2)
            length = second & 0x7F
            if length >= 126:
                size = 2 if length == 126 else 8
                length = int.from_bytes(self._take(size), "big")
            key = self._take(4) if second & 0x80 else bytes(4)
            payload = self._take(length)
            mask = key * (length // 4 + 1)
            yield first & 0x0F, bytes(a ^ b for a, b in zip(payload, mask, strict=False))

    def _take(self, count: int) -> bytes:
        while len(self._unread) < count:
            self._more()
        taken, self._unread = self._unread[:count], self._unread[count:]
        return taken

    def _more(self) -> None:
        data = self._client.recv(65536)
        if not data:
            raise EOFError
        self._unread += data


def _switching(headers: dict[str, str]) -> bytes:
    key = headers["sec-websocket-key"].encode()
    accept = base64.b64encode(hashlib.sha1(key + _GUID).digest())  # RFC 6455, 4.2.2
    lines = [
        b"HTTP/1.1 101 Switching Protocols",
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Accept: " + accept,
    ]
    if "usher.v1" in headers.get("sec-websocket-protocol", ""):
        lines.append(b"Sec-WebSocket-Protocol: usher.v1")
    return b"\r\n".join((*lines, b"", b""))


def _refusal() -> bytes:
    head = (
        "HTTP/1.1 401 Unauthorized\r\nContent-Type: application/problem+json\r\n"
        f"Content-Length: {len(_PROBLEM)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + _PROBLEM


def _cut(code: int, reason: str) -> bytes:
    """How Usher ends a socket: the event, then the close frame."""
    data = {"code": code, "reason": reason}
    closing = json.dumps({"event": "closing", "data": data}, separators=(",", ":"))
    return frame(closing.encode(), TEXT, masked=False) + frame(
        struct.pack("!H", code) + reason.encode(), CLOSE, masked=False
    )


@contextmanager
def peer() -> Iterator[Peer]:
    """A server for as long as a test takes."""
    running = Peer()
    try:
        yield running
    finally:
        running.close()
