"""Answers of the tests' own HTTP servers (http_service.py), and the ways in which they go out."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from types import MappingProxyType
from typing import Literal

ENOUGH = 256 * 1024 * 1024
"""Bytes after which an endless body ends after all, so that a test cannot fill the machine."""

Flow = Literal["whole", "slow", "held", "drip", "drip_headers", "endless", "bomb", "closes"]
"""How an answer goes out: see faults.py, where each has its meaning."""


@dataclass(frozen=True)
class Reply:
    """An answer to be sent."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    flow: Flow = "whole"

    def flowing(self, flow: Flow) -> Reply:
        return replace(self, flow=flow)


def as_json(
    content: object, status: int = 200, headers: Mapping[str, str] = MappingProxyType({})
) -> Reply:
    return Reply(
        status, json.dumps(content).encode(), {"Content-Type": "application/json", **headers}
    )


def as_page(text: str, status: int = 200) -> Reply:
    return as_markup(f"<p>{text}</p>", text, status)


def as_markup(markup: str, title: str = "A page", status: int = 200) -> Reply:
    page = f"<!doctype html><title>{title}</title><link rel=icon href=data:,>{markup}"
    return Reply(status, page.encode(), {"Content-Type": "text/html; charset=utf-8"})


def to(location: str, status: int = 302) -> Reply:
    """A redirect."""
    return Reply(status, b"", {"Location": location})


def endless() -> Iterator[bytes]:
    """Chunks of JSON that never becomes whole."""
    yield b'{"padding": "'
    for _ in range(ENOUGH // 65536):
        yield b"x" * 65536


@lru_cache(maxsize=1)
def bomb() -> bytes:
    """64 MiB of JSON in 64 KiB of gzip."""
    packer = zlib.compressobj(wbits=31)
    spaces = b" " * (1024 * 1024)
    return b"".join((packer.compress(b"{"), *(packer.compress(spaces) for _ in range(64)),
                     packer.compress(b"}"), packer.flush()))  # fmt: skip
