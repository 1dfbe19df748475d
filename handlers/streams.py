"""The connections that Tornado reads requests from and writes answers to."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from tornado.iostream import IOStream, SSLIOStream, UnsatisfiableReadError

from handlers.problems import PROBLEM_TYPE, problem_body
from services.errors import HeadersTooLarge, RateLimited, Unavailable, UsherError

LINGER_SECONDS = 1.0
LINGER_BYTES = 1024 * 1024
"""What is read and thrown away of a request that was refused unread. To close a socket with bytes
that were not read resets the connection, and the client may never see the answer."""
UNREAD_SECONDS = 60.0
"""How long a client may read nothing of an answer, as nginx has it by default."""
SEND_BUFFER_BYTES = 128 * 1024
"""What the system may keep of answers for one connection; Linux takes it twice, and else 4 MiB."""


class AnsweringStream(IOStream):
    """Answers headers that are too large with 431 (RFC 6585 section 5), where Tornado only closes
    the connection. It is a class because a function stored on each stream would be a reference
    cycle, which every join would leave to the garbage collector.

    With TLS the socket cannot be taken over, so the client sees the connection close.

    Attributes:
        written: the bytes that the system took.
    """

    written = 0

    def write_to_fd(self, data: memoryview) -> int:
        """Write what the system takes."""
        try:
            count = super().write_to_fd(data)
            self.written += count
            return count
        finally:
            del data  # as Tornado does: a traceback must not keep the view of the buffer

    def close(self, exc_info: Any = False) -> None:
        """Close, and send 431 if the headers were too large."""
        left: socket.socket | None = None
        if isinstance(exc_info, UnsatisfiableReadError) and not self.closed():
            with contextlib.suppress(OSError):
                left = self.socket.dup()
        super().close(exc_info)
        if left is not None:
            _refuse(left)


class AnsweringTlsStream(SSLIOStream):
    """The same with TLS, without the 431.

    Attributes:
        written: the bytes that the system took.
    """

    written = 0

    def write_to_fd(self, data: memoryview) -> int:
        """Write what the system takes."""
        try:
            count = super().write_to_fd(data)
            self.written += count
            return count
        finally:
            del data


class UnreadAnswers:
    """Finds connections whose client reads nothing of an answer.

    Tornado waits for ever until a response is written. A client that never reads would keep a
    connection, its answer and the system's buffer for as long as they like.
    """

    def __init__(self) -> None:
        self._since: dict[AnsweringStream | AnsweringTlsStream, tuple[int, float]] = {}
        """What was written of each that is being written to, and when that was first seen."""

    def look(self, streams: Iterable[IOStream], now: float) -> list[IOStream]:
        """The streams that took no byte for UNREAD_SECONDS, as far as this was called meanwhile.

        Args:
            now: of a monotonic clock, seconds.
        """
        since = dict[AnsweringStream | AnsweringTlsStream, tuple[int, float]]()
        unread: list[IOStream] = []
        for stream in streams:
            if not isinstance(stream, AnsweringStream | AnsweringTlsStream):
                continue
            if not stream.writing():
                continue
            written, at = self._since.get(stream, (-1, now))
            since[stream] = (stream.written, at if written == stream.written else now)
            if now - since[stream][1] >= UNREAD_SECONDS:
                unread.append(stream)
        self._since = since
        return unread


def close_at_once(stream: IOStream) -> None:
    """Close a connection without sending the rest, for which the system would try for minutes."""
    with contextlib.suppress(OSError):
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.close()


def _refuse(sock: socket.socket) -> None:
    loop, left = asyncio.get_running_loop(), LINGER_BYTES

    def end() -> None:
        timer.cancel()
        if sock.fileno() >= 0:
            loop.remove_reader(sock.fileno())
            sock.close()

    def read_away() -> None:
        nonlocal left
        try:
            got = len(sock.recv(64 * 1024))
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            got = 0
        left -= got
        if not got or left <= 0:
            end()

    timer = loop.call_later(LINGER_SECONDS, end)
    try:
        sock.setblocking(False)
        sock.send(answer_bytes(HeadersTooLarge()))
        sock.shutdown(socket.SHUT_WR)
        loop.add_reader(sock.fileno(), read_away)
    except OSError:
        end()


def answer_bytes(error: UsherError) -> bytes:
    body = problem_body(error)
    extra = ""
    if isinstance(error, RateLimited | Unavailable):
        extra = f"Retry-After: {error.retry_after}\r\n"
    head = (
        f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}\r\n"
        f"Content-Type: {PROBLEM_TYPE}\r\nContent-Length: {len(body)}\r\n{extra}"
        "Cache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
