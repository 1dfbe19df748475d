"""RFC 9457 problem documents."""

from __future__ import annotations

import msgspec

from services.errors import UsherError
from services.websocket.protocol import encode_json

PROBLEM_TYPE = "application/problem+json"


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """`code`: a machine word. `title`: a sentence for people. `detail`, `field`: what of the
    request does not fit. `suggestions`, `warning`: how a password gets better. `error`: what
    a provider reads (RFC 6749 section 5.2). `challenge`: of a sign-in, to be presented with the
    second factor. `methods`: by which a user can prove who they are."""

    status: int
    title: str
    code: str
    detail: str = ""
    field: str = ""
    suggestions: tuple[str, ...] = ()
    warning: str = ""
    error: str = ""
    challenge: str = ""
    methods: tuple[str, ...] = ()


def problem_body(error: UsherError) -> bytes:
    """The part of an error that is shown to the client."""
    return encode_json(
        {"status": error.status, "title": error.title, "code": error.code, **error.public}
    )
