"""An installation below a path of its host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

from tests.support.server import Usher


@dataclass(frozen=True)
class Below:
    """Where clients reach an installation. `url`: without a slash at its end."""

    url: str

    @property
    def origin(self) -> str:
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def ws(self) -> str:
        return f"ws{self.url[4:]}/ws"

    @property
    def path(self) -> str:
        return urlsplit(self.url).path

    @property
    def as_server(self) -> Usher:
        """For clients that are made for an Usher: they ask it for its addresses only."""
        return cast("Usher", self)
