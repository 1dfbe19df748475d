"""Maps the configured role claim to a user's role."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.claims import Role
from services.oauth.errors import Reason, SignInRefused
from services.oauth.userinfo import ProviderProfile
from services.settings.providers import OAuthProvider

MAX_VALUES = 1000
"""Values of a role claim that are read."""


def role_of(profile: ProviderProfile, settings: OAuthProvider) -> Role | None:
    """The role that the provider gives; None if there is no role claim.

    If several values map to roles, the highest role is used. The claim may be a string, a list of
    strings, or an object whose keys are the values (Zitadel's `{"admin": {…}}`).

    Raises:
        SignInRefused: no value of the claim maps to a role, or the claim is not in the token.
    """
    if not settings.role_claim:
        return None
    found = _at(profile.claims, settings.role_claim)
    if found is None:
        if _is_distributed_claim(profile.claims, settings.role_claim):
            raise SignInRefused(
                Reason.NOT_ALLOWED, "the role claim is distributed, not in the token (overage)"
            )
        return None
    known = dict(settings.roles)
    roles = {known[value] for value in _values(found) if value in known}
    if not roles:
        raise SignInRefused(Reason.NOT_ALLOWED, "no value of the role claim maps to a role")
    return "admin" if "admin" in roles else "user"


def first_part(path: str) -> str:
    """The top-level claim of a path."""
    return _parts(path)[0]


def _at(claims: Mapping[str, Any], path: str) -> Any:
    """Look up a claim by its name, by a path with dots (Keycloak's `realm_access.roles`), or by a
    JSON pointer (RFC 6901), which also reaches names that contain dots."""
    if path in claims:
        return claims[path]
    found: Any = claims
    for part in _parts(path):
        if isinstance(found, Mapping) and part in found:
            found = found[part]
        elif isinstance(found, list) and path.startswith("/") and part in _indexes(found):
            found = found[int(part)]
        else:
            return None
    return found


def _parts(path: str) -> list[str]:
    if path.startswith("/"):
        return [part.replace("~1", "/").replace("~0", "~") for part in path[1:].split("/")]
    return path.split(".")


def _indexes(found: list[Any]) -> frozenset[str]:
    return frozenset(str(index) for index in range(min(len(found), MAX_VALUES)))


def _is_distributed_claim(claims: Mapping[str, Any], path: str) -> bool:
    """Whether a claim is aggregated or distributed (OIDC Core section 5.6.2), not in the token.

    Entra does so for users in more than 200 groups, or sends `hasgroups` instead.
    """
    names, top = claims.get("_claim_names"), first_part(path)
    if isinstance(names, Mapping) and (top in names or path in names):
        return True
    return top == "groups" and claims.get("hasgroups") in (True, "true", 1)


def _values(found: object) -> list[str | None]:
    if isinstance(found, Mapping):
        # A key whose value is null or false is not granted.
        found = [name for name, value in found.items() if value is not None and value is not False]
    values = found if isinstance(found, list) else [found]
    return [_word(value) for value in values[:MAX_VALUES]]


def _word(value: object) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, (str, int)) else None
