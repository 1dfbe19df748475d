"""permessage-deflate (RFC 7692): which offers are granted, and how many sockets may have it.

Tornado 6.6 ignores parameters without a value, so it answers an offer of
`server_no_context_takeover` as if the parameter were missing, and some clients then fail the
connection after the 101. Offers that it would answer wrongly are skipped here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

EXTENSION = "permessage-deflate"
HINTS = frozenset(("client_no_context_takeover", "client_max_window_bits"))
"""Parameters that announce what the client supports. A server need not answer them (7.1)."""
WINDOWS = frozenset(str(bits) for bits in range(9, 16))
"""`server_max_window_bits` that zlib has. It takes 8 for 9, which would break the promise."""


def acceptable_offer(headers: Iterable[str]) -> str | None:
    """The first offer that Tornado answers correctly, in the form to pass to it.

    Args:
        headers: the values of `Sec-WebSocket-Extensions`.
    """
    for offer in ",".join(headers).split(","):
        name, *parameters = (part.strip() for part in offer.split(";"))
        if name.lower() != EXTENSION:
            continue
        found: dict[str, str] = {}
        for parameter in parameters:
            key, _, value = (part.strip().strip('"') for part in parameter.partition("="))
            if key in found:
                break  # a parameter twice: the offer is declined (7.1)
            found[key] = value
        else:
            if (shown := _shown(found)) is not None:
                return shown
    return None


def _shown(parameters: dict[str, str]) -> str | None:
    """The offer without its hints; None if part of it cannot be granted."""
    wanted = {key: value for key, value in parameters.items() if key not in HINTS}
    window = wanted.pop("server_max_window_bits", None)
    hints_are_good = parameters.get("client_no_context_takeover", "") == "" and parameters.get(
        "client_max_window_bits", ""
    ) in WINDOWS | {"", "8"}
    if wanted or not hints_are_good or (window is not None and window not in WINDOWS):
        return None
    return EXTENSION if window is None else f"{EXTENSION}; server_max_window_bits={window}"


class Compression:
    """Limits the number of compressed sockets, each of which takes about 160 KiB.

    Args:
        most: the limit; 0 if compression is off.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.count = 0
        """Sockets that have it now."""

    @property
    def options(self) -> dict[str, Any]:
        """Tornado's options for the lowest use of CPU and memory."""
        return {"compression_level": 1, "mem_level": 4}

    def take(self) -> bool:
        """Take a place. Returns False if none is left."""
        if self.count >= self._most:
            return False
        self.count += 1
        return True

    def give_back(self) -> None:
        """Give a place back, because its socket is closed."""
        self.count -= 1
