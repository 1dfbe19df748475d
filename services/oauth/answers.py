"""Error responses of a provider (RFC 6749 section 4.1.2.1, OIDC Core section 3.1.2.6).

Maps each error code to a `Reason`, so that the message addresses the user or the administrator.
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
"""Errors that an administrator has to fix, here or in the client's registration at the provider.
`application_suspended` and `redirect_uri_mismatch` are GitHub's."""
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


def error_code_of(text: object) -> str:
    """A provider's error code, for the log. Returns "unknown" for anything that is not one, as
    anybody can call the callback."""
    return text if isinstance(text, str) and _WORD.fullmatch(text) else "unknown"


def refuse(error: str) -> None:
    """Raise the exception for an error response at the callback.

    Raises:
        ProviderUnavailable: the provider reports that it is unavailable.
        SignInRefused: any other error, with the reason for its code.
    """
    evidence = f"callback: {error_code_of(error)}"
    if error in _UNAVAILABLE:
        raise ProviderUnavailable(evidence)
    raise SignInRefused(reason_of(error), evidence)


def reason_of(error: str) -> Reason:
    """The reason for an error code of the authorization or token endpoint."""
    return _REASONS.get(error, Reason.REFUSED)
