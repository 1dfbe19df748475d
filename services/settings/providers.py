"""The settings of an OAuth provider: `USHER_OAUTH_<NAME>_…`."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import msgspec

from services.claims import Role
from services.secret import MASK, Secret
from services.settings import values
from services.settings.origins import is_host_name, is_loopback
from services.settings.row import Setting
from services.settings.values import BadValue

KNOWN_PROVIDERS = ("google", "github", "microsoft")
"""Built-in providers, which need no ISSUER. Any other provider uses OIDC discovery."""
OWN_PARAMETERS = frozenset(
    [
        "client_id",
        "code_challenge",
        "code_challenge_method",
        "nonce",
        "redirect_uri",
        "request",
        "request_uri",
        "response_type",
        "scope",
        "state",
    ]
)
"""Parameters of an authorization request that Usher sets itself; PARAMETERS may not contain
them."""

RESPONSE_MODES = frozenset(("query", "form_post"))
"""Accepted values of `response_mode` (OAuth 2.0 Multiple Response Types, Form Post Response
Mode)."""
ClientAuth = Literal["basic", "post"]
"""Client authentication: `client_secret_basic` or `client_secret_post` (RFC 6749 section 2.3.1)."""

_BAD_ESCAPE = re.compile(r"~(?![01])")
_PROVIDER_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")


class OAuthProvider(msgspec.Struct, frozen=True):
    """One of OAUTH_PROVIDERS.

    Attributes:
        name: the name in URLs, lower case.
        issuer: for OIDC discovery; None for a built-in provider.
        client_id: the client id registered with the provider.
        client_secret: the client secret.
        scopes: scopes to request; empty for the provider's defaults.
        title: text on its button; empty for the default.
        signup: whether an unknown user may create an account.
        email_domains: domains of verified e-mail addresses that may sign in; empty for all.
        role_claim: the claim that gives the user's role; empty for none.
        roles: pairs of a claim value and the role that it gives.
        parameters: added to the authorization request.
        untyped_logout: whether logout tokens with `typ` JWT, or without `typ`, are accepted.
        client_auth: client authentication method; None for the one in the provider's metadata.
        logout_without_exp: whether logout tokens without `exp` are accepted.
        refused_seconds: how long the provider may refuse refreshes with an error other than
            `invalid_grant` before the login session ends.
        former_issuer: the issuer of the same users before the provider changed its issuer.
        email_claim: the claim that has the e-mail address; empty for `email`.
        metadata_url: URL of the discovery document, if it cannot be derived from the issuer.
        logout_parameters: added to the logout request at the provider.
    """

    name: str
    issuer: str | None
    client_id: str
    client_secret: Secret
    scopes: tuple[str, ...] = ()
    title: str = ""
    signup: bool = True
    email_domains: tuple[str, ...] = ()
    role_claim: str = ""
    roles: tuple[tuple[str, Role], ...] = ()
    parameters: tuple[tuple[str, str], ...] = ()
    untyped_logout: bool = False
    client_auth: ClientAuth | None = None
    logout_without_exp: bool = False
    refused_seconds: float = 3600.0
    former_issuer: str | None = None
    email_claim: str = ""
    metadata_url: str | None = None
    logout_parameters: tuple[tuple[str, str], ...] = ()


class ProviderSettings(NamedTuple):
    """The settings of one provider, as rows of the table."""

    issuer: Setting[str]
    client_id: Setting[str]
    client_secret: Setting[Secret]
    scopes: Setting[tuple[str, ...]]
    title: Setting[str]
    signup: Setting[bool]
    email_domains: Setting[tuple[str, ...]]
    role_claim: Setting[str]
    roles: Setting[tuple[tuple[str, Role], ...]]
    parameters: Setting[tuple[tuple[str, str], ...]]
    untyped_logout: Setting[bool]
    client_auth: Setting[ClientAuth]
    logout_without_exp: Setting[bool]
    refused_seconds: Setting[float]
    former_issuer: Setting[str]
    email_claim: Setting[str]
    metadata_url: Setting[str]
    logout_parameters: Setting[tuple[tuple[str, str], ...]]


def provider_names(text: str) -> tuple[str, ...]:
    """The reader of OAUTH_PROVIDERS."""
    names = tuple(name.lower() for name in values.items(text))
    if len(set(names)) < len(names) or not all(map(_PROVIDER_NAME.fullmatch, names)):
        raise BadValue(
            "names of letters, digits and hyphens, separated by commas, each once "
            f"({', '.join(KNOWN_PROVIDERS)} or others with an ISSUER)"
        )
    return names


def provider_settings(name: str) -> ProviderSettings:
    """The settings of the provider with this name."""
    stem = f"OAUTH_{name.upper().replace('-', '_')}_"
    return ProviderSettings(
        issuer=Setting(stem + "ISSUER", values.issuer, None, _ISSUER_MEANING),
        client_id=Setting(
            stem + "CLIENT_ID", _text, None, "client id, as registered with the provider"
        ),
        client_secret=Setting(
            stem + "CLIENT_SECRET", _secret_text, None, "client secret", secret=True
        ),
        scopes=Setting(
            stem + "SCOPES",
            _scopes,
            "",
            "scopes to request",
            "the provider's defaults",
            is_list=True,
        ),
        title=Setting(stem + "TITLE", _text, None, "name on its button", "from its name"),
        signup=Setting(
            stem + "SIGNUP", values.switch, "true", "whether an unknown user may create an account"
        ),
        email_domains=Setting(
            stem + "EMAIL_DOMAINS",
            _domains,
            "",
            "domains of verified e-mail addresses that may sign in, comma-separated",
            "all",
            is_list=True,
        ),
        role_claim=Setting(
            stem + "ROLE_CLAIM",
            _role_claim,
            None,
            "claim that gives the role; if there is no claim of that name, a path with dots, or "
            "a JSON pointer such as /resource_access/my.client/roles",
            "none",
        ),
        roles=Setting(
            stem + "ROLES",
            _roles,
            "",
            "roles for the values of the claim, as value:admin or value:user, comma-separated",
            "none",
            is_list=True,
        ),
        parameters=Setting(
            stem + "PARAMETERS",
            _parameters,
            "",
            "added to the authorization request, as name=value&name=value",
            "none",
            is_list=True,
        ),
        untyped_logout=Setting(
            stem + "UNTYPED_LOGOUT",
            values.switch,
            "false",
            "whether to accept logout tokens with typ JWT or without typ (Auth0, Keycloak before "
            "25)",
        ),
        client_auth=Setting(
            stem + "CLIENT_AUTH",
            _client_auth,
            None,
            "client authentication method that was registered: basic or post",
            "from the provider's metadata",
        ),
        logout_without_exp=Setting(
            stem + "LOGOUT_WITHOUT_EXP",
            values.switch,
            "false",
            "whether to accept logout tokens without exp, for two minutes from their iat "
            "(Glewlwyd, old Keycloak)",
        ),
        refused_seconds=Setting(
            stem + "REFUSED_SECONDS",
            values.seconds(60, 30 * 86_400),
            "3600",
            "seconds for which a provider may refuse refreshes with an error other than "
            "invalid_grant, before the login session ends",
        ),
        former_issuer=Setting(
            stem + "FORMER_ISSUER",
            values.issuer,
            None,
            "issuer of the same users before the provider changed to ISSUER",
            "none",
        ),
        email_claim=Setting(
            stem + "EMAIL_CLAIM",
            _text,
            None,
            "claim that has the e-mail address; it counts as verified only if it equals email",
            "email",
        ),
        metadata_url=Setting(
            stem + "METADATA_URL",
            _document_url,
            None,
            "https:// URL of the discovery document, if it is not under ISSUER",
            "under ISSUER",
        ),
        logout_parameters=Setting(
            stem + "LOGOUT_PARAMETERS",
            _logout_parameters,
            "",
            "added to the logout request at the provider, as name=value&name=value",
            "none",
            is_list=True,
        ),
    )


_ISSUER_MEANING = (
    "https:// URL of the OIDC issuer, or of a GitHub Enterprise Server "
    "(http:// on loopback addresses only)"
)


def _text(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise BadValue("printable text", MASK)
    return text.strip()


def _secret_text(text: str) -> Secret:
    return Secret(_text(text))


def _role_claim(text: str) -> str:
    claim = _text(text)
    if claim.startswith("/") and _BAD_ESCAPE.search(claim):
        raise BadValue("a JSON pointer with ~ written as ~0, and / within a name as ~1 (RFC 6901)")
    return claim


def _client_auth(text: str) -> ClientAuth:
    method = text.strip().lower().removeprefix("client_secret_")
    if method == "basic" or method == "post":  # noqa: PLR1714 - mypy narrows by this
        return method  # type: ignore[return-value]  # narrowed above
    raise BadValue("basic (client_secret_basic) or post (client_secret_post)")


def _scopes(text: str) -> tuple[str, ...]:
    # RFC 6749 section 3.3 separates scopes by spaces; users often write commas.
    return tuple(text.replace(",", " ").split())


def _domains(text: str) -> tuple[str, ...]:
    domains = tuple(domain.lower().removeprefix("@") for domain in values.items(text))
    if not all(is_host_name(domain) for domain in domains):
        raise BadValue("domains such as example.org, separated by commas")
    return domains


def _roles(text: str) -> tuple[tuple[str, Role], ...]:
    found: dict[str, Role] = {}
    for item in values.items(text):
        # From the right: a value may have colons of its own (urn:…).
        value, _, role = (part.strip() for part in item.rpartition(":"))
        if not value or value in found or (role != "admin" and role != "user"):  # noqa: PLR1714 - mypy narrows by this
            raise BadValue("pairs such as staff:user,ops:admin, each value once")
        found[value] = role  # type: ignore[assignment]  # narrowed above
    return tuple(found.items())


def _parameters(text: str) -> tuple[tuple[str, str], ...]:
    takes = (
        "name=value pairs joined by &, none of which Usher sets itself; response_mode is query or "
        "form_post"
    )
    try:
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=True) if text else []
    except ValueError as error:
        raise BadValue(takes) from error
    names = [name for name, _ in pairs]
    mode = dict(pairs).get("response_mode", "query")
    if OWN_PARAMETERS & set(names) or len(set(names)) < len(names) or mode not in RESPONSE_MODES:
        raise BadValue(takes)
    return tuple(pairs)


def _logout_parameters(text: str) -> tuple[tuple[str, str], ...]:
    takes = "name=value pairs joined by &, each name once"
    try:
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=True) if text else []
    except ValueError as error:
        raise BadValue(takes) from error
    if len(dict(pairs)) < len(pairs):
        raise BadValue(takes)
    return tuple(pairs)


def _document_url(text: str) -> str:
    takes = "an https:// URL (http:// on loopback addresses only)"
    value = text.strip()
    try:
        url = urlsplit(value)
        host = url.hostname or ""
    except ValueError as error:
        raise BadValue(takes) from error
    safe = url.scheme == "https" or (url.scheme == "http" and is_loopback(host))
    plain = value.isascii() and value.isprintable() and " " not in value
    if not (host and safe and plain) or "@" in url.netloc or url.fragment:
        raise BadValue(takes, MASK if "@" in value else None)
    return value
