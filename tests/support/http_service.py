"""An HTTP server of the tests' own in a thread: it keeps what it was asked, and can answer badly.

The providers of tests/support are built on it (provider.py, github.py).
"""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Mapping
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, TypeVar
from urllib.error import HTTPError
from urllib.parse import parse_qsl, urlsplit
from urllib.request import HTTPRedirectHandler, build_opener

from tests.support.http_answers import Reply, bomb, endless
from tests.support.server import PATIENCE

S = TypeVar("S", bound="Service")


class Seen(NamedTuple):
    """A request that came."""

    method: str
    path: str
    """Without the query."""
    headers: Message
    form: dict[str, str]
    """The form of a POST, or the query of a GET."""
    query: dict[str, str]
    body: bytes


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        """Left to the caller."""


def sent_back(url: str) -> str:
    """Opens a URL as a browser does. Returns where the answer redirects to.

    Raises: AssertionError where it does not.
    """
    try:
        with build_opener(_NoRedirects).open(url, timeout=PATIENCE) as page:
            raise AssertionError(f"{page.status} {page.read()!r}")
    except HTTPError as answer:
        with answer:
            location = answer.headers.get("Location")
            if location is None:
                raise AssertionError(f"{answer.code} {answer.read()!r}") from answer
            return str(location)


class Service:
    """A server on a port of the system's choice; subclasses say what it answers.

    Attributes:
        origin: scheme, host and port.
        requests: what came, oldest first. A new list would lose requests: clear this one.
        delay: seconds before a `slow` answer.
        drip_interval: seconds between the bytes of a dripping answer.
        sent: bytes written of endless bodies, by path. Some stay in buffers, unread.
    """

    def __init__(self) -> None:
        self.requests: list[Seen] = []
        self.delay = 30.0
        self.drip_interval = 1.0
        self.sent: Counter[str] = Counter()
        self.failures: list[BaseException] = []
        self.let_go = threading.Event()
        self.closing = threading.Event()
        self._changed = threading.Condition()
        self._now: Counter[str] = Counter()
        self._peak: Counter[str] = Counter()
        self._server = _Server(self)
        self.origin = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}
        )

    def __enter__(self: S) -> S:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Raises: what went wrong inside it, where the test itself did not fail."""
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.hang_up()
        self._server.server_close()
        if self.failures and kind is None:
            raise self.failures[0]

    def answer(self, seen: Seen) -> Reply:
        """What to answer. Runs in a thread of the request's own."""
        raise NotImplementedError

    def came(self, path: str) -> list[Seen]:
        """The requests for this path so far."""
        with self._changed:
            return [seen for seen in self.requests if seen.path == path]

    def wait_for(self, path: str, count: int = 1, timeout: float = PATIENCE) -> list[Seen]:
        """Waits until as many requests for this path came.

        Raises: TimeoutError if they did not.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.came(path)) >= count, timeout):
                raise TimeoutError(f"{len(self.came(path))} of {count} requests for {path}")
            return self.came(path)

    def peak(self, path: str) -> int:
        """How many requests for this path were ever in hand at the same time."""
        with self._changed:
            return self._peak[path]

    def release(self) -> None:
        """Lets `held` answers go."""
        self.let_go.set()

    def hang_up(self) -> None:
        """Ends the connections of all who wait for an answer, without one."""
        self._server.hang_up()

    def took(self, seen: Seen) -> None:
        with self._changed:
            self.requests.append(seen)
            self._now[seen.path] += 1
            self._peak[seen.path] = max(self._peak[seen.path], self._now[seen.path])
            self._changed.notify_all()

    def answered(self, seen: Seen) -> None:
        with self._changed:
            self._now[seen.path] -= 1


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that closing waits for the requests in hand
    request_queue_size = 128  # fifty callers at once are a test

    def __init__(self, service: Service) -> None:
        self.service = service
        self.connections: set[Any] = set()
        super().__init__(("127.0.0.1", 0), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.connections.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """Ends what browsers leave open, and what a client still reads."""
        for connection in tuple(self.connections):
            try:
                connection.shutdown(2)
            except OSError:
                continue  # it ended by itself

    def handle_error(self, request: object, client_address: object) -> None:
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, ConnectionError):
            self.service.failures.append(error)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        service = self.server.service
        seen = self._seen()
        service.took(seen)
        try:
            self._send(seen, service.answer(seen))
        finally:
            service.answered(seen)

    def do_POST(self) -> None:
        self.do_GET()

    def do_DELETE(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 the base class's name
        """Silent."""

    def _seen(self) -> Seen:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        split = urlsplit(self.path)
        query = dict(parse_qsl(split.query, keep_blank_values=True))
        form = query
        if self.headers.get_content_type() == "application/x-www-form-urlencoded":
            form = dict(parse_qsl(body.decode(), keep_blank_values=True))
        return Seen(self.command, split.path, self.headers, form, query, body)

    def _send(self, seen: Seen, reply: Reply) -> None:
        self.close_connection = True
        service = self.server.service
        if reply.flow == "closes":
            return
        if reply.flow == "slow":
            service.closing.wait(service.delay)
        elif reply.flow == "held":
            _either(service.let_go, service.closing)
        elif reply.flow == "drip_headers":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            self._drip(b"y" * 4096)
            return
        self._send_body(seen, reply)

    def _send_body(self, seen: Seen, reply: Reply) -> None:
        if reply.flow == "endless":
            self._head(reply, {"Transfer-Encoding": "chunked"})
            for chunk in endless():
                self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
                self.server.service.sent[seen.path] += len(chunk)
        elif reply.flow == "bomb":
            self._head(reply, {"Content-Encoding": "gzip", "Content-Length": str(len(bomb()))})
            self.wfile.write(bomb())
        else:
            self._head(reply, {"Content-Length": str(len(reply.body))})
            if reply.flow == "drip":
                self._drip(reply.body)
            else:
                self.wfile.write(reply.body)

    def _head(self, reply: Reply, framing: Mapping[str, str]) -> None:
        self.send_response(reply.status)
        for name, value in {**reply.headers, **framing, "Connection": "close"}.items():
            self.send_header(name, value)
        self.end_headers()

    def _drip(self, body: bytes) -> None:
        service = self.server.service
        for byte in body:
            self.wfile.write(bytes((byte,)))
            if service.closing.wait(service.drip_interval):
                return


def _either(first: threading.Event, second: threading.Event) -> None:
    while not (first.is_set() or second.is_set()):
        first.wait(0.02)
