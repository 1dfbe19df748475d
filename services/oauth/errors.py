"""Why a sign-in with a provider fails: a reason for the user, and the cause for the log.

UsherError
├── Forbidden
│   └── SignInRefused          403 or what its reason says; a `Reason` in words
│       └── SubjectChanged     a refresh brought tokens of somebody else
├── Conflict
│   └── LastWayIn              409 last_way_in
└── Unavailable
    └── ProviderUnavailable    503 provider_unavailable: no answer, or none of use
        ├── ProviderBusy       too much is waiting for that provider already
        └── ProviderRefused    it answers, and refuses
GrantEnded                     the provider's `invalid_grant`: its session is over
"""

from __future__ import annotations

from enum import Enum
from math import ceil
from typing import NamedTuple

from services.errors import Conflict, Forbidden, Unavailable


class _Words(NamedTuple):
    status: int
    title: str
    advice: str


class Reason(Enum):
    """The message for the user. `{provider}` becomes its title.

    Several causes share one reason where the difference would reveal something: whether
    an address has an account here, say, or what exactly was wrong with an answer.
    """

    DENIED = _Words(
        403,
        "{provider} did not share your account.",
        "You said no there, or it does not let you in here. Nothing was changed. Try again, or "
        "sign in another way.",
    )
    INTERACTION = _Words(
        403,
        "{provider} has to ask you something first.",
        "It did not sign you in by itself. Start again, and sign in or answer what it asks.",
    )
    REFUSED = _Words(
        403,
        "{provider} refused to sign you in.",
        "Try again, or sign in another way. If it happens again, tell whoever runs this server.",
    )
    MISCONFIGURED = _Words(
        503,
        "Signing in with {provider} is not set up rightly.",
        "The trouble is on our side, and trying again does not help. Sign in another way, and tell "
        "whoever runs this server.",
    )
    STALE = _Words(
        400,
        "This sign-in is over.",
        "It took longer than ten minutes, was used before, or began in another browser. "
        "Please start again.",
    )
    UNAVAILABLE = _Words(
        503,
        "{provider} does not answer just now.",
        "Try again in a moment, or sign in another way.",
    )
    NOT_NOW = _Words(
        503,
        "Signing in is not possible just now.",
        "The trouble is on our side. Try again in a moment.",
    )
    UNTRUSTED = _Words(
        403,
        "The answer of {provider} could not be trusted.",
        "You are not signed in. Try again; if it happens again, tell whoever runs this server.",
    )
    NO_EMAIL = _Words(
        403,
        "{provider} shared no e-mail address.",
        "An account here needs one. Let {provider} share yours, or sign up with a password.",
    )
    NO_ACCOUNT = _Words(
        403,
        "There is no account here that {provider} opens.",
        "If you have one already, sign in to it and link {provider} under “Linked accounts”. "
        "If not, ask whoever runs this server; if you were invited, open the link of your "
        "invitation first.",
    )
    INVITATION_REFUSED = _Words(
        403,
        "This invitation is not valid.",
        "It was used, has expired, or is for another address than {provider} has of you. Ask for "
        "a new one.",
    )
    NOT_ALLOWED = _Words(
        403,
        "Your account at {provider} may not sign in here.",
        "Use another account there, or ask whoever runs this server.",
    )
    LINKED_ELSEWHERE = _Words(
        409,
        "This account at {provider} could not be linked.",
        "It may be linked already, or another one of {provider} may be: unlink that one first.",
    )
    NO_SUCH = _Words(
        404,
        "This address leads nowhere.",
        "There is no such provider here, or the link was not whole. Go back and start again.",
    )
    NO_APP = _Words(
        400,
        "This sign-in cannot go back to the app that asked for it.",
        "Nothing was sent to it. Start again in the app; if it happens again, tell "
        "whoever made it.",
    )
    TOO_MANY = _Words(
        429,
        "Too many sign-ins that came to nothing.",
        "Wait an hour, or sign in another way.",
    )
    TOO_OFTEN = _Words(
        429,
        "Too many sign-ins to your account.",
        "You, or a program in your name, signed in very often within this hour. Wait until it is "
        "over. Where you are signed in already, you stay so.",
    )
    SIGNED_OUT = _Words(
        403,
        "You were signed out meanwhile.",
        "Sign in again, then link {provider} once more.",
    )

    @property
    def status(self) -> int:
        return self.value.status

    @property
    def code(self) -> str:
        """The machine word: the member's name in lower case."""
        return self.name.lower()

    def title_for(self, provider: str) -> str:
        """The heading, for a provider called so."""
        return self.value.title.format(provider=provider)

    def advice_for(self, provider: str) -> str:
        """What the user can do."""
        return self.value.advice.format(provider=provider)


class SignInRefused(Forbidden):
    """A sign-in or a linking that came to nothing.

    Args:
        reason: for the user.
        evidence: for the log; no secrets, no e-mail addresses.
        retry_after: seconds after which it may be let through, where a limit refused it.
    """

    def __init__(self, reason: Reason, evidence: str, retry_after: float | None = None) -> None:
        super().__init__(evidence)
        self.reason = reason
        self.retry_after = None if retry_after is None else max(1, ceil(retry_after))
        self.status, self.code = reason.status, reason.code


class SubjectChanged(SignInRefused):
    """A refresh brought tokens of somebody else (OIDC Core section 12.2)."""

    def __init__(self) -> None:
        super().__init__(Reason.UNTRUSTED, "refresh: tokens of somebody else")


class LastWayIn(Conflict):
    """Without it nobody could sign in to the account any more."""

    code, title = "last_way_in", "This is the only way into your account. Add another one first."


class ProviderUnavailable(Unavailable):
    """No answer in time, an answer that can't be used, or a fault of the provider's own."""

    code, title = "provider_unavailable", "The provider does not answer just now."


class ProviderBusy(ProviderUnavailable):
    """Too many calls wait for this provider already."""


class ProviderRefused(ProviderUnavailable):
    """The token endpoint answers, and refuses.

    Args:
        word: its error code, "" where it gives none.
    """

    def __init__(self, evidence: str, word: str) -> None:
        super().__init__(evidence)
        self.word = word


class GrantEnded(Exception):
    """The provider says `invalid_grant` (RFC 6749 section 5.2): code or refresh token is over."""
