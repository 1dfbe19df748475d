"""The bundled front end: plain files, under a policy that lets nothing foreign in."""

from __future__ import annotations

from typing import Any

from tornado import web

from handlers.base import BaseHandler, Site

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


class PageHandler(web.StaticFileHandler, BaseHandler):
    """Files under static/."""

    def initialize(  # type: ignore[override]
        self, site: Site, path: str, default_filename: str | None = None
    ) -> None:
        BaseHandler.initialize(self, site)
        web.StaticFileHandler.initialize(self, path, default_filename)

    def set_default_headers(self) -> None:
        super().set_default_headers()
        self.set_header("Content-Security-Policy", CONTENT_SECURITY_POLICY)
        self.set_header("X-Frame-Options", "DENY")
        self.set_header("Cross-Origin-Opener-Policy", "same-origin")
        self.set_header("Permissions-Policy", "camera=(), geolocation=(), microphone=()")

    def set_extra_headers(self, path: str) -> None:
        self.set_header("Cache-Control", "no-cache")  # asked again each time, by its ETag

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        BaseHandler.write_error(self, status_code, **kwargs)
