"""The profile of a user: the domain of an address."""

from __future__ import annotations

from typing import Any

import pytest

from services.oauth.errors import Reason, SignInRefused
from services.oauth.userinfo import (
    ProviderProfile,
    address_of,
    check_domain,
    verified_address,
)
from services.secret import Secret
from services.settings.providers import OAuthProvider


def profile(
    email: str = "ada@example.org", verified: bool = True, **claims: Any
) -> ProviderProfile:
    return ProviderProfile("https://idp.example", "ada", None, email, verified, "Ada", claims)


def settings(**more: Any) -> OAuthProvider:
    return OAuthProvider("idp", "https://idp.example", "client", Secret("secret"), **more)


# ---- domains -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "email",
    ["ada@example.org", " ADA@Example.ORG ", "ada@example.org.", "ada@xn--bcher-kva.example",
     "ada@bücher.example"],
)  # fmt: skip
def test_a_verified_address_in_an_allowed_domain_comes_in(email: str) -> None:
    allowed = settings(email_domains=("example.org", "xn--bcher-kva.example"))
    check_domain(profile(email), allowed)


@pytest.mark.parametrize(
    "email",
    [
        "ada@example.com",
        "ada@sub.example.org",
        "ada@notexample.org",
        "ada@example.org@evil.example",
        "ada@evil.example,ada@example.org",
        "ada@evil.example ada@example.org",
        "<ada@evil.example> ada@example.org",
        "@example.org",
        "example.org",
        "",
    ],
)
def test_any_other_address_does_not(email: str) -> None:
    with pytest.raises(SignInRefused) as caught:
        check_domain(profile(email), settings(email_domains=("example.org",)))
    assert caught.value.reason is Reason.NOT_ALLOWED
    assert "@" not in caught.value.evidence


def test_nor_does_an_address_that_the_provider_does_not_verify() -> None:
    with pytest.raises(SignInRefused):
        check_domain(profile(verified=False), settings(email_domains=("example.org",)))


@pytest.mark.parametrize(
    ("email", "domain"),
    [
        ("ada@straße.example", "strasse.example"),
        ("ada@\uff45xample.org", "example.org"),
        ("ada@\u017fample.org", "sample.org"),
        ("ada@example\u3002org", "example.org"),
        ("ada@exa\u200dmple.org", "example.org"),
        ("ada@\u03b2\u03cc\u03bb\u03bf\u03c2.example", "xn--nxasmq6b.example"),
    ],
)
def test_nor_does_one_in_a_domain_that_only_looks_like_it(email: str, domain: str) -> None:
    with pytest.raises(SignInRefused):
        check_domain(profile(email), settings(email_domains=(domain,)))


@pytest.mark.parametrize("email", ["", "ada@anywhere.example"])
def test_without_allowed_domains_everybody_comes_in(email: str) -> None:
    check_domain(profile(email, verified=False), settings())


# ---- addresses -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "email",
    [
        "ada@example.org",
        " ADA@Example.ORG. ",
        "ada@bücher.example",
        "ada@xn--bcher-kva.example",
        "ada@xn--strae-oqa.example",
        "josé@example.org",
    ],
)
def test_a_provider_verified_an_address_that_it_spells_as_we_do(email: str) -> None:
    assert verified_address(profile(email)) == address_of(profile(email)) is not None
    assert verified_address(profile(email, verified=False)) is None


@pytest.mark.parametrize(
    ("email", "like"),
    [
        ("groß@example.org", "gross@example.org"),
        ("ad\u2170@example.org", "adi@example.org"),
        ("mi\u212ae@example.org", "mike@example.org"),
        ("\uff41da@example.org", "ada@example.org"),
        ("ada@straße.example", "ada@strasse.example"),
        ("ada@exampl\u212f.org", "ada@example.org"),
    ],
)
def test_and_not_for_another_that_looks_like_it(email: str, like: str) -> None:
    assert address_of(profile(email)) == like
    assert verified_address(profile(email)) is None


def test_an_address_has_one_spelling_and_what_is_none_is_none() -> None:
    assert address_of(profile("  Ada@EXAMPLE.org ")) == "ada@example.org"
    for email in ("", "ada", "ada@", "ada\x00@example.org", "\ud800@example.org", "@" * 1000):
        assert address_of(profile(email)) is None
