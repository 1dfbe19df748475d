"""Serves the bundled front end: static files under a strict Content-Security-Policy."""

from __future__ import annotations

from typing import Any

from tornado import web

from handlers.base import BaseHandler, Site

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
PAGE_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class PageHandler(web.StaticFileHandler, BaseHandler):
    """Files under static/."""

    def initialize(  # type: ignore[override]
        self, site: Site, path: str, default_filename: str | None = None
    ) -> None:
        BaseHandler.initialize(self, site)
        web.StaticFileHandler.initialize(self, path, default_filename)

    def set_default_headers(self) -> None:
        super().set_default_headers()
        for name, value in PAGE_HEADERS.items():
            self.set_header(name, value)

    def set_extra_headers(self, path: str) -> None:
        self.set_header("Cache-Control", "no-cache")  # asked again each time, by its ETag

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        BaseHandler.write_error(self, status_code, **kwargs)
