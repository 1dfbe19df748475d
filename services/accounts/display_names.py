"""Checks names that users choose and others see: of accounts, channels and models."""

from __future__ import annotations

import unicodedata

from services.errors import BadRequest

MAX_NAME_LENGTH = 100
"""Of an account's display name."""
_NEVER_SHOWN = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
"""Unicode categories that are not seen, or (direction overrides) make a text read as another."""
_JOINERS = frozenset("\u200c\u200d")
"""Persian and Indic names and emoji need them."""


def checked_name(name: str) -> str:
    """Normalise a display name: stripped, and without invisible characters.

    Raises:
        BadRequest: the name is empty, too long, or has invisible characters.
    """
    return checked_text(name, "name", MAX_NAME_LENGTH)


def checked_text(text: str, field: str, most: int) -> str:
    """Normalise a text for display: NFC, stripped, and without invisible characters.

    Args:
        field: the request's field, named in the error.
        most: the maximum number of characters.

    Raises:
        BadRequest: the text is empty, too long, or has invisible characters.
    """
    shown = unicodedata.normalize("NFC", text).strip()
    if not 0 < len(shown) <= most:
        raise BadRequest.of(field, f"1 to {most} characters")
    if any(unicodedata.category(c) in _NEVER_SHOWN and c not in _JOINERS for c in shown):
        raise BadRequest.of(field, "control characters")
    if all(c in _JOINERS for c in shown):
        raise BadRequest.of(field, "it has no visible characters")
    return shown
