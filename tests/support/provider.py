"""A small OpenID provider over real HTTP: good by default, hostile on demand.

    with provider() as op:
        op.user = {"sub": "ada", "email": "ada@example.com", "email_verified": True}
        op.misbehave(id_token="nonce_wrong")
        op.misbehave(refresh=("http_503", "held"), times=2)

What can go wrong is listed in provider_faults.py, what one may set in provider_state.py.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tests.support import provider_documents as documents
from tests.support import provider_endpoints as endpoints
from tests.support import provider_tokens
from tests.support.faults import running
from tests.support.http_answers import Reply, as_json
from tests.support.http_service import Seen
from tests.support.provider_grants import Refused
from tests.support.provider_keys import LEFT_OUT, Algorithm, Signer
from tests.support.provider_state import PATHS, State

__all__ = ["LEFT_OUT", "Provider", "provider"]

_ENDPOINTS: Mapping[str, Callable[[State, Seen, Collection[str]], Reply]] = {
    "discovery": documents.discovery,
    "jwks": documents.jwks,
    "foreign_jwks": documents.foreign_jwks,
    "authorize": endpoints.authorize,
    "userinfo": endpoints.userinfo,
    "revoke": endpoints.revoke,
    "end_session": endpoints.end_session,
}
_GRANTS: Mapping[str, Callable[[State, Seen, Collection[str], Collection[str]], Reply]] = {
    "token": endpoints.token,
    "refresh": endpoints.refresh,
}


class Provider(State):
    """The provider, running between `with` and its end. See State for what can be set."""

    def count(self, place: str) -> int:
        """How many requests for this place came; those to refresh count as `token`."""
        return len(self.at(place))

    def at(self, place: str) -> list[Seen]:
        """The requests for this place so far."""
        return self.came(self.path(place))

    def end_sessions(self, *, sub: object = None, sid: str | None = None) -> None:
        """The provider ends a person's sessions, or one, or all: refreshing fails from now on."""
        self.grants.end(
            lambda grant: sub in (None, grant.user.get("sub")) and sid in (None, grant.sid)
        )

    def logout_token(
        self,
        *,
        header: Mapping[str, object] | None = None,
        signer: Signer = "honest",
        **claims: object,
    ) -> str:
        """A logout token of the last session. LEFT_OUT removes a claim or header.

        Args:
            header: written over typ, alg and kid.
            signer: "none", "foreign", … instead of the provider itself.
            claims: written over iss, aud, iat, exp, jti, events, sub and sid.
        """
        about = {
            "iss": self.token_issuer,
            "aud": self.client_id,
            "sub": self.user["sub"],
            "sid": self.sids[-1] if self.sids else LEFT_OUT,
        }
        return provider_tokens.logout_token(self.signing(), {**about, **claims}, header, signer)

    def place(self, seen: Seen, path: str) -> str | None:
        found = next((place for place in PATHS if path == self.path(place)), None)
        refreshing = seen.form.get("grant_type") == "refresh_token"
        return "refresh" if found == "token" and refreshing else found

    def serve(self, place: str, seen: Seen, faults: Collection[str]) -> Reply:
        try:
            if place in _GRANTS:
                return _GRANTS[place](self, seen, faults, self.faults.take("id_token"))
            return _ENDPOINTS[place](self, seen, faults)
        except Refused as refused:
            if not refused.code:
                return Reply(refused.status)
            content = {"error": refused.code, "error_description": refused.reason}
            return as_json(content, refused.status, endpoints.NO_STORE)


@contextmanager
def provider(
    *,
    path: str = "",
    algorithm: Algorithm = "RS256",
    tenant: str | None = None,
    **behaviour: Any,
) -> Iterator[Provider]:
    """A running provider.

    Args:
        behaviour: faults by place, as `misbehave` takes them, and attributes of State.

    Raises: AttributeError, ValueError for names that do not exist.
    """
    with running(Provider(path=path, algorithm=algorithm, tenant=tenant), behaviour) as op:
        yield op
