"""Reads a user's role from the claim that the settings name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.claims import Role
from services.oauth.errors import Reason, SignInRefused
from services.oauth.userinfo import ProviderProfile
from services.settings.providers import OAuthProvider

MAX_VALUES = 1000
"""Values of a role claim that are looked at."""


def role_of(profile: ProviderProfile, settings: OAuthProvider) -> Role | None:
    """The role that the provider gives; None where it says nothing of roles.

    Of several values that mean a role the highest counts. Values are texts, the members of a list,
    or the names in an object (Zitadel's `{"admin": {…}}`).

    Raises:
        SignInRefused: the claim is there, and none of its values means a role or it can't be read.
    """
    if not settings.role_claim:
        return None
    found = _at(profile.claims, settings.role_claim)
    if found is None:
        if _lies_elsewhere(profile.claims, settings.role_claim):
            raise SignInRefused(
                Reason.NOT_ALLOWED, "the role claim is not in the token but elsewhere (overage)"
            )
        return None
    known = dict(settings.roles)
    roles = {known[value] for value in _values(found) if value in known}
    if not roles:
        raise SignInRefused(Reason.NOT_ALLOWED, "the role claim has no value that means a role")
    return "admin" if "admin" in roles else "user"


def first_part(path: str) -> str:
    """The claim that a path begins at."""
    return _parts(path)[0]


def _at(claims: Mapping[str, Any], path: str) -> Any:
    """A claim by its name; else by a path with dots (Keycloak's `realm_access.roles`), or by a JSON
    pointer (RFC 6901), which can name what has dots of its own."""
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


def _lies_elsewhere(claims: Mapping[str, Any], path: str) -> bool:
    """Whether the token says that the claim exists without having it: an aggregated or distributed
    claim (OIDC Core section 5.6.2), as Entra sends for people in more than 200 groups, or Entra's
    shorter word for it."""
    names, top = claims.get("_claim_names"), first_part(path)
    if isinstance(names, Mapping) and (top in names or path in names):
        return True
    return top == "groups" and claims.get("hasgroups") in (True, "true", 1)


def _values(found: object) -> list[str | None]:
    if isinstance(found, Mapping):
        # A name that is set to nothing, or to no, is not given.
        found = [name for name, value in found.items() if value is not None and value is not False]
    values = found if isinstance(found, list) else [found]
    return [_word(value) for value in values[:MAX_VALUES]]


def _word(value: object) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, (str, int)) else None
