"""Error responses of a provider (RFC 6749 section 4.1.2.1, OIDC Core section 3.1.2.6).

Says whom each of them concerns: the user, the provider, or the administrator.
"""

from __future__ import annotations

import re
from types import MappingProxyType

from services.oauth.errors import ProviderUnavailable, Reason, SignInRefused

_WORD = re.compile(r"[A-Za-z0-9_.-]{1,64}")
MISCONFIGURED = frozenset(
    (
        "application_suspended",
        "invalid_client",
        "invalid_redirect_uri",
        "invalid_request",
        "invalid_request_object",
        "invalid_request_uri",
        "invalid_scope",
        "redirect_uri_mismatch",
        "registration_not_supported",
        "request_not_supported",
        "request_uri_not_supported",
        "unauthorized_client",
        "unsupported_response_type",
    )
)
"""What whoever set up this server, or the client at the provider, has to mend. Two are GitHub's."""
_REASONS = MappingProxyType(
    {
        # LemonLDAP::NG sends the second instead of the first when a user refuses consent.
        "access_denied": Reason.DENIED,
        "consent_required": Reason.DENIED,
        "account_selection_required": Reason.INTERACTION,
        "interaction_required": Reason.INTERACTION,
        "login_required": Reason.INTERACTION,
        **dict.fromkeys(MISCONFIGURED, Reason.MISCONFIGURED),
    }
)
_UNAVAILABLE = frozenset(("temporarily_unavailable", "server_error"))


def error_word(text: object) -> str:
    """A provider's error code for the log, as far as it is one: anybody can send an answer."""
    return text if isinstance(text, str) and _WORD.fullmatch(text) else "unknown"


def refuse(error: str) -> None:
    """Refuse what a provider answered with this error.

    Raises:
        ProviderUnavailable: it says that it is.
        SignInRefused: with the reason that its word stands for.
    """
    said = f"callback: {error_word(error)}"
    if error in _UNAVAILABLE:
        raise ProviderUnavailable(said)
    raise SignInRefused(reason_of(error), said)


def reason_of(error: str) -> Reason:
    """The message for an error code of the callback or of the token endpoint."""
    return _REASONS.get(error, Reason.REFUSED)
