"""HTTP calls to providers: limited in time and size, without redirects, and over TLS.

`requests` has a timeout for each read, but none for the whole call. It follows redirects with the
form and its secret, and reads bodies of any size. This module prevents all of that. Everything here
blocks and runs in a worker thread (services/oauth/calls.py).
"""

from __future__ import annotations

import socket
import threading
from codecs import BOM_UTF8
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import msgspec
import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError

from services.oauth.errors import ProviderUnavailable
from services.settings.origins import is_loopback

CALL_SECONDS = 8.0
"""Time limit of a call, from connect to the last byte. Users wait for it."""
CONNECT_SECONDS = 4.0
MAX_BODY_BYTES = 512 * 1024
"""The largest real response is a JWKS of some tens of kilobytes."""
CHUNK_BYTES = 16 * 1024
USER_AGENT = "usher"


class UnusableAnswer(requests.RequestException):
    """A response that is not read: a redirect, a server error, or one that is too large or late."""


def is_safe_url(url: str) -> bool:
    """Whether secrets may be sent to a URL: https, or http to a loopback address."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    plain = url.isascii() and url.isprintable() and " " not in url
    if not host or parts.username is not None or parts.fragment or not plain:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))


@contextmanager
def bounded(session: requests.Session) -> Iterator[requests.Session]:
    """Limit every call of a session in time and size. Closes the session at the end."""
    adapter = _BoundedAdapter()
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    session.headers["User-Agent"] = USER_AGENT
    with session:
        yield session


def get_json(
    url: str, headers: Mapping[str, str] | None = None, absent: frozenset[int] = frozenset()
) -> tuple[Any, Mapping[str, str]]:
    """Fetch a JSON document. Returns it and the response's headers.

    Args:
        absent: statuses for which None is returned in place of the document.

    Raises:
        ProviderUnavailable: no response in time, an error status, or invalid JSON.
    """
    body, found = get_document(url, {"Accept": "application/json", **(headers or {})}, absent)
    return None if body is None else read_json(url, body), found


def read_json(url: str, body: bytes) -> Any:
    """Parse the JSON body of a response from `url`.

    Raises:
        ProviderUnavailable: it is not valid JSON.
    """
    # Not `answer.json()`: it uses the codec that the response names, and some take minutes. JSON
    # between systems is UTF-8 (RFC 8259 section 8.1).
    try:
        return msgspec.json.decode(body.removeprefix(BOM_UTF8))
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise ProviderUnavailable(f"{_where(url)}: {why(error)}") from error


def get_document(
    url: str, headers: Mapping[str, str], absent: frozenset[int] = frozenset()
) -> tuple[bytes | None, Mapping[str, str]]:
    """Fetch a document of any type. Returns it and the response's headers; see `get_json`.

    Raises:
        ProviderUnavailable: no response in time, or an error status.
    """
    session = requests.Session()
    session.auth = _no_auth  # otherwise requests would use a .netrc file
    try:
        with bounded(session):
            answer = session.get(url, headers=headers)
            if answer.status_code in absent:
                return None, answer.headers
            answer.raise_for_status()
            return answer.content, answer.headers
    except (requests.RequestException, ValueError) as error:
        raise ProviderUnavailable(f"{_where(url)}: {why(error)}") from error


def why(error: BaseException) -> str:
    """Describe an error for the log. Its own text may contain URLs with authorization codes."""
    if isinstance(error, UnusableAnswer):
        return str(error)
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"status {error.response.status_code}"
    return type(error).__name__


def _where(url: str) -> str:
    return url.partition("://")[2].partition("?")[0].rpartition("@")[2]


def _no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


class _Deadline:
    """Shuts down the connections of a call when its time is up, whatever they wait for."""

    def __init__(self, seconds: float) -> None:
        self.is_up = False
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True

    def __enter__(self) -> _Deadline:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        with self._lock:
            for sock in self._sockets:
                sock.close()
            self._sockets.clear()

    def add(self, sock: socket.socket) -> None:
        """Watch a connection, through a duplicate of its descriptor, as TLS detaches the original.

        Raises:
            TimeoutError: it was connected after the deadline, because a name server or several
                addresses did not respond. Nothing is sent.
        """
        with self._lock:
            if self.is_up:
                sock.close()
                raise TimeoutError("connected too late")
            self._sockets.append(sock.dup())

    def _end(self) -> None:
        with self._lock:
            self.is_up = True
            for sock in self._sockets:
                with suppress(OSError):  # already closed
                    sock.shutdown(socket.SHUT_RDWR)


class _BoundedAdapter(HTTPAdapter):
    """A transport adapter with a deadline and a size limit. Each call has a new connection."""

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: bool | str = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        if not is_safe_url(request.url or ""):
            raise UnusableAnswer("not a URL that secrets may be sent to")
        if urlsplit(request.url or "").scheme == "http":
            proxies = None  # http is only for loopback addresses, which no proxy can reach
        with _Deadline(CALL_SECONDS) as watch:
            self._watch = watch
            limits = (CONNECT_SECONDS, CALL_SECONDS)
            try:
                response = _read(super().send(request, True, limits, verify, cert, proxies))
                if (
                    watch.is_up
                ):  # without a Content-Length, a shutdown looks like the end of the body
                    raise UnusableAnswer("cut off")
                return response
            except (requests.RequestException, HTTPError, OSError) as error:
                if watch.is_up:
                    raise UnusableAnswer(
                        f"no complete response within {CALL_SECONDS:g} s"
                    ) from error
                if isinstance(error, requests.RequestException):
                    raise
                raise UnusableAnswer(type(error).__name__) from error
            finally:
                self.close()  # a reused connection would have no deadline

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        """The pool of `requests`, with connections that have a deadline."""
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        secure = issubclass(pool.ConnectionCls, HTTPSConnection)
        pool.ConnectionCls = _with_deadline(
            HTTPSConnection if secure else HTTPConnection, self._watch
        )
        return pool


def _with_deadline(base: type[HTTPConnection], watch: _Deadline) -> type[HTTPConnection]:
    class Watched(base):  # type: ignore[misc,valid-type]  # the same for both kinds
        def _new_conn(self) -> socket.socket:
            sock: socket.socket = super()._new_conn()
            watch.add(sock)
            return sock

    return Watched


def _read(response: requests.Response) -> requests.Response:
    """Read the body of a response.

    Raises:
        UnusableAnswer: a redirect, a server error, status 429, or a body that is too large.
    """
    if response.is_redirect or 300 <= response.status_code < 400:
        response.close()
        raise UnusableAnswer(f"status {response.status_code}, a redirect")
    if response.status_code >= 500 or response.status_code == 429:
        response.close()
        raise UnusableAnswer(f"status {response.status_code}")
    body = bytearray()
    for chunk in response.raw.stream(CHUNK_BYTES, decode_content=True):
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            response.close()
            raise UnusableAnswer(f"more than {MAX_BODY_BYTES} bytes")
    response.close()
    response.encoding = "utf-8"  # for libraries that read it as text
    response._content = bytes(body)  # noqa: SLF001 - where requests stores the body
    response._content_consumed = True  # type: ignore[attr-defined]  # noqa: SLF001
    return response
