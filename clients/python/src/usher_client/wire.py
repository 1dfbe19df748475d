"""The protocol: limits, close codes, frames. It does no I/O."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, get_args

from usher_client.errors import (
    BY_CODE,
    ConnectionEnded,
    End,
    Misuse,
    Refused,
    Retry,
    SignInNeeded,
    TooBig,
    UsherError,
)

PROTOCOL = "usher.v1"
MAX_FRAME_BYTES = 64 * 1024
"""The largest frame that the server accepts."""
MAX_RECEIVED_BYTES = 1024 * 1024
"""The largest frame that is accepted from the server, which adds members to a message."""
LONGEST_PAUSE_SECONDS = 3600.0

RETRY: Mapping[int, Retry] = {
    1009: "never",
    4400: "never",
    4401: "login",
    4403: "never",
    4409: "never",
    4410: "login",
    4419: "refresh",
}
"""The retry class of each of Usher's close codes. Any other code comes from something in between,
or means a lost connection: back-off."""

_ENDS: Mapping[str, tuple[int, str]] = {
    "misuse": (4400, "misuse"),
    "bad_request": (4400, "bad_request"),
    "unauthenticated": (4401, "unauthenticated"),
    "token_expired": (4401, "unauthenticated"),  # of a refresh: it cannot be refreshed
    "forbidden": (4403, "forbidden"),
    "origin_refused": (4403, "forbidden"),
    "identity_mismatch": (4401, "identity_mismatch"),
    "rate_limited": (4429, "rate_limited"),
    "unavailable": (4503, "unavailable"),
}


def retry_of(end: End) -> Retry:
    """The retry class sent by the server, or that of the close code."""
    return end.retry or RETRY.get(end.code, "backoff")


def end_of(error: UsherError) -> End:
    """Convert an error of getting a credential to the end that Usher would have sent.

    Only a response of Usher may end a client; a proxy's 404 during a deployment may not.
    """
    after = error.retry_after or 0.0
    if (known := _ENDS.get(error.code)) is not None:
        return End(*known, after=after)
    if error.status is not None:
        return End(4503, "unavailable", after=after)
    return End(1006, "unreachable")


def error_of(end: End) -> UsherError:
    """The error for the end of a connection."""
    if retry_of(end) in {"login", "refresh"}:
        return SignInNeeded(f"the login session has ended: {end.reason}", code=end.reason, end=end)
    if end.reason == "misuse":
        return Misuse("the credential cannot be used", end=end)
    return ConnectionEnded(f"the connection has ended: {end.code} {end.reason}", end=end)


def refusal(code: object, message: object, **more: Any) -> Refused:
    """The error of a response of Usher."""
    word = code if isinstance(code, str) else "unknown"
    said = message if isinstance(message, str) else ""
    return BY_CODE.get(word, Refused)(said, code=word, **more)


def encode(event: str, data: object, frame_id: int | None) -> str:
    """A frame as text.

    Raises:
        Misuse: the data cannot be encoded as JSON.
        TooBig: it is larger than the server accepts.
    """
    frame: dict[str, object] = {"event": event}
    if frame_id is not None:
        frame["id"] = frame_id
    if data is not None:
        frame["data"] = data
    try:
        text = json.dumps(frame, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        size = len(text.encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise Misuse(
            f"data of {event} cannot be encoded as JSON: {type(error).__name__}"
        ) from error
    if size > MAX_FRAME_BYTES:
        raise TooBig(f"{size} bytes; a frame has at most {MAX_FRAME_BYTES}")
    return text


def decode(text: str | bytes) -> dict[str, Any] | None:
    """Parse a frame of the server; None if it is invalid."""
    if not isinstance(text, str):
        return None
    try:
        frame = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(frame, dict) and isinstance(frame.get("event"), str):
        return frame
    return None


def seconds(value: object) -> float:
    """A pause that the server requests, bounded; 0 if it is not a number."""
    return min(max(number(value) or 0.0, 0.0), LONGEST_PAUSE_SECONDS)


def number(value: object) -> float | None:
    """A JSON number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:  # an int of hundreds of digits
        return None
    return found if math.isfinite(found) else None


def closing(data: object) -> dict[str, Any]:
    """The members of End that the event `closing` announces."""
    if not isinstance(data, dict):
        return {}
    said: dict[str, Any] = {"after": seconds(data.get("after"))}
    if isinstance(code := data.get("code"), int) and not isinstance(code, bool):
        said["code"] = code
    if isinstance(reason := data.get("reason"), str):
        said["reason"] = reason
    if data.get("retry") in get_args(Retry):
        said["retry"] = data["retry"]
    return said
