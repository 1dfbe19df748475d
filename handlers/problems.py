"""RFC 9457 problem documents."""

from __future__ import annotations

from services.errors import UsherError
from services.protocol import encode_json

PROBLEM_TYPE = "application/problem+json"


def problem_body(error: UsherError) -> bytes:
    """What the client may know of an error."""
    return encode_json(
        {"status": error.status, "title": error.title, "code": error.code, **error.public}
    )
