"""Serves the bundled front end, static files with a strict Content-Security-Policy, and the client
library as one file."""

from __future__ import annotations

from typing import Any

from tornado import web

from handlers.api import ApiHandler
from handlers.base import BaseHandler, Site
from handlers.client_file import ClientFile
from handlers.operations import operation

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
JAVASCRIPT = "text/javascript"
YEAR_SECONDS = 31_536_000
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
        self.set_header("Cache-Control", "no-cache")  # revalidated each time, by its ETag

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        BaseHandler.write_error(self, status_code, **kwargs)


class ClientFileHandler(ApiHandler):
    """`/client/usher.js`, which pages of allowed origins import."""

    def initialize(  # type: ignore[override]
        self, site: Site, client: ClientFile
    ) -> None:
        super().initialize(site)
        self.client = client

    @operation(
        "The client for pages, as one module. With the current version in `v` it may be kept for "
        "ever; else it is asked for again by its ETag.",
        access="anyone",
        answer=str,
        media_type=JAVASCRIPT,
        query={"v": "the version of the client that the page was written for"},
    )
    async def get(self) -> None:
        # Tornado sends `compute_etag`, and answers 304 if the client has that version.
        self.set_header("Cross-Origin-Resource-Policy", "cross-origin")
        self.set_header("Content-Type", f"{JAVASCRIPT}; charset=utf-8")
        current = self.get_query_argument("v", "") == self.client.version
        # During a rolling upgrade, this node's file must not be cached as another version.
        kept = f"public, max-age={YEAR_SECONDS}, immutable" if current else "no-cache"
        self.set_header("Cache-Control", kept)
        self.write(self.client.content)

    def compute_etag(self) -> str:
        return self.client.etag
