"""An app that knows nothing of Usher: it believes the headers of the proxy in front of it."""

from __future__ import annotations

import html
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

PAGE = """<!doctype html><meta charset="utf-8"><title>App</title>
<h1>Hello, {name}</h1><p>You are {user_id}, with the role {role}.</p>
"""


class App(BaseHTTPRequestHandler):
    """One page."""

    def do_GET(self) -> None:
        user = {
            "name": unquote(self.headers.get("X-Usher-User-Name", "")),
            "user_id": self.headers.get("X-Usher-User-Id", ""),
            "role": self.headers.get("X-Usher-Role", ""),
        }
        body = PAGE.format(**{name: html.escape(text) for name, text in user.items()}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Silence."""


if __name__ == "__main__":
    # On loopback: a client that bypasses the proxy could claim to be any user.
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), App).serve_forever()
