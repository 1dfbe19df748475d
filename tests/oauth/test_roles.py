"""The role from a provider: the claim's location, and the meaning of its values."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.oauth.errors import Reason, SignInRefused
from services.oauth.roles import MAX_VALUES, role_of
from services.oauth.userinfo import ProviderProfile
from services.secret import Secret
from services.settings.providers import OAuthProvider

ROLES = (("staff", "user"), ("ops", "admin"), ("true", "admin"), ("7", "user"))


def profile(**claims: Any) -> ProviderProfile:
    return ProviderProfile("https://idp.example", "ada", None, "", False, "Ada", claims)


def settings(**more: Any) -> OAuthProvider:
    return OAuthProvider("idp", "https://idp.example", "client", Secret("secret"), **more)


def role(claim: str, claims: dict[str, Any]) -> str | None:
    return role_of(profile(**claims), settings(role_claim=claim, roles=ROLES))


def refuses(claim: str, claims: dict[str, Any]) -> bool:
    try:
        role(claim, claims)
    except SignInRefused as error:
        return error.reason is Reason.NOT_ALLOWED
    return False


def test_without_a_claim_in_the_settings_nothing_is_said_of_roles() -> None:
    assert role_of(profile(groups=["ops"]), settings()) is None


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
        ({"ops": {"276": "example.org"}}, "admin"),  # Zitadel
        ({"staff": {"276": "example.org"}, "ops": False}, "user"),
        ({"ops": 1}, "admin"),
    ],
)
def test_a_value_that_means_a_role_gives_it_and_of_several_the_highest(
    value: object, expected: str
) -> None:
    assert role("groups", {"groups": value}) == expected


@pytest.mark.parametrize(
    "value",
    ["", "Ops", "ops ", "opsx", "unknown", [], ["unknown"], False, [False], 0, 7.0, {},
     {"ops": False}, {"ops": None}, {"unknown": {}}, [["ops"]], [{"name": "ops"}],
     "staff,ops", "staff ops"],
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


@pytest.mark.parametrize(
    ("pointer", "claims", "expected"),
    [
        ("/groups", {"groups": ["ops"]}, "admin"),
        ("/resource_access/my.client/roles",
         {"resource_access": {"my.client": {"roles": ["ops"]}}}, "admin"),  # Keycloak
        ("/urn:zitadel:iam:org:project:roles",
         {"urn:zitadel:iam:org:project:roles": {"staff": {"276": "x.example"}}}, "user"),
        ("/https:~1~1usher.example~1roles", {"https://usher.example/roles": ["ops"]}, "admin"),
        ("/a~01b", {"a~1b": "ops"}, "admin"),
        ("/list/1", {"list": ["unknown", "staff"]}, "user"),
        ("/list/2", {"list": ["unknown", "staff"]}, None),
        ("/list/01", {"list": ["unknown", "staff"]}, None),
        ("/list/-1", {"list": ["unknown", "staff"]}, None),
        ("/", {"": "ops"}, "admin"),
        ("/a/b", {"a.b": "ops", "a": "b"}, None),
        ("/a/b", {"/a/b": "staff", "a": {"b": "ops"}}, "user"),
        ("list.1", {"list": ["unknown", "staff"]}, None),
    ],
)  # fmt: skip
def test_a_pointer_leads_to_what_dots_can_not_name(
    pointer: str, claims: dict[str, Any], expected: str | None
) -> None:
    assert role(pointer, claims) == expected


@pytest.mark.parametrize(
    ("claim", "claims"),
    [
        ("groups", {"_claim_names": {"groups": "src1"},
                    "_claim_sources": {"src1": {"endpoint": "https://graph.example/"}}}),
        ("groups", {"hasgroups": True}),
        ("groups", {"hasgroups": "true"}),
        ("/groups", {"_claim_names": {"groups": "src1"}}),
        ("realm_access.roles", {"_claim_names": {"realm_access": "src1"}}),
        ("https://usher.example/roles", {"_claim_names": {"https://usher.example/roles": "s"}}),
    ],
)  # fmt: skip
def test_a_claim_that_exists_and_is_not_in_the_token_is_refused(
    claim: str, claims: dict[str, Any]
) -> None:
    with pytest.raises(SignInRefused, match="overage") as caught:
        role(claim, claims)
    assert caught.value.reason is Reason.NOT_ALLOWED


@pytest.mark.parametrize(
    "claims",
    [
        {"_claim_names": {"address": "src1"}},
        {"_claim_names": ["groups"]},
        {"_claim_names": None, "hasgroups": False},
    ],
)
def test_another_claim_that_lies_elsewhere_says_nothing(claims: dict[str, Any]) -> None:
    assert role("groups", claims) is None
    assert role("groups", {"groups": ["staff"], **claims}) == "user"
    assert role("roles", {"hasgroups": True}) is None
