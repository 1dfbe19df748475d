"""A string that is never shown: passwords, keys, tokens, URLs with a password in them."""

from __future__ import annotations

import hmac
from typing import NoReturn

MASK = "********"


class Secret:
    """Holds one secret and shows a mask wherever it is printed, logged or formatted.

    Only `reveal()` gives the value, so every place that uses it can be searched for. It is
    deliberately neither a `str` nor a dataclass: `json`, `msgspec` and `pickle` refuse it
    instead of writing the value out (OWASP ASVS 7.1.1: no credentials in logs).

    Args:
        value: the secret text.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The secret itself. Hand it to the library that needs it, never to a log."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({MASK})"

    def __str__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return MASK

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        """Compared in constant time, so that timing does not give the value away."""
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(_bytes(self._value), _bytes(other._value))

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __reduce__(self) -> NoReturn:
        # Pickle and copy would write or duplicate the bare value.
        raise TypeError("a Secret is not serialised")


def _bytes(value: str) -> bytes:
    # Lone surrogates arrive from the environment (os.fsdecode) and must not raise here.
    return value.encode("utf-8", "surrogatepass")
