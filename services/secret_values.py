"""Collects the secret values of the settings, so that the log can mask them."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

from services.secret import Secret

MIN_LENGTH = 8
"""Characters. Shorter values may be ordinary words, which occur in many log lines."""


def secret_values(settings: object) -> frozenset[str]:
    """Every secret in the settings, and the passwords in URLs, as text."""
    return frozenset(value for value in _values(settings) if len(value) >= MIN_LENGTH)


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
        return  # an invalid URL is refused elsewhere, by an error without the password
    options = (value for name, value in parse_qsl(url.query) if "password" in name)
    for value in (password, *options):
        yield from (value, unquote(value))
