"""Normalises e-mail addresses."""

from __future__ import annotations

import re
import unicodedata

from services.errors import BadRequest

MAX_EMAIL_LENGTH = 254
"""RFC 5321 section 4.5.3.1.3, as corrected by erratum 1690."""
_EMAIL = re.compile(r"[^\s@\x00-\x1f\x7f<>\"(),:;\[\]\\]+@[^\s@\x00-\x1f\x7f<>\"(),:;\[\]\\]+")
_NEVER_IN_ADDRESS = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))


def normalised_email(email: str) -> str:
    """Normalise an e-mail address: NFKC, stripped, lower case, IDNA domain.

    It ensures that no two accounts have addresses that look the same.

    Raises:
        BadRequest: the text cannot be an e-mail address. Whether the address exists is not checked.
    """
    text = unicodedata.normalize("NFKC", email).strip().casefold()
    local, _, domain = text.rpartition("@")
    try:
        domain = domain.rstrip(".").encode("idna").decode()
    except UnicodeError as error:
        raise BadRequest.of("email", "its domain is invalid") from error
    address = f"{local}@{domain}"
    hidden = any(unicodedata.category(c) in _NEVER_IN_ADDRESS for c in address)
    if len(address) > MAX_EMAIL_LENGTH or hidden or not _EMAIL.fullmatch(address):
        raise BadRequest.of("email", "not an address")
    return address
