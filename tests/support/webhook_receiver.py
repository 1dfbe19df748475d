"""A receiver of webhooks in a thread, which keeps what came and answers as a test says."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from standardwebhooks import Webhook

from tests.support.server import PATIENCE


class Received(NamedTuple):
    """A delivery that came. `at`: seconds of the monotonic clock."""

    headers: Message
    body: bytes
    at: float

    @property
    def id(self) -> str:
        return str(self.headers["webhook-id"])

    @property
    def event(self) -> Any:
        return json.loads(self.body)

    def verify(self, secret: str) -> Any:
        """What the library of the standard reads, which is nobody's of ours."""
        return Webhook(secret).verify(self.body.decode(), dict(self.headers.items()))


Answer = Callable[[Any, BaseHTTPRequestHandler], int | None]
"""What is answered to an event: a status, or None where the test has written itself."""


class WebhookReceiver:
    """Attributes:
    url: where it listens.
    received: what came, oldest first.
    answer: says what is answered.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.received: list[Received] = []
        self.answer: Answer = lambda *_: 204
        self.closing = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                body = self.rfile.read(length)
                if len(body) < length:  # the server was killed in the middle: nothing has come
                    return
                found = Received(self.headers, body, time.monotonic())
                receiver.received.append(found)
                status = receiver.answer(found.event, self)
                if status is not None:
                    self.send_response(status)
                    self.send_header("Content-Length", "0")
                    self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads, request_queue_size = True, 128

            def handle_error(self, *_: object) -> None:
                """A client that went away in the middle: killed, as a rule."""

        self._server = Server(("127.0.0.1", 0), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}/receive-5f2c"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def hang(self, *_: object) -> int:
        """An answer that does not come while the test runs."""
        self.closing.wait(PATIENCE * 3)
        return 204

    def types(self) -> list[str]:
        return [one.event["type"] for one in list(self.received)]

    def close(self) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def webhook_receiver(tls: ssl.SSLContext | None = None) -> Iterator[WebhookReceiver]:
    """A receiver for one test."""
    receiver = WebhookReceiver(tls)
    try:
        yield receiver
    finally:
        receiver.close()
