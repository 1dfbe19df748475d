"""One socket of a soak. It raises no errors, because faults are expected."""

from __future__ import annotations

import errno
import select
import socket
import time

from benchmarks.reactor import READ_BYTES, Reactor
from benchmarks.ws_load import CLOSE, PING, PONG, TEXT, Address, masked_frame, parse_frames

CONNECT_SECONDS = 5.0
GONE, OWN = 1006, 0
"""Ended without a close frame, and by ourselves."""


class Connection:
    """Subclasses act in on_text and on_end, which comes once."""

    def __init__(self, reactor: Reactor, address: Address, upgrade: bytes) -> None:
        self._reactor, self._upgrade = reactor, upgrade
        self._rest = b""
        self._is_upgraded = self.is_over = False
        self.code = GONE
        self.began = time.monotonic()
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        code = self.sock.connect_ex(address)
        if code not in (0, errno.EINPROGRESS):
            self.sock.close()
            self.is_over = True
            return
        reactor.add(self, select.EPOLLOUT)

    def send(self, data: bytes) -> None:
        """Whole frames. A server that is stopped takes what a kernel holds: more ends it."""
        if self.is_over:
            return
        try:
            if self.sock.send(data) == len(data):
                return
        except OSError:
            pass
        self.end()

    def say(self, text: bytes) -> None:
        self.send(masked_frame(TEXT, text))

    def on_ready(self, events: int) -> None:
        if self._upgrade:
            self._on_connected()
            return
        try:
            data = self.sock.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.end()
            return
        data = self._rest + data if self._rest else data
        if not self._is_upgraded:
            data = self._take_answer(data)
        if self._is_upgraded:
            frames, self._rest = parse_frames(data)
            for opcode, payload in frames:
                self._take_frame(opcode, payload)

    def _on_connected(self) -> None:
        if self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.end()
            return
        upgrade, self._upgrade = self._upgrade, b""
        self._reactor.expect_reads(self)
        self.send(upgrade)

    def _take_answer(self, data: bytes) -> bytes:
        head, found, rest = data.partition(b"\r\n\r\n")
        if not found:
            self._rest = data
        elif head.startswith(b"HTTP/1.1 101 "):
            self._is_upgraded, self._rest = True, b""
        else:
            self.code = int(head[9:12])
            self.end()
        return rest

    def _take_frame(self, opcode: int, payload: bytes) -> None:
        if opcode == TEXT:
            self.on_text(payload)
        elif opcode == PING:
            self.send(masked_frame(PONG, payload))
        elif opcode == CLOSE:
            self.code = int.from_bytes(payload[:2], "big") if payload else 1005
            self.send(masked_frame(CLOSE, payload[:2]))
            self.end()

    def end(self) -> None:
        """Close it, whoever began."""
        if not self.is_over:
            self.is_over = True
            self._reactor.discard(self)
            self.on_end()

    def on_text(self, payload: bytes) -> None: ...

    def on_end(self) -> None: ...
