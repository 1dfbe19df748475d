"""The interface that every provider implements."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from services.oauth.id_tokens import LogoutToken
from services.oauth.token_endpoint import Grant
from services.oauth.userinfo import ProviderProfile
from services.secret import Secret
from services.settings.providers import OAuthProvider


class RequestBinding(NamedTuple):
    """The values that bind an authorization response to its request.

    Attributes:
        state: `state` (RFC 6749 section 10.12).
        nonce: `nonce` of the ID token (OIDC Core section 3.1.2.1).
        verifier: the PKCE code verifier (RFC 7636 section 4.1).
    """

    state: str
    nonce: str
    verifier: str


class Provider(Protocol):
    """An OAuth or OIDC provider. Every method blocks.

    Raises:
        ProviderUnavailable: by every method, if there is no usable response.
    """

    settings: OAuthProvider

    @property
    def title(self) -> str:
        """The provider's name on its button."""

    def check(self) -> None:
        """Call the provider, to find out whether it answers."""

    def authorization_url(self, start: RequestBinding, prompt: str | None) -> str:
        """The URL of the authorization request. `prompt`: "login" requests reauthentication."""

    def check_issuer(self, issuer: str | None) -> None:
        """Check `iss` of the authorization response (RFC 9207 section 2.4).

        Raises:
            SignInRefused: it is another provider's, or is missing although the provider always
                sends it.
        """

    def exchange(self, code: str, start: RequestBinding) -> tuple[ProviderProfile, Grant]:
        """Exchange an authorization code. Returns the user's profile and the tokens.

        Raises:
            SignInRefused: the response is not valid.
            GrantEnded: the code has expired or was used.
        """

    def refresh(self, refresh_token: Secret, subject: str) -> Grant:
        """Refresh the tokens of this subject.

        The new refresh token may be usable only once. Store it before `check_refreshed`.

        Raises:
            GrantEnded: the grant has ended (`invalid_grant`).
            ProviderRefused: the provider responds with another error.
            SubjectChanged: the new tokens are another user's.
        """

    def check_refreshed(self, grant: Grant) -> None:
        """Verify the ID token of a refresh, if there is one.

        Raises:
            SignInRefused: it is not valid, or not yet: the key may be new, or a clock be wrong.
        """

    def revoke(self, grant: Grant) -> bool:
        """Revoke the tokens at the provider. Returns False if it has no revocation endpoint."""

    def logout_token(self, token: str) -> LogoutToken | None:
        """Verify a logout token. Returns None if the provider does not support them.

        Raises:
            SignInRefused: it is not valid.
        """

    def end_session_url(self, id_token: Secret | None, back_to: str) -> str | None:
        """The URL of the logout request at the provider (OIDC RP-Initiated Logout), or None."""


MAX_TEXT = 1000
"""Characters of a name or an address that are read: more than either may have."""


def text_of(value: object) -> str:
    """A member of a response that should be a string; "" if it is not one."""
    return value[:MAX_TEXT].strip() if isinstance(value, str) else ""
