"""Serves the bundled front end, static files with a strict Content-Security-Policy, and the client
library as one file."""

from __future__ import annotations

import gzip
from typing import Any

from handlers.api import ApiHandler
from handlers.base import BaseHandler, Site
from handlers.client_file import ClientFile
from handlers.operations import operation
from services.errors import NotFound

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
JAVASCRIPT = "text/javascript"
YEAR_SECONDS = 31_536_000
PAGE_LEVEL = 5
"""Of gzip: half a millisecond for a page."""
PAGE_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


def send_page(handler: BaseHandler, template: str, **values: Any) -> None:
    """Render and send a page. It may contain the signed-in user, so it is not cached."""
    page = handler.site.pages.load(template).generate(brand=handler.site.branding, **values)
    handler.set_header("Content-Type", "text/html; charset=UTF-8")
    handler.set_header("Cache-Control", "no-store")
    if "gzip" in handler.request.headers.get("Accept-Encoding", ""):
        # Nothing in a page is a secret that its length could tell (BREACH).
        handler.set_header("Content-Encoding", "gzip")
        page = gzip.compress(page, PAGE_LEVEL, mtime=0)
    handler.finish(page)


class PageHandler(BaseHandler):
    """The base of pages and their files: a strict policy."""

    def set_default_headers(self) -> None:
        super().set_default_headers()
        for name, value in PAGE_HEADERS.items():
            self.set_header(name, value)


class FileHandler(PageHandler):
    """Files under static/: as they are, or with the version in front as the pages load them."""

    async def get(self, version: str | None, name: str) -> None:
        files = self.site.files
        file = files.as_it_is(name) if version is None else files.built(name)
        if file is None:
            raise NotFound("no such file")
        # During a rolling upgrade, this node's file must not be kept as another version.
        is_current = version == files.version
        kept = f"public, max-age={YEAR_SECONDS}, immutable" if is_current else "no-cache"
        self.set_header("Cache-Control", kept)
        self.set_header("Content-Type", file.media_type)
        self.set_header("Vary", "Accept-Encoding")
        encoding, content = await file.encoded(self.request.headers.get("Accept-Encoding", ""))
        self.tag = f'{file.etag[:-1]}-{encoding}"' if encoding else file.etag
        if encoding:
            self.set_header("Content-Encoding", encoding)
        self.write(content)

    head = get

    def compute_etag(self) -> str:
        return self.tag


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
