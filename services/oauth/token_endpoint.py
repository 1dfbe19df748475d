"""The token endpoint of a provider, by requests-oauthlib.

Authorization code (RFC 6749 section 4.1.3, with PKCE, RFC 7636), refresh (section 6), and
revocation (RFC 7009). Everything here blocks and runs in a worker thread.
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

from services.oauth.answers import error_word
from services.oauth.errors import GrantEnded, ProviderRefused, ProviderUnavailable
from services.oauth.http import bounded, why
from services.secret import Secret
from services.settings.providers import ClientAuth

MAX_TOKEN_LENGTH = 32_768
_UNREADABLE = (
    msgspec.ValidationError,
    ValueError,
    TypeError,
    AttributeError,
    KeyError,
    OverflowError,
    RecursionError,
)
MOST_SECONDS = 10 * 365 * 86_400
VERIFIER_LENGTH = 64
"""Characters of the PKCE verifier; RFC 7636 section 4.1 wants 43 to 128."""
ENDED = frozenset(("invalid_grant", "bad_verification_code", "bad_refresh_token"))
"""RFC 6749 section 5.2, and GitHub's own words for the same."""
REFUSALS = frozenset(range(400, 500)) - {408, 425, 429}
"""Statuses of an answer that refuses, save for those that say: later."""


class Grant(msgspec.Struct, frozen=True):
    """What a token endpoint gave. `expires_at`: epoch seconds, None where it does not say."""

    access_token: Secret
    refresh_token: Secret | None
    id_token: Secret | None
    scopes: str
    expires_at: float | None


class _Answer(msgspec.Struct):
    """What is used of an answer (RFC 6749 section 5.1, OIDC Core section 3.1.3.3)."""

    access_token: str
    token_type: str = "bearer"  # noqa: S105 - a type of tokens
    refresh_token: str | None = None
    id_token: str | None = None
    scope: str | list[str] | None = None
    expires_in: float | None = None


class OAuthClient:
    """One client at one provider.

    Args:
        client_id, client_secret: as registered there.
        redirect_uri: where its answers go, to the letter.
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
        """Where to send the browser (RFC 6749 section 4.1.1, RFC 7636 section 4.3)."""
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
        """The tokens for an authorization code.

        Args:
            endpoint: the token endpoint.
            method: of client authentication. A wrong one uses the code up, so none is tried.

        Raises:
            GrantEnded: the code is over, or not for us.
            ProviderUnavailable: no answer of use.
        """
        with self._session(endpoint) as session, _told(session):
            found = session.fetch_token(
                _as_https(endpoint),
                code=code,
                code_verifier=verifier,
                **self._authentication(method),
            )
            return self._grant(found)

    def refresh(self, endpoint: str, method: ClientAuth, refresh_token: Secret) -> Grant:
        """New tokens for a refresh token. `refresh_token` of the answer is the one to keep: the
        new one, or the old one where none came.

        Raises:
            GrantEnded: the refresh token is over.
            ProviderUnavailable: no answer of use.
        """
        identified = self._authentication(method)
        # `refresh_token` of the library knows `auth`, and puts the rest into the form.
        if identified.pop("include_client_id", False):
            identified["client_id"] = self.client_id
        with self._session(endpoint) as session, _told(session):
            found = session.refresh_token(
                _as_https(endpoint), refresh_token=refresh_token.reveal(), **identified
            )
            grant = self._grant(found)
        return structs.replace(grant, refresh_token=grant.refresh_token or refresh_token)

    def revoke(self, endpoint: str, method: ClientAuth, token: Secret, hint: str) -> None:
        """Give a token back (RFC 7009 section 2.1).

        Args:
            hint: `access_token` or `refresh_token`.

        Raises:
            ProviderUnavailable: it did not take it.
        """
        form = {"token": token.reveal(), "token_type_hint": hint}
        identified = self._authentication(method)
        if "auth" not in identified:
            form |= {"client_id": self.client_id, "client_secret": self._secret.reveal()}
        with self._session(endpoint) as session, _told(session):
            answer = requests.Session.post(
                session, endpoint, data=form, auth=identified.get("auth")
            )
            answer.raise_for_status()

    def basic(self) -> HTTPBasicAuth:
        """Id and secret as a header (RFC 6749 section 2.3.1: encoded as in a form, first)."""
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
        if not answer.access_token or not all(map(_is_sound, texts)):
            raise ValueError("a token that is none")
        lasting = None if answer.expires_in is None else min(answer.expires_in, MOST_SECONDS)
        return Grant(
            Secret(answer.access_token),
            Secret(answer.refresh_token) if answer.refresh_token else None,
            Secret(answer.id_token) if answer.id_token else None,
            scope.replace(",", " "),  # GitHub's way
            None if lasting is None else self._clock() + max(0.0, lasting),
        )


class _TokenSession(OAuth2Session):
    """The library's session, whose every request goes to the one endpoint. `status`: of its last
    answer, 0 before.

    The library takes https only, or with a switch for the whole process anything. Here plain http
    is right for this very machine and nowhere else, and services/oauth/http.py holds that.
    """

    def __init__(self, endpoint: str, **options: Any) -> None:
        super().__init__(**options)
        self.endpoint, self.status = endpoint, 0

    def request(  # type: ignore[override]  # the library's own adds arguments of its own
        self, method: str, url: str, *, withhold_token: bool = False, **options: Any
    ) -> requests.Response:
        """Send it, without a token of ours."""
        answer = requests.Session.request(self, method, self.endpoint, **options)
        self.status = answer.status_code
        return answer


@contextmanager
def _told(session: _TokenSession) -> Iterator[None]:
    """Errors of both libraries in our words."""
    where = session.endpoint.partition("://")[2].partition("?")[0]
    try:
        yield
    except MissingTokenError as error:  # neither a token nor an error code, or no JSON at all
        raise _no_use(where, session.status, "neither a token nor an error") from error
    except OAuth2Error as error:
        word = error_word(error.error)
        if word in ENDED:
            raise GrantEnded(where) from error
        raise ProviderRefused(f"{where}: refused: {word}", word) from error
    except requests.RequestException as error:
        raise ProviderUnavailable(f"{where}: {why(error)}") from error
    except _UNREADABLE as error:
        # What the libraries make of an answer with members of wrong types.
        raise _no_use(where, session.status, type(error).__name__) from error


def _no_use(where: str, status: int, why_not: str) -> ProviderUnavailable:
    if status in REFUSALS:
        return ProviderRefused(f"{where}: refused: status {status}, no error code", "")
    return ProviderUnavailable(f"{where}: an answer of no use ({why_not})")


def _is_sound(text: str) -> bool:
    """Whether a token can be one: RFC 6749 appendix A has them in printable ASCII."""
    return len(text) <= MAX_TOKEN_LENGTH and text.isascii() and text.isprintable()


def _as_https(url: str) -> str:
    return "https://" + url.partition("://")[2]


def new_verifier() -> str:
    """A PKCE verifier (RFC 7636 section 4.1)."""
    return str(WebApplicationClient("").create_code_verifier(VERIFIER_LENGTH))


def _quieten_token_logs() -> None:
    # Both write whole answers, tokens and all, at DEBUG.
    for name in ("requests_oauthlib", "oauthlib"):
        logging.getLogger(name).setLevel(logging.INFO)
