"""The files of the front end, in memory: as they are, and as pages load them.

A page loads `/static/<version>/<path>`, which never changes and is kept for a year: modules are
put together (bundles.py), the style sheet has the installation's colours, and each file is there
in Brotli and gzip. `/static/<path>` is the file as it is, asked for again by its ETag.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import mimetypes
from pathlib import Path
from types import MappingProxyType

import brotli

from handlers.bundles import bundles
from services.settings.branding import Branding, stylesheet

VERSION_LENGTH = 12
SMALLEST_COMPRESSED = 512
"""Bytes. Below that the headers weigh more than what is saved."""
STYLE = "style.css"
TYPES = MappingProxyType(
    {".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".svg": "image/svg+xml"}
)


class PageFile:
    """One file. `etag`: strong and quoted (RFC 9110 section 8.8.3)."""

    def __init__(self, name: str, content: bytes) -> None:
        kind = TYPES.get(Path(name).suffix) or mimetypes.guess_type(name)[0]
        is_text = kind is None or kind.startswith("text/") or kind == "image/svg+xml"
        self.media_type = f"{kind or 'text/plain'}{'; charset=utf-8' if is_text else ''}"
        self.content = content
        self.etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        self._is_compressed = is_text and len(content) >= SMALLEST_COMPRESSED
        self._encoded: dict[str, asyncio.Future[bytes]] = {}

    async def encoded(self, accepts: str) -> tuple[str, bytes]:
        """The encoding that a client takes (`""` for none), and the content in it.

        It is compressed once, by a thread, when it is first asked for: at the start it would keep
        everybody waiting for files that nobody may want.

        Args:
            accepts: its `Accept-Encoding`.
        """
        encoding = _best(accepts) if self._is_compressed else ""
        if not encoding:
            return "", self.content
        if encoding not in self._encoded:
            self._encoded[encoding] = asyncio.ensure_future(
                asyncio.to_thread(compressed, encoding, self.content)
            )
        # Shielded: a client that leaves must not take it away from the others.
        return encoding, await asyncio.shield(self._encoded[encoding])


class PageFiles:
    """The files of a folder, by their paths.

    Args:
        path: that of PUBLIC_URL, `/usher` say, or empty.

    Attributes:
        version: of all of them together; another one for other files or other colours.
    """

    def __init__(self, folder: Path, branding: Branding, path: str = "") -> None:
        self.path = path
        texts = {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        modules = {name: text.decode() for name, text in texts.items() if name.endswith(".js")}
        built = texts | {name: text.encode() for name, text in bundles(modules).items()}
        built[STYLE] += stylesheet(branding).encode()
        digest = hashlib.sha256()
        for name, content in built.items():
            digest.update(f"{name} {len(content)}\n".encode() + content)
        self.version = digest.hexdigest()[:VERSION_LENGTH]
        self._as_they_are = {name: PageFile(name, text) for name, text in texts.items()}
        self._built = {name: PageFile(name, text) for name, text in built.items()}

    def as_it_is(self, name: str) -> PageFile | None:
        return self._as_they_are.get(name)

    def built(self, name: str) -> PageFile | None:
        return self._built.get(name)

    def url(self, name: str) -> str:
        """Where a page loads a file from.

        Raises:
            KeyError: there is no such file.
        """
        self._built[name]
        return f"{self.path}/static/{self.version}/{name}"


def compressed(encoding: str, content: bytes) -> bytes:
    """`encoding`: `br` or `gzip`."""
    return brotli.compress(content) if encoding == "br" else gzip.compress(content, 9, mtime=0)


def _best(accepts: str) -> str:
    """The best encoding of those in `Accept-Encoding` (RFC 9110 section 12.5.3)."""
    taken = set()
    for part in accepts.lower().split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        weight = next((p[2:].strip() for p in parameters if p.startswith("q=")), "1")
        if weight.strip("0.") or not weight:
            taken.add(name)
    return next((name for name in ("br", "gzip") if name in taken), "")
