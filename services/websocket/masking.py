"""The masking of RFC 6455 section 5.3 in Python, where Tornado has no C extension for it."""

from __future__ import annotations


def mask_by_integer(mask: bytes, data: bytes) -> bytes:
    """XOR data with a mask of four bytes, as one big integer: no loop in Python."""
    length = len(data)
    whole = (mask * ((length >> 2) + 1))[:length]
    xored = int.from_bytes(data, "little") ^ int.from_bytes(whole, "little")
    return xored.to_bytes(length, "little")
