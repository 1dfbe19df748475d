"""The secret values among the settings, so that logs can hide them."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

from services.secret import Secret

SHORTEST = 8
"""Characters. Shorter ones are words: hiding them would hide half of the log."""


def secret_values(settings: object) -> frozenset[str]:
    """Every secret of the settings, and the passwords of URLs, as text."""
    return frozenset(value for value in _values(settings) if len(value) >= SHORTEST)


def _values(held: object) -> Iterator[str]:
    if isinstance(held, Secret):
        text = held.reveal()
        yield from _of_url(text) if "://" in text else (text,)
    elif isinstance(held, msgspec.Struct):
        for field in msgspec.structs.fields(held):
            yield from _values(getattr(held, field.name))
    elif isinstance(held, tuple):
        for item in held:
            yield from _values(item)


def _of_url(text: str) -> Iterator[str]:
    try:
        url = urlsplit(text)
        password = url.password or ""
    except ValueError:
        return  # refused elsewhere, by a line without it
    options = (value for name, value in parse_qsl(url.query) if "password" in name)
    for value in (password, *options):
        yield from (value, unquote(value))
