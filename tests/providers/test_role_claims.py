"""Roles that a claim of the provider gives and takes."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from services.oauth.errors import Reason, SignInRefused
from services.providers.role_claims import SIGN_INS, RoleClaims
from services.websocket.protocol import CloseCode
from tests.providers.sign_ins import (
    GRANT,
    identities,
    profile,
    refused,
    settings,
    sign_in,
    two_nodes,
    users,
    with_roles,
)
from tests.support.parts import DEVICE, node, open_socket
from tests.support.redis import within


@pytest.mark.gen_test
async def test_a_claim_gives_the_role_and_takes_it(database_url: str) -> None:
    chosen = with_roles()
    async with node(database_url) as parts:
        await sign_in(parts, profile("root", "root@example.org"))
        for groups, role in (
            (["staff"], "user"),
            (["staff", "ops"], "admin"),
            (None, "admin"),
            (["staff"], "user"),
            (None, "user"),
        ):
            claims: dict[str, Any] = {} if groups is None else {"groups": groups}
            signed_in = await sign_in(parts, profile(**claims), chosen)
            assert (signed_in.user.role, signed_in.claims.role) == (role, role)
            assert await parts.admission.login_states.of(signed_in.claims) is not None


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "claims",
    [
        {"groups": []},
        {"groups": ["guests"]},
        {"_claim_names": {"groups": "src1"}},  # Entra, with more than 200 groups
        {"hasgroups": True},
    ],
)
async def test_a_claim_that_gives_no_role_is_refused_and_takes_the_one_that_there_was(
    database_url: str, claims: dict[str, Any]
) -> None:
    chosen = with_roles()
    async with node(database_url) as parts:
        await refused(parts, Reason.NOT_ALLOWED, profile(**claims), chosen)
        await sign_in(parts, profile("root", "root@example.org"))
        before = await sign_in(parts, profile(groups=["ops"]), chosen)
        socket = await open_socket(parts, before)
        parts.clock.forward(1.0)
        with pytest.raises(SignInRefused) as caught:
            await sign_in(parts, profile(**claims), chosen)
        assert caught.value.reason is Reason.NOT_ALLOWED
        assert {user["email"]: user["role"] for user in await users(parts)} == {
            "root@example.org": "admin",
            "ada@example.org": "user",
        }
        assert await socket.close_code() == CloseCode.TOKEN_EXPIRED
        # Another person, and the last administrator, lose nothing by it.
        await refused(parts, Reason.NOT_ALLOWED, profile("eve", **claims), chosen)
        await refused(
            parts, Reason.NOT_ALLOWED, profile("root", "root@example.org", **claims), chosen
        )


@pytest.mark.gen_test
async def test_a_role_claim_that_never_comes_is_said_in_the_log(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    chosen = with_roles()
    async with node(database_url) as parts:
        one = identities(parts)
        for number in range(1, SIGN_INS + 1):
            assert "ROLE_CLAIM" not in caplog.text, number
            await one.sign_in(chosen, profile(department="x"), GRANT, DEVICE)
        assert caplog.text.count("ROLE_CLAIM groups was in none of the last 100 sign-ins") == 1
        assert "department" in caplog.text
        assert "example.org" not in caplog.text


def test_a_role_claim_that_comes_now_and_then_is_not(caplog: pytest.LogCaptureFixture) -> None:
    one, chosen = RoleClaims(), with_roles()
    for number in range(3 * SIGN_INS):
        one.record(chosen, {}, was_there=number % SIGN_INS == 0)
        one.record(settings("other"), {}, was_there=False)
    assert caplog.text == ""


@pytest.mark.gen_test
async def test_the_first_account_and_the_last_administrator_stay_what_they_are(
    database_url: str,
) -> None:
    chosen = with_roles()
    async with node(database_url) as parts:
        ada = await sign_in(parts, profile(groups=["staff"]), chosen)
        assert ada.user.role == "admin"
        grace = profile("grace", "grace@example.org", groups=["ops"])
        await sign_in(parts, grace, chosen)
        assert (await sign_in(parts, profile(groups=["staff"]), chosen)).user.role == "user"
        grace = profile("grace", "grace@example.org", groups=["staff"])
        assert (await sign_in(parts, grace, chosen)).user.role == "admin"


@pytest.mark.gen_test
async def test_of_two_administrators_who_lose_the_role_concurrently_one_keeps_it(
    database_url: str,
) -> None:
    chosen = with_roles()
    async with two_nodes(database_url) as both:
        crowd = [profile(f"s-{n}", f"p{n}@example.org", groups=["ops"]) for n in range(4)]
        for one in crowd:
            await sign_in(both[0], one, chosen)
        demoted = [msgspec.structs.replace(one, claims={"groups": ["staff"]}) for one in crowd]
        signed_in = await within(
            asyncio.gather(*(sign_in(both[n % 2], one, chosen) for n, one in enumerate(demoted)))
        )
        found = [user["role"] for user in await users(both[0])]
        assert found.count("admin") == 1
        assert sorted(one.user.role for one in signed_in) == sorted(found)


@pytest.mark.gen_test
async def test_a_changed_role_cuts_the_sockets_that_have_the_old_one(database_url: str) -> None:
    chosen = with_roles()
    async with node(database_url) as parts:
        await sign_in(parts, profile("root", "root@example.org"))
        before = await sign_in(parts, profile(groups=["ops"]), chosen)
        socket = await open_socket(parts, before)
        parts.clock.forward(1.0)
        after = await sign_in(parts, profile(groups=["staff"]), chosen)
        assert await socket.close_code() == CloseCode.TOKEN_EXPIRED
        assert (await open_socket(parts, after)).client is not None


@pytest.mark.gen_test
async def test_without_a_mapping_a_role_given_here_stays(database_url: str) -> None:
    async with node(database_url) as parts:
        await sign_in(parts, profile("root", "root@example.org"))
        ada = await sign_in(parts)
        await parts.administration.update(ada.user.id, "admin", None)
        assert (await sign_in(parts, profile(groups=["staff"]))).user.role == "admin"
