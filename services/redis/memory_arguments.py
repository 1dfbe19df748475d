"""Reads the arguments of commands as strictly as Redis does, for the store in memory."""

from __future__ import annotations

import math
import re

INT64 = 2**63
_INTEGER = re.compile(rb"-?[1-9][0-9]{0,18}|0")
_FLOAT = re.compile(
    rb"[+-]?([0-9]+\.?[0-9]*(e[+-]?[0-9]+)?|\.[0-9]+(e[+-]?[0-9]+)?|inf)", re.IGNORECASE
)


class ReplyError(Exception):
    """An error reply; its text is Redis' error word."""


def packed_argument(part: object) -> bytes:
    """An argument as hiredis encodes it, with the same errors."""
    kind = type(part)
    if kind is bytes:
        return part  # type: ignore[return-value]
    if kind is str or kind is int or kind is float:
        return str(part).encode()
    raise TypeError("an argument must be str, bytes, int or float")


def integer(text: bytes) -> int:
    """A whole number, as strictly as Redis reads one."""
    # As strict as Redis: no sign plus, no spaces, no leading zeros, 64 bits.
    if not _INTEGER.fullmatch(text) or not -INT64 <= int(text) < INT64:
        raise ReplyError("ERR")
    return int(text)


def score_of(text: bytes) -> float:
    """A score of a sorted set, as Redis reads one."""
    if not _FLOAT.fullmatch(text):
        raise ReplyError("ERR")
    score = float(text)
    if math.isinf(score) and b"inf" not in text.lower():
        raise ReplyError("ERR")
    return score


def score_text(score: float) -> bytes:
    """A score as Redis writes it."""
    return b"%.17g" % score


def bound(text: bytes) -> tuple[float, bool]:
    """A bound of a range, and whether it is exclusive, as in `(5`."""
    return score_of(text.removeprefix(b"(")), text.startswith(b"(")


def pairs_of(parts: tuple[bytes, ...]) -> list[tuple[bytes, bytes]]:
    """Arguments two by two."""
    if len(parts) % 2:
        raise ReplyError("ERR")
    return list(zip(parts[::2], parts[1::2], strict=True))


def set_options(options: tuple[bytes, ...]) -> tuple[bool, bool, int | None]:
    """The options of SET: whether NX, whether GET, and the expiry in milliseconds."""
    only_new, with_old, milliseconds, rest = False, False, None, list(options)
    while rest:
        option = rest.pop(0).upper()
        if option == b"NX" and not with_old:
            only_new = True
        elif option == b"GET" and not only_new:  # both together are of Redis 7
            with_old = True
        elif option in (b"EX", b"PX") and rest and milliseconds is None:
            milliseconds = integer(rest.pop(0)) * (1000 if option == b"EX" else 1)
            if not 0 < milliseconds < INT64 // 2:
                raise ReplyError("ERR")
        else:
            raise ReplyError("ERR")
    return only_new, with_old, milliseconds


def range_options(options: tuple[bytes, ...]) -> tuple[bool, int, int]:
    """The options of ZRANGEBYSCORE: whether WITHSCORES, and the offset and count of LIMIT."""
    with_scores, offset, count, rest = False, 0, -1, list(options)
    while rest:
        option = rest.pop(0).upper()
        if option == b"WITHSCORES":
            with_scores = True
        elif option == b"LIMIT" and len(rest) >= 2:
            offset, count = integer(rest.pop(0)), integer(rest.pop(0))
        else:
            raise ReplyError("ERR")
    return with_scores, offset, count
