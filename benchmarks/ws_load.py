"""A WebSocket client that does as little as possible: pre-built handshakes and frames.

It is a load generator, not a client to copy: the mask key is fixed and so is the handshake key
(RFC 6455 sections 4.1 and 5.3 ask for fresh random ones; no server can tell).
"""

from __future__ import annotations

import errno
import select
import socket
import struct
from collections.abc import Iterable, Iterator

from benchmarks.errors import BenchmarkFailed
from benchmarks.reactor import READ_BYTES, Reactor

Address = tuple[str, int]

TEXT, CLOSE, PING, PONG = 0x1, 0x8, 0x9, 0xA
MASK_KEY = b"\x3a\x91\x5c\xe7"
HANDSHAKE_KEY = "dGhlIHNhbXBsZSBub25jZQ=="
LINGER_NOTHING = struct.pack("ii", 1, 0)


def masked_frame(opcode: int, payload: bytes) -> bytes:
    """One final client frame (RFC 6455 section 5.2), at most 65,535 bytes of payload."""
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", 0x80 | opcode, 0x80 | size)
    else:
        head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, size)
    key = (MASK_KEY * (size // 4 + 1))[:size]
    mixed = int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")
    return head + MASK_KEY + mixed.to_bytes(size, "big")


SIGN_OF_LIFE = masked_frame(PONG, b"")
"""Nobody has to have asked (section 5.5.3); a socket silent for over a minute is dropped."""
CLOSE_FRAME = masked_frame(CLOSE, struct.pack("!H", 1000))


def handshake(
    address: Address, token: str = "", ticket: str = "", path: str = "/ws", origin: str = ""
) -> bytes:
    """The upgrade request as a browser on the server's own page sends it, headers trimmed.

    ``origin``: of that page, where it is not the server's address.
    """
    host = f"{address[0]}:{address[1]}"
    lines = [
        f"GET {path}?ticket={ticket} HTTP/1.1" if ticket else f"GET {path} HTTP/1.1",
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Origin: {origin or f'http://{host}'}",
        f"Sec-WebSocket-Key: {HANDSHAKE_KEY}",
        "Sec-WebSocket-Version: 13",
    ]
    protocols = "usher.v1" + (f", usher.bearer.{token}" if token else "")
    lines.append(f"Sec-WebSocket-Protocol: {protocols}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def parse_frames(data: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """Unmasked server frames out of a stream, and what is left of the last, unfinished one."""
    frames: list[tuple[int, bytes]] = []
    position, end = 0, len(data)
    while end - position >= 2:
        size, start = data[position + 1], position + 2
        if size == 126:
            start += 2
            if end < start:
                break
            size = data[position + 2] << 8 | data[position + 3]
        elif size == 127:
            start += 8
            if end < start:
                break
            size = int.from_bytes(data[position + 2 : start], "big")
        if end < start + size:
            break
        frames.append((data[position] & 0x0F, data[start : start + size]))
        position = start + size
    return frames, data[position:]


class Client:
    """One socket: connect, upgrade, wait for the greeting, then frames.

    ``greeting`` is a byte string that the frame which ends the join must hold; empty where the
    server sends none (the baseline), and the join then ends with the 101 answer.
    Subclasses act in on_joined, on_text and on_closed.
    """

    def __init__(self, reactor: Reactor, address: Address, upgrade: bytes, greeting: bytes) -> None:
        self._reactor = reactor
        self._upgrade = upgrade
        self._greeting = greeting
        self._rest = b""
        self._upgraded = False
        self.joined = False
        self.close_code: int | None = None
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connect(address)

    def _connect(self, address: Address) -> None:
        code = self.sock.connect_ex(address)
        if code not in (0, errno.EINPROGRESS):
            raise BenchmarkFailed(f"connect: {errno.errorcode.get(code, code)}")
        try:  # on loopback the connection mostly stands by now
            self.sock.send(self._upgrade)
        except (BlockingIOError, OSError) as error:
            if error.errno not in (errno.EAGAIN, errno.ENOTCONN):
                raise
            self._reactor.add(self, select.EPOLLOUT)
        else:
            self._upgrade = b""
            self._reactor.add(self)

    def send(self, data: bytes) -> None:
        """Send whole frames; the generator never sends more than a kernel buffer holds."""
        if self.sock.send(data) != len(data):
            raise BenchmarkFailed("the server does not keep up with the generator's sends")

    def on_ready(self, events: int) -> None:
        if self._upgrade:
            self.send(self._upgrade)
            self._upgrade = b""
            self._reactor.expect_reads(self)
            return
        try:
            data = self.sock.recv(READ_BYTES)
        except ConnectionResetError:
            data = b""
        if not data:
            self.close()
            self.on_closed()
            return
        data = self._rest + data if self._rest else data
        if not self._upgraded:
            data = self._take_upgrade(data)
        frames, self._rest = parse_frames(data) if self._upgraded else ([], data)
        for opcode, payload in frames:
            self._take_frame(opcode, payload)

    def _take_upgrade(self, data: bytes) -> bytes:
        head, found, rest = data.partition(b"\r\n\r\n")
        if not found:
            return data
        if not head.startswith(b"HTTP/1.1 101 "):
            raise BenchmarkFailed(f"upgrade refused: {data[:300].decode(errors='replace')!r}")
        self._upgraded = True
        if not self._greeting:
            self.joined = True
            self.on_joined()
        return rest

    def _take_frame(self, opcode: int, payload: bytes) -> None:
        if opcode == TEXT and self.joined:
            self.on_text(payload)
        elif opcode == TEXT and self._greeting in payload:
            self.joined = True
            self.on_joined()
        elif opcode == CLOSE:
            self.close_code = int.from_bytes(payload[:2], "big") if payload else 1005
            if not self.joined:
                raise BenchmarkFailed(f"closed with {self.close_code} before it was joined")
            self.on_close_frame()

    def close(self) -> None:
        self._reactor.discard(self)

    def abandon(self) -> None:
        """Reset the connection: no close handshake, no TIME_WAIT."""
        if self.sock.fileno() >= 0:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOTHING)
        self.close()

    def on_joined(self) -> None:
        """The server said who we are (or, without a greeting, said 101)."""

    def on_text(self, payload: bytes) -> None:
        """A text frame after the join."""

    def on_close_frame(self) -> None:
        """The server's close frame has been read."""

    def on_closed(self) -> None:
        """The server closed the connection."""


class _Visit(Client):
    """Join, say good-bye with a close frame, wait for the end of the connection."""

    def __init__(
        self, lane: _Lane, reactor: Reactor, address: Address, upgrade: bytes, greeting: bytes
    ) -> None:
        self._lane = lane
        super().__init__(reactor, address, upgrade, greeting)

    def on_joined(self) -> None:
        self.send(CLOSE_FRAME)

    def on_closed(self) -> None:
        if not self.joined:
            raise BenchmarkFailed("the server hung up before the join was complete")
        if self.close_code != 1000:
            raise BenchmarkFailed(f"good-bye answered with {self.close_code} instead of 1000")
        self._lane.next()


class _Lane:
    """One visit after the other until the upgrades run out."""

    def __init__(
        self, reactor: Reactor, address: Address, upgrades: Iterator[bytes], greeting: bytes
    ) -> None:
        self._reactor = reactor
        self._address = address
        self._upgrades = upgrades
        self._greeting = greeting
        self.finished = False
        self.visits = 0

    def next(self) -> None:
        upgrade = next(self._upgrades, None)
        if upgrade is None:
            self.finished = True
            return
        self.visits += 1
        _Visit(self, self._reactor, self._address, upgrade, self._greeting)


def visit(
    address: Address, upgrades: Iterable[bytes], greeting: bytes, lanes: int, seconds: float = 120
) -> int:
    """Open, join and close one socket per upgrade, ``lanes`` at a time; how many there were."""
    reactor = Reactor()
    queue = iter(upgrades)
    running = [_Lane(reactor, address, queue, greeting) for _ in range(lanes)]
    try:
        for lane in running:
            lane.next()
        reactor.run_until(lambda: all(lane.finished for lane in running), seconds, "joins")
    finally:
        reactor.close()
    return sum(lane.visits for lane in running)


def open_all(
    reactor: Reactor,
    clients: Iterable[Client],
    at_once: int = 50,
    seconds: float = 120,
) -> list[Client]:
    """Open clients lazily, at most ``at_once`` unjoined at a time, and wait for all joins."""
    opened: list[Client] = []
    waiting: list[Client] = []

    def room() -> bool:
        waiting[:] = [client for client in waiting if not client.joined]
        return len(waiting) < at_once

    for client in clients:
        opened.append(client)
        waiting.append(client)
        reactor.run_until(room, seconds, "opening sockets")
    reactor.run_until(lambda: all(client.joined for client in opened), seconds, "opening sockets")
    return opened
