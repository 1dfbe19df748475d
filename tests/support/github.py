"""A small GitHub over real HTTP, as GitHub Enterprise Server documents it.

Facts from docs.github.com: "Authorizing OAuth apps", "Troubleshooting OAuth app access token
request errors", "Refreshing user access tokens", REST "OAuth authorizations", "Users", "Emails".
Not documented, seen in the wild: `iss` in the authorization response (2026), status 200 with
bad_refresh_token. Guessed: the error for a wrong code_verifier, 404 for an unknown token.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

from tests.support.faults import FaultyService, running
from tests.support.github_faults import GITHUB_FAULTS, SAID
from tests.support.http_answers import Reply, as_json, as_page, to
from tests.support.http_service import Seen
from tests.support.provider_grants import Grant, Grants, Refused, basic_credentials
from tests.support.provider_tokens import OTHER_ISSUER

OAUTH, API = "/login/oauth", "/api/v3"
EIGHT_HOURS, SIX_MONTHS = 28_800, 15_811_200

_WRONG_TYPES = {"access_token": 4711, "token_type": ["bearer"], "scope": {"a": 1}}
Endpoint = Callable[[Seen, Collection[str]], Reply]


class GitHub(FaultyService):
    """The server, running between `with` and its end. `origin` is its base URL.

    Attributes:
        client_id, client_secret: of the only application.
        callback_url: the registered one; None allows any redirect_uri.
        expiring: a GitHub App whose tokens expire and are refreshed, else an OAuth app.
        sends_iss: whether the authorization response has RFC 9207's `iss`.
        user: who is signed in here; `id` is the key, `email` the public address or None.
        emails: of that person.
        pkce: whether code_challenge is heeded; older servers do not.
        revoked: ("token" or "grant", access token) as they came to be deleted.
    """

    def __init__(self) -> None:
        super().__init__(GITHUB_FAULTS)
        self.client_id = "Iv1.0123456789abcdef"
        self.client_secret = secrets.token_hex(20)
        self.callback_url: str | None = None
        self.expiring = False
        self.sends_iss = True
        self.pkce = True
        self.user: dict[str, Any] = {
            "id": secrets.randbelow(10**8) + 1,
            "login": "octocat",
            "name": "Mona Lisa Octocat",
            "email": None,
            "type": "User",
        }
        self.emails: list[dict[str, Any]] = [
            {
                "email": "7+octocat@users.noreply.github.com",
                "primary": False,
                "verified": True,
                "visibility": None,
            },
            {
                "email": "octocat@example.com",
                "primary": True,
                "verified": True,
                "visibility": "private",
            },
        ]
        self.revoked: list[tuple[str, str]] = []
        self.grants = Grants()
        self._places: Mapping[tuple[str, str], tuple[str, Endpoint]] = {
            ("GET", f"{OAUTH}/authorize"): ("authorize", self._authorize),
            ("POST", f"{OAUTH}/access_token"): ("token", self._access_token),
            ("GET", f"{API}/user"): ("user", self._user),
            ("GET", f"{API}/user/emails"): ("emails", self._emails),
            ("DELETE", f"{API}/applications/:id/token"): ("revoke", self._delete),
            ("DELETE", f"{API}/applications/:id/grant"): ("revoke", self._delete),
        }

    def place(self, seen: Seen, path: str) -> str | None:
        found, _ = self._found(seen, path) or (None, None)
        refreshing = seen.form.get("grant_type") == "refresh_token"
        return "refresh" if found == "token" and refreshing else found

    def serve(self, place: str, seen: Seen, faults: Collection[str]) -> Reply:
        found = self._found(seen, seen.path.removeprefix("/moved"))
        assert found is not None, "place() said where it is"
        return found[1](seen, faults)

    def _found(self, seen: Seen, path: str) -> tuple[str, Endpoint] | None:
        general = path.replace(f"/applications/{self.client_id}/", "/applications/:id/")
        return self._places.get((seen.method, general))

    def _authorize(self, seen: Seen, faults: Collection[str]) -> Reply:
        asked = seen.form
        if asked.get("client_id") != self.client_id:
            return as_page("Not found", 404)
        back = asked.get("redirect_uri") or self.callback_url or ""
        answer = _chosen_error(faults)
        if self.callback_url is not None and not back.startswith(self.callback_url):
            back, answer = self.callback_url, _error("redirect_uri_mismatch")
        if answer is None:
            answer = {"code": self._code(asked, back) if "code_wrong" not in faults else "0" * 20}
        if "state_missing" not in faults and "state" in asked:
            answer["state"] = asked["state"] if "state_wrong" not in faults else "of-another"
        if self.sends_iss:
            own = self.origin + OAUTH
            answer["iss"] = OTHER_ISSUER if "iss_wrong" in faults else own
        return to(f"{back}{'&' if '?' in back else '?'}{urlencode(answer)}")

    def _code(self, asked: Mapping[str, str], back: str) -> str:
        challenge = asked.get("code_challenge") if self.pkce else None
        scope = "" if self.expiring else asked.get("scope", "")
        return self.grants.code_for(Grant(dict(self.user), "", scope, back, None, challenge))

    def _access_token(self, seen: Seen, faults: Collection[str]) -> Reply:
        """Errors come with status 200, in the format that Accept asks for."""
        wanted = [name for name in sorted(faults) if name in SAID]
        sent = (seen.form.get("client_id"), seen.form.get("client_secret"))
        if wanted:
            return _formatted(seen, _error(wanted[0]))
        if sent != (self.client_id, self.client_secret):
            return _formatted(seen, _error("incorrect_client_credentials"))
        if "wrong_types" in faults:
            return as_json(_WRONG_TYPES)
        if "no_access_token" in faults:
            return as_json({})
        refreshing = seen.form.get("grant_type") == "refresh_token"
        try:
            grant = self._refreshed(seen) if refreshing else self._redeemed(seen)
        except Refused:
            return _formatted(
                seen, _error("bad_refresh_token" if refreshing else "bad_verification_code")
            )
        return _formatted(seen, self._tokens(grant))

    def _redeemed(self, seen: Seen) -> Grant:
        """The redirect_uri may be left out here. Raises: Refused."""
        return self.grants.redeem(
            seen.form.get("code", ""),
            seen.form.get("redirect_uri"),
            seen.form.get("code_verifier", ""),
        )

    def _refreshed(self, seen: Seen) -> Grant:
        """The old access token ends as well. Raises: Refused."""
        grant = self.grants.refreshed(seen.form.get("refresh_token", ""), "rotating")
        self.grants.end_access(grant)
        return grant

    def _tokens(self, grant: Grant) -> dict[str, object]:
        scopes = ",".join(grant.scope.replace(",", " ").split())
        prefix = "ghu_" if self.expiring else "gho_"
        tokens: dict[str, object] = {
            "access_token": self.grants.access_token(grant, prefix),
            "token_type": "bearer",
            "scope": scopes,
        }
        if self.expiring:
            tokens["expires_in"] = EIGHT_HOURS
            tokens["refresh_token"] = self.grants.refresh_token(grant, "ghr_")
            tokens["refresh_token_expires_in"] = SIX_MONTHS
        return tokens

    def _user(self, seen: Seen, faults: Collection[str]) -> Reply:
        grant = self._let_in(seen, faults)
        if isinstance(grant, Reply):
            return grant
        user = {**grant.user}
        if "id_missing" in faults:
            del user["id"]
        if "id_not_number" in faults:
            user["id"] = {"of": "somebody"}
        return as_json(user)

    def _emails(self, seen: Seen, faults: Collection[str]) -> Reply:
        grant = self._let_in(seen, faults)
        if isinstance(grant, Reply):
            return grant
        scopes = set(grant.scope.replace(",", " ").split())
        if "not_found" in faults or not (self.expiring or scopes & {"user", "user:email"}):
            return _message(404, "Not Found")
        if "wrong_types" in faults:
            return as_json([email["email"] for email in self.emails])
        return as_json(self.emails)

    def _let_in(self, seen: Seen, faults: Collection[str]) -> Grant | Reply:
        if not seen.headers.get("User-Agent"):
            return _message(403, "Request forbidden by administrative rules.")
        scheme, _, token = seen.headers.get("Authorization", "").partition(" ")
        grant = self.grants.of_access_token(token)
        if scheme.lower() not in ("bearer", "token") or grant is None:
            return _message(401, "Bad credentials")
        if "rate_limited" in faults:
            used_up = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "4102444800"}
            return _message(403, "API rate limit exceeded", used_up)
        return grant

    def _delete(self, seen: Seen, faults: Collection[str]) -> Reply:
        """REST "Delete an app token" and "Delete an app authorization"."""
        sent = basic_credentials(seen.headers.get("Authorization", ""))
        if sent != (self.client_id, self.client_secret):
            return _message(401, "Bad credentials")
        try:
            token = json.loads(seen.body)["access_token"]
        except (ValueError, KeyError, TypeError):
            return _message(422, "Validation Failed")
        what = seen.path.rpartition("/")[2]
        self.revoked.append((what, token))
        grant = self.grants.of_access_token(token)
        if grant is None or "not_found" in faults:
            return _message(404, "Not Found")
        if what == "grant":
            self.grants.end(lambda other: other.user["id"] == grant.user["id"])
        else:
            self.grants.revoke(token)
        return Reply(204)


def _error(code: str) -> dict[str, str]:
    page = f"https://docs.github.com/apps/troubleshooting#{code.replace('_', '-')}"
    return {"error": code, "error_description": SAID[code], "error_uri": page}


def _chosen_error(faults: Collection[str]) -> dict[str, str] | None:
    if "access_denied" in faults:
        said = "The user has denied your application access."
        return {"error": "access_denied", "error_description": said}
    if "application_suspended" in faults:
        said = "Your application has been suspended."
        return {"error": "application_suspended", "error_description": said}
    return None


def _formatted(seen: Seen, content: Mapping[str, object]) -> Reply:
    if "json" in seen.headers.get("Accept", ""):
        return as_json(content)
    form = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
    return Reply(200, urlencode(content).encode(), form)


def _message(status: int, text: str, headers: Mapping[str, str] | None = None) -> Reply:
    content = {"message": text, "documentation_url": "https://docs.github.com/rest"}
    return as_json({**content, "status": str(status)}, status, headers or {})


@contextmanager
def github(**behaviour: Any) -> Iterator[GitHub]:
    """A running GitHub.

    Args:
        behaviour: faults by place, as `misbehave` takes them, and attributes of GitHub.

    Raises: AttributeError, ValueError for names that do not exist.
    """
    with running(GitHub(), behaviour) as hub:
        yield hub
