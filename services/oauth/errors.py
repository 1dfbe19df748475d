"""Errors of a sign-in with a provider. Each has a reason for the user and evidence for the log.

UsherError
├── Forbidden
│   └── SignInRefused          status of its `Reason`, mostly 403
│       └── SubjectChanged     a refresh returned tokens of another user
├── Conflict
│   └── LastWayIn              409 last_way_in
└── Unavailable
    └── ProviderUnavailable    503 provider_unavailable: no response, or an unusable one
        ├── ProviderBusy       too many calls are waiting for the provider
        └── ProviderRefused    the token endpoint responds with an error
GrantEnded                     the provider's `invalid_grant`: the grant has ended
"""

from __future__ import annotations

from enum import Enum
from math import ceil
from typing import NamedTuple

from services.errors import Conflict, Forbidden, Unavailable


class _Message(NamedTuple):
    status: int
    title: str
    advice: str


class Reason(Enum):
    """The message for the user. `{provider}` stands for the provider's title.

    Several causes share a reason if the difference would reveal something, such as whether an
    address has an account here, or which check of a response failed.
    """

    DENIED = _Message(
        403,
        "{provider} did not share your account.",
        "You declined, or {provider} does not allow you to use this app. Nothing was changed. Try "
        "again, or sign in another way.",
    )
    INTERACTION = _Message(
        403,
        "{provider} needs your input first.",
        "You could not be signed in automatically. Start again, then sign in or answer its "
        "questions.",
    )
    REFUSED = _Message(
        403,
        "{provider} refused to sign you in.",
        "Try again, or sign in another way. If it happens again, tell your administrator.",
    )
    MISCONFIGURED = _Message(
        503,
        "Signing in with {provider} is not set up correctly.",
        "The problem is on our side, and trying again does not help. Sign in another way, and tell "
        "your administrator.",
    )
    STALE = _Message(
        400,
        "This sign-in has expired.",
        "It took longer than ten minutes, was already completed, or was started in another "
        "browser. Please start again.",
    )
    UNAVAILABLE = _Message(
        503,
        "{provider} is not responding.",
        "Try again in a moment, or sign in another way.",
    )
    NOT_NOW = _Message(
        503,
        "Signing in is not possible at the moment.",
        "The problem is on our side. Try again in a moment.",
    )
    UNTRUSTED = _Message(
        403,
        "The response of {provider} could not be verified.",
        "You are not signed in. Try again. If it happens again, tell your administrator.",
    )
    NO_EMAIL = _Message(
        403,
        "{provider} did not share an e-mail address.",
        "An account here needs one. Allow {provider} to share yours, or sign up with a password.",
    )
    NO_ACCOUNT = _Message(
        403,
        "There is no account here for your {provider} account.",
        "If you already have an account, sign in to it and link {provider} under “Linked "
        "accounts”. If not, ask your administrator. If you were invited, open the link of your "
        "invitation first.",
    )
    INVITATION_REFUSED = _Message(
        403,
        "This invitation is not valid.",
        "It was used, has expired, or is for an address other than the one that {provider} has for "
        "you. Ask for a new one.",
    )
    NOT_ALLOWED = _Message(
        403,
        "Your account at {provider} may not sign in here.",
        "Use another account there, or ask your administrator.",
    )
    EMAIL_UNVERIFIED = _Message(
        403,
        "Your e-mail address has to be confirmed first.",
        "{provider} does not vouch for it. If you have an account here, choose “Forgotten "
        "password?” to confirm it. If not, sign up with a password.",
    )
    LINKED_ELSEWHERE = _Message(
        409,
        "This account at {provider} could not be linked.",
        "It may already be linked to an account, or another account at {provider} may be linked to "
        "yours. Unlink that one first.",
    )
    NO_SUCH = _Message(
        404,
        "This page does not exist.",
        "The provider is unknown, or the link is incomplete. Go back and start again.",
    )
    NO_APP = _Message(
        400,
        "This sign-in cannot go back to the app that asked for it.",
        "Nothing was sent to it. Start again in the app. If it happens again, tell the maker of "
        "the app.",
    )
    TOO_MANY = _Message(
        429,
        "Too many failed sign-ins.",
        "Wait an hour, or sign in another way.",
    )
    TOO_OFTEN = _Message(
        429,
        "Too many sign-ins to your account.",
        "You, or a program on your behalf, signed in too often within the last hour. Try again "
        "later. Sessions that are already signed in stay signed in.",
    )
    SIGNED_OUT = _Message(
        403,
        "You have been signed out in the meantime.",
        "Sign in again, then link {provider} again.",
    )

    @property
    def status(self) -> int:
        return self.value.status

    @property
    def code(self) -> str:
        """The machine-readable code: the member's name in lower case."""
        return self.name.lower()

    def title_for(self, provider: str) -> str:
        """The heading, with the provider's title."""
        return self.value.title.format(provider=provider)

    def advice_for(self, provider: str) -> str:
        """What the user can do, with the provider's title."""
        return self.value.advice.format(provider=provider)


class SignInRefused(Forbidden):
    """A sign-in, or the linking of a provider, was refused.

    Args:
        reason: the message for the user.
        evidence: the cause, for the log; without secrets or e-mail addresses.
        retry_after: seconds until a retry may succeed, if a rate limit refused it.
    """

    def __init__(self, reason: Reason, evidence: str, retry_after: float | None = None) -> None:
        super().__init__(evidence)
        self.reason = reason
        self.retry_after = None if retry_after is None else max(1, ceil(retry_after))
        self.status, self.code = reason.status, reason.code


class SubjectChanged(SignInRefused):
    """A refresh returned an ID token with another `sub` (OIDC Core section 12.2)."""

    def __init__(self) -> None:
        super().__init__(Reason.UNTRUSTED, "refresh: tokens of another user")


class LastWayIn(Conflict):
    """The last sign-in method of an account cannot be removed."""

    code, title = (
        "last_way_in",
        "This is the only way to sign in to your account. Add another one first.",
    )


class ProviderUnavailable(Unavailable):
    """No response in time, an unusable response, or a server error of the provider."""

    code, title = "provider_unavailable", "The provider is not responding."


class ProviderBusy(ProviderUnavailable):
    """Too many calls are waiting for this provider."""


class ProviderRefused(ProviderUnavailable):
    """The token endpoint responds with an error.

    Args:
        error_code: the code (RFC 6749 section 5.2), "" if there is none.
    """

    def __init__(self, evidence: str, error_code: str) -> None:
        super().__init__(evidence)
        self.error_code = error_code


class GrantEnded(Exception):
    """The provider responds with `invalid_grant` (RFC 6749 section 5.2).

    The authorization code or refresh token has expired, was used, or was revoked.
    """
