"""What can be wrong with the tests' GitHub: every switch by its name, with its meaning."""

from __future__ import annotations

from collections.abc import Mapping

from tests.support.faults import TRANSPORT_FAULTS

TOKEN_ERRORS: Mapping[str, str] = {
    "bad_verification_code": "The code passed is incorrect or expired.",
    "incorrect_client_credentials": "The client_id and/or client_secret passed are incorrect.",
    "redirect_uri_mismatch": (
        "The redirect_uri MUST match the registered callback URL for this application."
    ),
    "unverified_user_email": "The user must have a verified primary email.",
}
REFRESH_ERRORS: Mapping[str, str] = {
    "bad_refresh_token": "The refresh token passed is incorrect or expired.",
    "unauthorized_client": "The client is not authorized to request a refresh.",
    "incorrect_client_credentials": TOKEN_ERRORS["incorrect_client_credentials"],
}
SAID: Mapping[str, str] = {**TOKEN_ERRORS, **REFRESH_ERRORS}
"""error_description by error, as the documentation quotes it."""

GITHUB_FAULTS: Mapping[str, Mapping[str, str]] = {
    "authorize": {
        "access_denied": "the person says no",
        "application_suspended": "GitHub does",
        "state_missing": "the answer has no state",
        "state_wrong": "the state of somebody else",
        "iss_wrong": "the iss of another provider (mix-up)",
        "code_wrong": "a code that was never given out",
    },
    "token": {
        **TRANSPORT_FAULTS,
        **TOKEN_ERRORS,
        "wrong_types": "every member of a type that it must not have",
        "no_access_token": "an empty object",
    },
    "refresh": {**TRANSPORT_FAULTS, **REFRESH_ERRORS},
    "user": {
        **TRANSPORT_FAULTS,
        "id_missing": "no id",
        "id_not_number": "an object as id",
        "rate_limited": "403, the quota used up",
    },
    "emails": {
        **TRANSPORT_FAULTS,
        "not_found": "404, as without the scope user:email",
        "rate_limited": "403, the quota used up",
        "wrong_types": "a list, but of strings",
    },
    "revoke": {**TRANSPORT_FAULTS, "not_found": "404, as for a token that is gone"},
}
"""Place to its faults and what they mean or say. `revoke` is both DELETE calls."""
