"""Somebody else's web site: the same host on another port, so that cookies do go along."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

from tests.support.http_servers import Silent, serving


class _Page(Silent, BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>Win a prize</title><link rel=icon href=data:,>")


@contextmanager
def foreign_site() -> Iterator[str]:
    """Its address. It has a page without any policy, on which a test may do what it likes."""
    with serving(_Page) as port:
        yield f"http://127.0.0.1:{port}"
