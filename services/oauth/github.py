"""GitHub, or a GitHub Enterprise Server: OAuth 2.0 without OpenID Connect."""

from __future__ import annotations

from typing import Any

import requests

from services.oauth.errors import ProviderUnavailable, Reason, SignInRefused
from services.oauth.http import bounded, get_json, why
from services.oauth.id_tokens import LogoutToken
from services.oauth.provider import RequestBinding, text_of
from services.oauth.token_endpoint import Grant, OAuthClient
from services.oauth.userinfo import ProviderProfile
from services.secret import Secret
from services.settings.providers import OAuthProvider

GITHUB = "https://github.com"
DEFAULT_SCOPES = ("read:user", "user:email")
ABSENT = frozenset((403, 404))
"""Statuses of a resource that the granted scopes do not allow."""
HEADERS = {
    "Accept": "application/vnd.github+json",
    "X-GitHub-Api-Version": "2022-11-28",
}


class GitHubProvider:
    """GitHub, through its own OAuth and REST endpoints."""

    def __init__(self, settings: OAuthProvider, client: OAuthClient, title: str) -> None:
        self.settings, self._client = settings, client
        base = (settings.issuer or GITHUB).rstrip("/")
        self._issuer = base + "/login/oauth"
        self._api = "https://api.github.com" if base == GITHUB else base + "/api/v3"
        self.title = title

    def check(self) -> None:
        get_json(self._api + "/meta", HEADERS, ABSENT)  # any answer is one

    def authorization_url(self, start: RequestBinding, prompt: str | None) -> str:
        parameters = dict(self.settings.parameters)
        if prompt is not None:
            parameters["prompt"] = "select_account"  # the closest value that GitHub supports
        return self._client.authorization_url(
            self._issuer + "/authorize",
            self.settings.scopes or DEFAULT_SCOPES,
            start.state,
            start.verifier,
            **parameters,
        )

    def check_issuer(self, issuer: str | None) -> None:
        if issuer is not None and issuer != self._issuer:
            raise SignInRefused(Reason.UNTRUSTED, "callback: iss of another provider")

    def exchange(self, code: str, start: RequestBinding) -> tuple[ProviderProfile, Grant]:
        grant = self._client.exchange(self._issuer + "/access_token", "post", code, start.verifier)
        user = self._get("/user", grant)
        number = user.get("id") if isinstance(user, dict) else None
        if type(number) is not int:  # not `login`: GitHub reassigns names
            raise SignInRefused(Reason.UNTRUSTED, "GitHub: a user without an id")
        email, verified = self._email(grant)
        name = text_of(user.get("name")) or text_of(user.get("login"))
        return ProviderProfile(self._issuer, str(number), None, email, verified, name, user), grant

    def refresh(self, refresh_token: Secret, subject: str) -> Grant:
        return self._client.refresh(self._issuer + "/access_token", "post", refresh_token)

    def check_refreshed(self, grant: Grant) -> None:
        """Does nothing, as GitHub has no ID tokens."""

    def revoke(self, grant: Grant) -> bool:
        url = f"{self._api}/applications/{self._client.client_id}/grant"
        session = requests.Session()
        try:
            with bounded(session):
                answer = session.delete(
                    url,
                    json={"access_token": grant.access_token.reveal()},
                    headers=HEADERS,
                    auth=self._client.basic(),
                )
                if answer.status_code != 404:  # already revoked
                    answer.raise_for_status()
        except requests.RequestException as error:
            raise ProviderUnavailable(f"GitHub: revocation: {why(error)}") from error
        return True

    def logout_token(self, token: str) -> LogoutToken | None:
        return None

    def end_session_url(self, id_token: Secret | None, back_to: str) -> str | None:
        return None

    def _email(self, grant: Grant) -> tuple[str, bool]:
        """The primary address, or "" if the scopes do not allow it, and whether it is verified."""
        listed = self._get("/user/emails", grant, ABSENT)
        for row in listed if isinstance(listed, list) else ():
            if isinstance(row, dict) and row.get("primary") is True:
                return text_of(row.get("email")), row.get("verified") is True
        return "", False

    def _get(self, path: str, grant: Grant, absent: frozenset[int] = frozenset()) -> Any:
        bearer = {"Authorization": f"Bearer {grant.access_token.reveal()}"}
        return get_json(self._api + path, {**HEADERS, **bearer}, absent)[0]
