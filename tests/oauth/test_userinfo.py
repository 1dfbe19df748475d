"""Who a provider says that somebody is: the domain of an address, and what a claim gives."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.oauth.errors import Reason, SignInRefused
from services.oauth.userinfo import (
    MAX_VALUES,
    ProviderProfile,
    address_of,
    check_domain,
    role_of,
    vouched_address,
)
from services.secret import Secret
from services.settings.providers import OAuthProvider

ROLES = (("staff", "user"), ("ops", "admin"), ("true", "admin"), ("7", "user"))


def person(email: str = "ada@example.org", verified: bool = True, **claims: Any) -> ProviderProfile:
    return ProviderProfile("https://idp.example", "ada", None, email, verified, "Ada", claims)


def settings(**more: Any) -> OAuthProvider:
    return OAuthProvider("idp", "https://idp.example", "client", Secret("secret"), **more)


def role(claim: str, claims: dict[str, Any]) -> str | None:
    return role_of(person(**claims), settings(role_claim=claim, roles=ROLES))


def refuses(claim: str, claims: dict[str, Any]) -> bool:
    try:
        role(claim, claims)
    except SignInRefused as error:
        return error.reason is Reason.NOT_ALLOWED
    return False


# ---- domains -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "email",
    ["ada@example.org", " ADA@Example.ORG ", "ada@example.org.", "ada@xn--bcher-kva.example",
     "ada@bücher.example"],
)  # fmt: skip
def test_a_verified_address_in_an_allowed_domain_comes_in(email: str) -> None:
    allowed = settings(email_domains=("example.org", "xn--bcher-kva.example"))
    check_domain(person(email), allowed)


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
        check_domain(person(email), settings(email_domains=("example.org",)))
    assert caught.value.reason is Reason.NOT_ALLOWED
    assert "@" not in caught.value.evidence


def test_nor_does_an_address_that_the_provider_does_not_vouch_for() -> None:
    with pytest.raises(SignInRefused):
        check_domain(person(verified=False), settings(email_domains=("example.org",)))


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
        check_domain(person(email), settings(email_domains=(domain,)))


@pytest.mark.parametrize("email", ["", "ada@anywhere.example"])
def test_without_allowed_domains_everybody_comes_in(email: str) -> None:
    check_domain(person(email, verified=False), settings())


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
def test_a_provider_vouches_for_an_address_that_it_spells_as_we_do(email: str) -> None:
    assert vouched_address(person(email)) == address_of(person(email)) is not None
    assert vouched_address(person(email, verified=False)) is None


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
    assert address_of(person(email)) == like
    assert vouched_address(person(email)) is None


def test_an_address_has_one_spelling_and_what_is_none_is_none() -> None:
    assert address_of(person("  Ada@EXAMPLE.org ")) == "ada@example.org"
    for email in ("", "ada", "ada@", "ada\x00@example.org", "\ud800@example.org", "@" * 1000):
        assert address_of(person(email)) is None


# ---- roles ---------------------------------------------------------------------------------


def test_without_a_claim_in_the_settings_nothing_is_said_of_roles() -> None:
    assert role_of(person(groups=["ops"]), settings()) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("staff", "user"),
        ("ops", "admin"),
        (["staff"], "user"),
        (["ops"], "admin"),
        (["staff", "ops"], "admin"),
        (["ops", "staff"], "admin"),
        (["unknown", "staff"], "user"),
        ([None, {}, [], "staff"], "user"),
        (True, "admin"),
        ([True], "admin"),
        (7, "user"),
        ("7", "user"),
    ],
)
def test_a_value_that_means_a_role_gives_it_and_of_several_the_highest(
    value: object, expected: str
) -> None:
    assert role("groups", {"groups": value}) == expected


@pytest.mark.parametrize(
    "value",
    ["", "Ops", "ops ", "opsx", "unknown", [], ["unknown"], False, [False], 0, 7.0, {}, {"ops": 1},
     [["ops"]], [{"name": "ops"}], "staff,ops", "staff ops"],
)  # fmt: skip
def test_a_claim_that_is_there_and_means_no_role_is_refused(value: object) -> None:
    assert refuses("groups", {"groups": value})


def test_a_claim_that_is_not_there_says_nothing() -> None:
    assert role("groups", {}) is None
    assert role("groups", {"groups": None}) is None
    assert role("groups", {"Groups": ["ops"]}) is None


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({"realm_access": {"roles": ["ops"]}}, "admin"),
        ({"realm_access": {"roles": "staff"}}, "user"),
        ({"realm_access": {}}, None),
        ({"realm_access": "roles"}, None),
        ({"realm_access": ["roles"]}, None),
        ({"realm_access": None}, None),
        ({}, None),
        ({"realm_access.roles": ["staff"], "realm_access": {"roles": ["ops"]}}, "user"),
    ],
)
def test_a_path_with_dots_leads_inside_unless_a_claim_is_called_so(
    claims: dict[str, Any], expected: str | None
) -> None:
    assert role("realm_access.roles", claims) == expected


def test_a_claim_may_be_called_like_a_url() -> None:
    name = "https://usher.example/roles"
    assert role(name, {name: ["ops"]}) == "admin"
    assert refuses(name, {name: ["nothing"]})
    assert role(name, {}) is None


@pytest.mark.parametrize("path", [".", "..", "a.", ".a", "a..b"])
def test_a_path_that_leads_nowhere_says_nothing(path: str) -> None:
    assert role(path, {"a": {"b": "ops"}, "b": "ops"}) is None
    assert role(path, {"": {"": "ops", "a": "ops"}}) in (None, "admin")


def test_a_list_without_end_is_read_to_an_end() -> None:
    values: list[Any] = ["unknown"] * MAX_VALUES
    assert refuses("groups", {"groups": [*values, "ops"]})
    assert role("groups", {"groups": [*values[1:], "ops"]}) == "admin"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(claims=st.dictionaries(st.sampled_from(("a", "b", "a.b")), JSON))
def test_whatever_a_provider_says_ends_in_a_role_in_nothing_or_in_a_refusal(
    claims: dict[str, Any],
) -> None:
    assert refuses("a.b", claims) or role("a.b", claims) in (None, "user", "admin")
