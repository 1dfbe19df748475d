"""The interface of a provider."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from services.oauth.id_tokens import LogoutToken
from services.oauth.token_endpoint import Grant
from services.oauth.userinfo import ProviderProfile
from services.secret import Secret
from services.settings.providers import OAuthProvider


class Start(NamedTuple):
    """What a sign-in begins with: values that its answer has to match."""

    state: str
    nonce: str
    verifier: str


class Provider(Protocol):
    """What the flow asks of a provider. Every method but `title` blocks.

    Raises of them all:
        ProviderUnavailable: no answer of use.
    """

    settings: OAuthProvider

    @property
    def title(self) -> str:
        """On its button."""

    def authorization_url(self, start: Start, prompt: str | None) -> str:
        """Where the browser goes. `prompt`: "login" asks for a fresh sign-in there."""

    def check_issuer(self, issuer: str | None) -> None:
        """Refuse an answer that another provider gave (RFC 9207 section 2.4).

        Raises:
            SignInRefused: it names another, or none where it always does.
        """

    def exchange(self, code: str, start: Start) -> tuple[ProviderProfile, Grant]:
        """Who signed in, and what they gave us.

        Raises:
            SignInRefused: the answer is not to be trusted.
            GrantEnded: the code is over.
        """

    def refresh(self, refresh_token: Secret, subject: str) -> Grant:
        """New tokens of this subject. They may be good only once, so keep them before
        `check_refreshed`.

        Raises:
            GrantEnded: the provider's session is over.
            ProviderRefused: it refuses, and does not say that it is over.
            SubjectChanged: they are somebody else's.
        """

    def check_refreshed(self, grant: Grant) -> None:
        """Check the ID token that came with refreshed tokens, if one did.

        Raises:
            SignInRefused: it is not to be trusted, or can't be checked yet: a new key, a clock.
        """

    def revoke(self, grant: Grant) -> bool:
        """Give the tokens back. Gives whether the provider takes them: else nothing is sent."""

    def logout_token(self, token: str) -> LogoutToken | None:
        """A checked logout token; None where the provider has none.

        Raises:
            SignInRefused: it is not to be trusted.
        """

    def end_session_url(self, id_token: Secret | None, back_to: str) -> str | None:
        """Where the browser ends the provider's own session (OIDC RP-Initiated Logout)."""


MAX_TEXT = 1000
"""Characters of a name or an address that are looked at: more than either may have."""


def text_of(value: object) -> str:
    """A member of an answer that should be a text; "" for whatever else it is."""
    return value[:MAX_TEXT].strip() if isinstance(value, str) else ""
