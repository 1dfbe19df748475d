"""Serves the reference: two machine-readable documents and one HTML page, from one source.

They are generated once at the start, and served from memory.
"""

from __future__ import annotations

import hashlib

import msgspec

from handlers.api import ApiHandler
from handlers.base import Site
from handlers.http.pages import PAGE_HEADERS
from handlers.operations import operation
from handlers.reference.asyncapi import asyncapi_document
from handlers.reference.docs_page import reference_page
from handlers.reference.openapi import Routes, openapi_document
from handlers.reference.schemas import About
from handlers.websocket.room_events import ROOM_EVENTS
from handlers.websocket.socket import EVENTS
from services.rooms.room_protocol import ROOM_SERVER_EVENTS
from services.settings.settings import VERSION
from services.websocket.protocol import SERVER_EVENTS


class Served(msgspec.Struct, frozen=True):
    """A document with its ETag. It does not change until the next start."""

    body: bytes
    etag: str


class Documents(msgspec.Struct, frozen=True):
    """The three documents of the reference."""

    openapi: Served
    asyncapi: Served
    page: Served


def make_documents(routes: Routes, site: Site) -> Documents:
    """Generate the documents for these routes and the socket."""
    about = About(VERSION, site.origins.public_url, site.cookies.access, site.cookies.refresh)
    openapi = openapi_document(routes, about)
    asyncapi = asyncapi_document(
        {**EVENTS, **ROOM_EVENTS}, {**SERVER_EVENTS, **ROOM_SERVER_EVENTS}, about
    )
    return Documents(
        _served(msgspec.json.encode(openapi)),
        _served(msgspec.json.encode(asyncapi)),
        _served(reference_page(openapi, asyncapi)),
    )


def _served(body: bytes) -> Served:
    return Served(body, f'"{hashlib.sha256(body).hexdigest()[:32]}"')


class DocumentHandler(ApiHandler):
    """Responds with a document, or with 304 if the client has it."""

    documents: Documents
    etag = ""

    def initialize(self, site: Site, documents: Documents) -> None:  # type: ignore[override]
        super().initialize(site)
        self.documents = documents

    def prepare(self) -> None:
        super().prepare()
        self.set_header("Cache-Control", "no-cache")  # revalidated each time, by its ETag

    def compute_etag(self) -> str | None:
        return self.etag or None

    def send_document(self, document: Served, content_type: str) -> None:
        self.etag = document.etag
        self.set_header("Content-Type", content_type)
        self.write(document.body)


class OpenApiHandler(DocumentHandler):
    @operation("The HTTP calls, as an OpenAPI 3.1 document.", access="anyone", answer=dict)
    async def get(self) -> None:
        self.send_document(self.documents.openapi, "application/json")


class AsyncApiHandler(DocumentHandler):
    @operation("The socket, as an AsyncAPI 3.0 document.", access="anyone", answer=dict)
    async def get(self) -> None:
        self.send_document(self.documents.asyncapi, "application/json")


class ReferenceHandler(DocumentHandler):
    def set_default_headers(self) -> None:
        super().set_default_headers()
        for name, value in PAGE_HEADERS.items():
            self.set_header(name, value)

    @operation(
        "Both documents as an HTML page.", access="anyone", answer=str, media_type="text/html"
    )
    async def get(self) -> None:
        self.send_document(self.documents.page, "text/html; charset=utf-8")
