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
    """Somebody at a provider.

    Attributes:
        issuer, subject: who, for ever.
        sid: the provider's session, or None where it does not name it.
        email: as given, empty where it gives none.
        email_verified: whether the provider says that the address is theirs.
        name: as given, may be empty.
        claims: everything else that it says, for roles.
    """

    issuer: str
    subject: str
    sid: str | None
    email: str
    email_verified: bool
    name: str
    claims: Mapping[str, Any]


def address_of(profile: ProviderProfile) -> str | None:
    """The address in its one spelling; None where there is none of use."""
    try:
        return normalised_email(profile.email)
    except BadRequest:
        return None


def vouched_address(profile: ProviderProfile) -> str | None:
    """The address in its one spelling, where the provider vouches for just that one.

    Our spelling makes one of several that look alike, so that nobody gets a second account by
    them. To others they are several: `straße.de` is not `strasse.de`, and who owns the one has
    not shown to own the other. Only capitals, and the two forms of a domain (RFC 5890), are the
    same to everybody.
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
    except UnicodeError:  # a label that newer rules have, and these do not
        return domain


def check_domain(profile: ProviderProfile, settings: OAuthProvider) -> None:
    """Refuse who has no verified address in the allowed domains.

    Raises:
        SignInRefused: the domain is another, or the address is not verified: anybody may claim
            any address.
    """
    if not settings.email_domains:
        return
    domain = (vouched_address(profile) or "").rpartition("@")[2]
    if domain not in settings.email_domains:
        raise SignInRefused(Reason.NOT_ALLOWED, "no verified address in an allowed domain")
