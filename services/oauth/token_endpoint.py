"""Calls the token and revocation endpoints of a provider, with requests-oauthlib.

Authorization code (RFC 6749 section 4.1.3, with PKCE, RFC 7636), refresh (section 6), and
revocation (RFC 7009). Every call blocks and runs in a worker thread.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote_plus

import msgspec
import requests
from msgspec import structs
from oauthlib.oauth2 import MissingTokenError, OAuth2Error, WebApplicationClient
from requests.auth import HTTPBasicAuth
from requests_oauthlib import OAuth2Session

from services.oauth.answers import error_code_of
from services.oauth.errors import GrantEnded, ProviderRefused, ProviderUnavailable
from services.oauth.http import bounded, why
from services.secret import Secret
from services.settings.providers import ClientAuth

MAX_TOKEN_LENGTH = 32_768
_PARSE_ERRORS = (
    msgspec.ValidationError,
    ValueError,
    TypeError,
    AttributeError,
    KeyError,
    OverflowError,
    RecursionError,
)
MAX_EXPIRES_IN = 10 * 365 * 86_400
VERIFIER_LENGTH = 64
"""Characters of the PKCE code verifier; RFC 7636 section 4.1 requires 43 to 128."""
INVALID_GRANT_CODES = frozenset(("invalid_grant", "bad_verification_code", "bad_refresh_token"))
"""Error codes of an ended grant: that of RFC 6749 section 5.2, and GitHub's."""
REFUSAL_STATUSES = frozenset(range(400, 500)) - {408, 425, 429}
"""Statuses that count as a refusal. The excluded ones ask the client to retry."""


class Grant(msgspec.Struct, frozen=True):
    """The tokens of a token response.

    Attributes:
        scopes: the granted scopes, separated by spaces; empty if the response has none.
        expires_at: when the access token expires, epoch seconds; None if unknown.
    """

    access_token: Secret
    refresh_token: Secret | None
    id_token: Secret | None
    scopes: str
    expires_at: float | None


class _Answer(msgspec.Struct):
    """The members of a token response that are used (RFC 6749 section 5.1, OIDC Core section
    3.1.3.3)."""

    access_token: str
    token_type: str = "bearer"  # noqa: S105 - a type of tokens
    refresh_token: str | None = None
    id_token: str | None = None
    scope: str | list[str] | None = None
    expires_in: float | None = None


class OAuthClient:
    """A client registered with a provider.

    Args:
        client_id: the registered client id.
        client_secret: the registered client secret.
        redirect_uri: the registered redirect URI.
        clock: epoch seconds.
    """

    def __init__(
        self,
        client_id: str,
        client_secret: Secret,
        redirect_uri: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.client_id, self._secret = client_id, client_secret
        self._redirect_uri, self._clock = redirect_uri, clock
        _quieten_token_logs()

    def now(self) -> float:
        """Epoch seconds."""
        return self._clock()

    def authorization_url(
        self, endpoint: str, scopes: tuple[str, ...], state: str, verifier: str, **more: str
    ) -> str:
        """The URL of an authorization request (RFC 6749 section 4.1.1, RFC 7636 section 4.3)."""
        client = WebApplicationClient(self.client_id)
        session = OAuth2Session(client=client, redirect_uri=self._redirect_uri, scope=list(scopes))
        challenge = client.create_code_challenge(verifier, "S256")
        url, _ = session.authorization_url(
            _as_https(endpoint),
            state=state,
            code_challenge=challenge,
            code_challenge_method="S256",
            **more,
        )
        return endpoint.partition("://")[0] + "://" + str(url).partition("://")[2]

    def exchange(self, endpoint: str, method: ClientAuth, code: str, verifier: str) -> Grant:
        """Exchange an authorization code for tokens.

        Args:
            endpoint: the token endpoint.
            method: client authentication. Only one is tried, as a wrong one may invalidate the
                code.

        Raises:
            GrantEnded: the code has expired, was used, or belongs to another client.
            ProviderUnavailable: no usable response.
        """
        with self._session(endpoint) as session, _translated_errors(session):
            found = session.fetch_token(
                _as_https(endpoint),
                code=code,
                code_verifier=verifier,
                **self._authentication(method),
            )
            return self._grant(found)

    def refresh(self, endpoint: str, method: ClientAuth, refresh_token: Secret) -> Grant:
        """Use a refresh token.

        Returns:
            The new tokens. `refresh_token` is the old one if the response has none.

        Raises:
            GrantEnded: the refresh token has expired or was revoked.
            ProviderUnavailable: no usable response.
        """
        identified = self._authentication(method)
        # The library's `refresh_token` accepts `auth`, and sends other arguments in the form.
        if identified.pop("include_client_id", False):
            identified["client_id"] = self.client_id
        with self._session(endpoint) as session, _translated_errors(session):
            found = session.refresh_token(
                _as_https(endpoint), refresh_token=refresh_token.reveal(), **identified
            )
            grant = self._grant(found)
        return structs.replace(grant, refresh_token=grant.refresh_token or refresh_token)

    def revoke(self, endpoint: str, method: ClientAuth, token: Secret, hint: str) -> None:
        """Revoke a token (RFC 7009 section 2.1).

        Args:
            hint: `token_type_hint`: `access_token` or `refresh_token`.

        Raises:
            ProviderUnavailable: the revocation failed.
        """
        form = {"token": token.reveal(), "token_type_hint": hint}
        identified = self._authentication(method)
        if "auth" not in identified:
            form |= {"client_id": self.client_id, "client_secret": self._secret.reveal()}
        with self._session(endpoint) as session, _translated_errors(session):
            answer = requests.Session.post(
                session, endpoint, data=form, auth=identified.get("auth")
            )
            answer.raise_for_status()

    def basic(self) -> HTTPBasicAuth:
        """Client authentication by header. Both values are form-encoded first (RFC 6749 section
        2.3.1)."""
        return HTTPBasicAuth(quote_plus(self.client_id), quote_plus(self._secret.reveal()))

    def _authentication(self, method: ClientAuth) -> dict[str, Any]:
        if method == "post":
            return {"include_client_id": True, "client_secret": self._secret.reveal()}
        return {"auth": self.basic()}

    @contextmanager
    def _session(self, endpoint: str) -> Iterator[_TokenSession]:
        client = WebApplicationClient(self.client_id)
        session = _TokenSession(endpoint, client=client, redirect_uri=self._redirect_uri)
        with bounded(session):
            yield session

    def _grant(self, found: Any) -> Grant:
        answer = msgspec.convert(dict(found), _Answer)
        if answer.token_type.lower() != "bearer":
            raise ValueError("a token type that is not Bearer")
        scope = answer.scope if isinstance(answer.scope, str) else " ".join(answer.scope or ())
        texts = (answer.access_token, answer.refresh_token or "", answer.id_token or "", scope)
        if not answer.access_token or not all(map(_is_valid_token, texts)):
            raise ValueError("an invalid token")
        lasting = None if answer.expires_in is None else min(answer.expires_in, MAX_EXPIRES_IN)
        return Grant(
            Secret(answer.access_token),
            Secret(answer.refresh_token) if answer.refresh_token else None,
            Secret(answer.id_token) if answer.id_token else None,
            scope.replace(",", " "),  # GitHub separates scopes by commas
            None if lasting is None else self._clock() + max(0.0, lasting),
        )


class _TokenSession(OAuth2Session):
    """A session of the library that sends every request to one endpoint.

    The library accepts https URLs only, unless a process-wide switch allows all. So it is given an
    https URL, and this class sends the request to the real endpoint, which may be http on a
    loopback address. services/oauth/http.py enforces that.

    Attributes:
        status: status of the last response, 0 before the first.
    """

    def __init__(self, endpoint: str, **options: Any) -> None:
        super().__init__(**options)
        self.endpoint, self.status = endpoint, 0

    def request(  # type: ignore[override]  # the library's own adds arguments of its own
        self, method: str, url: str, *, withhold_token: bool = False, **options: Any
    ) -> requests.Response:
        """Send a request to the endpoint, without adding an access token."""
        answer = requests.Session.request(self, method, self.endpoint, **options)
        self.status = answer.status_code
        return answer


@contextmanager
def _translated_errors(session: _TokenSession) -> Iterator[None]:
    """Convert errors of requests and oauthlib to those of `services.oauth.errors`."""
    where = session.endpoint.partition("://")[2].partition("?")[0]
    try:
        yield
    except MissingTokenError as error:  # neither a token nor an error code, or no JSON at all
        raise _unusable_response(where, session.status, "neither a token nor an error") from error
    except OAuth2Error as error:
        word = error_code_of(error.error)
        if word in INVALID_GRANT_CODES:
            raise GrantEnded(where) from error
        raise ProviderRefused(f"{where}: refused: {word}", word) from error
    except requests.RequestException as error:
        raise ProviderUnavailable(f"{where}: {why(error)}") from error
    except _PARSE_ERRORS as error:
        # Raised by the libraries for a response with members of wrong types.
        raise _unusable_response(where, session.status, type(error).__name__) from error


def _unusable_response(where: str, status: int, why_not: str) -> ProviderUnavailable:
    if status in REFUSAL_STATUSES:
        return ProviderRefused(f"{where}: refused: status {status}, no error code", "")
    return ProviderUnavailable(f"{where}: unusable response ({why_not})")


def _is_valid_token(text: str) -> bool:
    """Whether a token consists of printable ASCII characters (RFC 6749 appendix A)."""
    return len(text) <= MAX_TOKEN_LENGTH and text.isascii() and text.isprintable()


def _as_https(url: str) -> str:
    return "https://" + url.partition("://")[2]


def new_verifier() -> str:
    """Generate a PKCE code verifier (RFC 7636 section 4.1)."""
    return str(WebApplicationClient("").create_code_verifier(VERIFIER_LENGTH))


def _quieten_token_logs() -> None:
    # Both log whole responses, with their tokens, at DEBUG.
    for name in ("requests_oauthlib", "oauthlib"):
        logging.getLogger(name).setLevel(logging.INFO)
