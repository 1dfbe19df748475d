"""A user's profile at a provider, in one form for all providers."""

from __future__ import annotations

from collections.abc import Mapping
from string import ascii_lowercase, ascii_uppercase
from typing import Any

import msgspec

from services.errors import BadRequest
from services.oauth.errors import Reason, SignInRefused
from services.registration.addresses import normalised_email
from services.settings.providers import OAuthProvider

_LOWER = str.maketrans(ascii_uppercase, ascii_lowercase)


class ProviderProfile(msgspec.Struct, frozen=True):
    """A user's profile at a provider.

    Attributes:
        issuer: the provider's issuer. Together with `subject`, it identifies the user permanently.
        subject: `sub` (OIDC Core section 2).
        sid: the provider's session, or None if it has no `sid`.
        email: the e-mail address as given; empty if there is none.
        email_verified: whether the provider has verified the address.
        name: the name as given; may be empty.
        claims: all claims, for the role.
        auth_time: when the provider says that it authenticated the user, epoch seconds; None if it
            does not say so.
    """

    issuer: str
    subject: str
    sid: str | None
    email: str
    email_verified: bool
    name: str
    claims: Mapping[str, Any]
    auth_time: float | None = None


def address_of(profile: ProviderProfile) -> str | None:
    """The normalised e-mail address; None if there is none or it is invalid."""
    try:
        return normalised_email(profile.email)
    except BadRequest:
        return None


def verified_address(profile: ProviderProfile) -> str | None:
    """The normalised e-mail address, if the provider has verified exactly that address.

    Normalisation maps addresses that look alike to one, so that no user gets a second account by a
    variant. Other systems treat the variants as different: the owner of an address at `straße.de`
    has not proved to own the one at `strasse.de`. So only differences in case, and between the two
    forms of a domain (RFC 5890), are accepted here.
    """
    address = address_of(profile) if profile.email_verified else None
    if address is None:
        return None
    local, _, domain = profile.email.strip().translate(_LOWER).rpartition("@")
    ours, _, ours_domain = address.rpartition("@")
    if local != ours or domain.rstrip(".") not in (ours_domain, _in_unicode(ours_domain)):
        return None
    return address


def _in_unicode(domain: str) -> str:
    try:
        return domain.encode().decode("idna")
    except UnicodeError:  # a label that is valid only under newer IDNA rules
        return domain


def check_domain(profile: ProviderProfile, settings: OAuthProvider) -> None:
    """Check that the user has a verified e-mail address in the allowed domains.

    Raises:
        SignInRefused: the domain is not allowed, or the address is not verified.
    """
    if not settings.email_domains:
        return
    domain = (verified_address(profile) or "").rpartition("@")[2]
    if domain not in settings.email_domains:
        raise SignInRefused(Reason.NOT_ALLOWED, "no verified address in an allowed domain")
