"""Many HTTP requests over a few kept-alive connections, on the same small reactor."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.errors import BenchmarkFailed
from benchmarks.reactor import READ_BYTES, Reactor
from benchmarks.ws_load import Address


def request(
    address: Address, method: str, path: str, body: dict[str, Any] | None = None, token: str = ""
) -> bytes:
    """One HTTP/1.1 request of a native client."""
    payload = json.dumps(body).encode() if body is not None else b""
    lines = [
        f"{method} {path} HTTP/1.1",
        f"Host: {address[0]}:{address[1]}",
        f"Content-Length: {len(payload)}",
    ]
    if body is not None:
        lines.append("Content-Type: application/json")
    if token:
        lines.append(f"Authorization: Bearer {token}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + payload


@dataclass(frozen=True)
class Answer:
    """A response, and the moment its last byte was read (``time.perf_counter()``)."""

    status: int
    body: bytes
    at: float
    head: bytes = b""

    def data(self, wanted: int) -> dict[str, Any]:
        """The JSON object of an answer with the wanted status; raises BenchmarkFailed."""
        if self.status != wanted:
            raise BenchmarkFailed(f"HTTP {self.status}, wanted {wanted}: {self.body[:300]!r}")
        decoded: dict[str, Any] = json.loads(self.body)
        return decoded


class HttpConnection:
    """One kept-alive connection, one request in flight."""

    def __init__(self, reactor: Reactor, address: Address) -> None:
        self._reactor = reactor
        self._received = b""
        self.sock = socket.create_connection(address, timeout=5)
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        reactor.add(self)

    def send(self, data: bytes) -> None:
        if self.sock.send(data) != len(data):
            raise BenchmarkFailed("request did not fit into the kernel's buffer")

    def on_ready(self, events: int) -> None:
        data = self.sock.recv(READ_BYTES)
        if not data:
            raise BenchmarkFailed("the server closed an HTTP connection")
        self._received += data
        answer = self._parse()
        if answer is not None:
            self._received = b""
            self.on_answer(answer)

    def _parse(self) -> Answer | None:
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found:
            return None
        length = 0
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        if len(body) < length:
            return None
        return Answer(int(head[9:12]), body, time.perf_counter(), head)

    def on_answer(self, answer: Answer) -> None:
        """A whole response has been read."""


class _Caller(HttpConnection):
    """Takes the next request as soon as the last one is answered."""

    def __init__(
        self,
        reactor: Reactor,
        address: Address,
        requests: Iterator[tuple[int, bytes]],
        answers: dict[int, Answer],
    ) -> None:
        super().__init__(reactor, address)
        self._requests = requests
        self._answers = answers
        self._index = 0
        self.finished = False

    def next(self) -> None:
        pair = next(self._requests, None)
        if pair is None:
            self.finished = True
            return
        self._index, data = pair
        self.send(data)

    def on_answer(self, answer: Answer) -> None:
        self._answers[self._index] = answer
        self.next()


def call_all(
    address: Address, requests: Iterable[bytes], connections: int, seconds: float = 300
) -> list[Answer]:
    """Send every request, ``connections`` at a time; the answers in the requests' order."""
    reactor = Reactor()
    answers: dict[int, Answer] = {}
    queue = iter(enumerate(requests))
    try:
        callers = [_Caller(reactor, address, queue, answers) for _ in range(connections)]
        for caller in callers:
            caller.next()
        reactor.run_until(lambda: all(caller.finished for caller in callers), seconds, "HTTP")
    finally:
        reactor.close()
    return [answers[index] for index in sorted(answers)]
