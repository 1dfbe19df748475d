"""The authorization request of a native app, and the redirect URIs that are allowed.

The response contains a code, so it is sent only to loopback addresses (RFC 8252 section 7.3) or to
a URI that the administrator has listed. Errors in the rest of a request are also sent there
(RFC 6749 section 4.1.2.1).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import msgspec

from services.errors import BadRequest, NotFound, RateLimited, Unavailable, UsherError

CLIENT = "native"
METHOD = "S256"
MAX_URI_LENGTH, MAX_STATE_LENGTH = 400, 256
"""Characters. Requests under way at a provider lie in cookies, five at most, which have to fit into
the headers of a request."""
ANSWERED = frozenset(("code", "state", "iss", "error", "error_description"))
"""What an answer says, and a redirect URI must not say already."""

_LOOPBACK = re.compile(
    r"http://(?:127\.0\.0\.1|\[::1\])(?::(?P<port>[1-9][0-9]{0,4}))?"
    r"(?:/(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*)?"
    r"(?:\?(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*)?"
)
"""Not by a name: what `localhost` means is for the machine's resolver to say (section 8.3)."""
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")
"""A SHA-256 in base64url without padding (RFC 7636 section 4.2)."""
_STATE = re.compile(r"[\x20-\x7e]*")
"""RFC 6749 appendix A.5."""


class NativeRequest(msgspec.Struct, frozen=True):
    """A valid request.

    Attributes:
        redirect_uri: the redirect URI of the response.
        state: returned unchanged; None if there is none.
        challenge: the `code_challenge`, with method S256.
    """

    redirect_uri: str
    state: str | None
    challenge: str


class RedirectRefused(BadRequest):
    """The redirect URI is not allowed, so not even an error may be sent there."""


class RequestRefused(BadRequest):
    """The redirect URI is allowed, but another parameter is invalid.

    Args:
        evidence: for the log; it quotes nothing of the request.
        request: the request as far as it is valid, for the response.
        word: an error code of RFC 6749 section 4.1.2.1.
        detail: the invalid parameter.
    """

    def __init__(
        self, evidence: str, request: NativeRequest, word: str = "invalid_request", detail: str = ""
    ) -> None:
        super().__init__(evidence, detail=detail)
        self.request, self.word = request, word


def read_request(given: Mapping[str, Sequence[str]], listed: Sequence[str]) -> NativeRequest:
    """Parse the request from a query. Each parameter may occur only once.

    Args:
        given: the values of each parameter.
        listed: NATIVE_REDIRECT_URIS.

    Raises:
        RedirectRefused: the redirect URI is not allowed; show the error to the user only.
        RequestRefused: another parameter is invalid; send the error to the app.
    """
    uris = given.get("redirect_uri", ())
    if len(uris) != 1 or not may_be_answered(uris[0], listed):
        raise RedirectRefused(
            "native sign-in: no redirect URI of this installation",
            detail="redirect_uri: http://127.0.0.1 or http://[::1] with any port and path, or one "
            "of NATIVE_REDIRECT_URIS",
        )
    states = given.get("state", ())
    state = states[0] if len(states) == 1 and _is_state(states[0]) else None
    request = NativeRequest(uris[0], state, "".join(given.get("code_challenge", ())))
    if states and state is None:
        takes = f"one, of at most {MAX_STATE_LENGTH} printable ASCII characters"
        raise _refused(request, "state", takes)
    _check(given, request)
    return request


def _check(given: Mapping[str, Sequence[str]], request: NativeRequest) -> None:
    """Check the parameters whose errors are sent to the app."""
    for name, values in given.items():
        if len(values) > 1:
            raise _refused(request, name if name in _OURS else "a parameter", "once")
    if list(given.get("response_type", ("code",))) != ["code"]:
        raise _refused(request, "response_type", "code", "unsupported_response_type")
    if list(given.get("code_challenge_method", ())) != [METHOD]:
        raise _refused(request, "code_challenge_method", METHOD)
    if not _CHALLENGE.fullmatch(request.challenge):
        raise _refused(request, "code_challenge", "43 characters of base64url")


def _refused(
    request: NativeRequest, name: str, takes: str, word: str = "invalid_request"
) -> RequestRefused:
    return RequestRefused(f"native sign-in: {name}", request, word, f"{name}: {takes}")


_OURS = frozenset(
    ("client", "code_challenge", "code_challenge_method", "redirect_uri", "response_type", "state")
)


def may_be_answered(uri: str, listed: Sequence[str]) -> bool:
    """Whether a code may be sent to a redirect URI."""
    if len(uri) > MAX_URI_LENGTH:
        return False
    if uri in listed:
        return True
    match = _LOOPBACK.fullmatch(uri)
    if match is None or int(match["port"] or 1) > 65_535:
        return False
    return ANSWERED.isdisjoint(parse_qs(urlsplit(uri).query, keep_blank_values=True))


def answer_url(request: NativeRequest, issuer: str, **said: str) -> str:
    """The URL of a response: the redirect URI with `code` or `error`, `state` and `iss`
    (RFC 6749 section 4.1.2, RFC 9207)."""
    members = {**said, **({} if request.state is None else {"state": request.state})}
    query = urlencode({**members, "iss": issuer}, quote_via=quote)
    return f"{request.redirect_uri}{'&' if '?' in request.redirect_uri else '?'}{query}"


def refusal_url(request: NativeRequest, issuer: str, error: UsherError) -> str:
    """The URL of an error response. `error_description` is our own error code."""
    word = error.word if isinstance(error, RequestRefused) else _WORDS.get(error.code)
    return answer_url(request, issuer, error=word or _word_of(error), error_description=error.code)


def _word_of(error: UsherError) -> str:
    if isinstance(error, Unavailable | RateLimited):
        return "temporarily_unavailable"
    if isinstance(error, BadRequest | NotFound):
        return "invalid_request"
    return "server_error" if error.status >= 500 else "access_denied"


_WORDS = MappingProxyType(
    {
        "unavailable": "temporarily_unavailable",
        "not_now": "temporarily_unavailable",
        "too_many": "temporarily_unavailable",
        "stale": "access_denied",
    }
)
"""By our word, where the status does not say it: sign-ins that a provider ended have many."""


def shown_target(redirect_uri: str) -> str:
    """The part of the redirect URI shown to the user: host and port, or the app's scheme."""
    parts = urlsplit(redirect_uri)
    return parts.netloc or parts.scheme


def is_on_this_machine(redirect_uri: str) -> bool:
    """Whether it is a loopback address, where any program of this machine may listen."""
    return _LOOPBACK.fullmatch(redirect_uri) is not None


def _is_state(text: str) -> bool:
    return 0 < len(text) <= MAX_STATE_LENGTH and _STATE.fullmatch(text) is not None
