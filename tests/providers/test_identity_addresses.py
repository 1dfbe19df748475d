"""Sign-ins with a provider by address: the account that one joins, and an address that changes."""

from __future__ import annotations

import asyncio

import peewee
import pytest

from models.identity import Identity
from models.user import User
from services.accounts import link_rows
from services.oauth.errors import Reason, SignInRefused
from services.providers.authorization_requests import Link
from services.sessions.session_views import SignedIn
from tests.providers.sign_ins import (
    GRANT,
    account,
    emails,
    profile,
    refused,
    rows,
    session_of,
    set_user,
    settings,
    sign_in,
    two_nodes,
    users,
)
from tests.support.parts import node

# ---- joining -------------------------------------------------------------------------------


@pytest.mark.gen_test
@pytest.mark.parametrize("here", [True, False])
@pytest.mark.parametrize("there", [True, False])
async def test_an_account_with_the_address_is_joined_only_where_the_provider_verified_it(
    database_url: str, here: bool, there: bool
) -> None:
    async with node(database_url) as parts:
        user_id = await account(parts, verified=here)
        comes = profile(email="ADA@example.org", verified=there)
        if here and there:
            signed_in = await sign_in(parts, comes)
            assert signed_in.user.id == user_id
            (user,) = await users(parts)
            assert user["password_hash"] == "a hash", "both ways lead in"
        elif there:
            signed_in = await sign_in(parts, comes)
            assert signed_in.user.id == user_id
            (user,) = await users(parts)
            assert user["password_hash"] is None, "somebody else's, who never proved the address"
        else:
            assert "not verified on both sides" in await refused(parts, Reason.NO_ACCOUNT, comes)


@pytest.mark.gen_test
async def test_the_refusal_does_not_reveal_whether_an_address_is_in_use(
    database_url: str,
) -> None:
    closed = settings(signup=False)
    async with node(database_url) as parts:
        await account(parts, "grace@example.org", verified=False)
        for name in ("grace", "nobody"):
            who = profile("x", f"{name}@example.org", verified=False)
            await refused(parts, Reason.NO_ACCOUNT, who, closed)


@pytest.mark.gen_test
async def test_an_account_is_joined_by_one_account_of_each_provider(database_url: str) -> None:
    async with node(database_url) as parts:
        user_id = await account(parts)
        assert (await sign_in(parts)).user.id == user_id
        assert (await sign_in(parts, provider=settings("second"))).user.id == user_id
        with pytest.raises(SignInRefused, match="another account of this provider"):
            await sign_in(parts, profile("another"))
        assert len(await parts.database.run(rows, Identity)) == 2


@pytest.mark.gen_test
async def test_concurrent_joins_of_one_user_all_succeed(database_url: str) -> None:
    async with two_nodes(database_url) as both:
        user_id = await account(both[0])
        signed_in = await asyncio.gather(*(sign_in(both[number % 2]) for number in range(20)))
        assert {one.user.id for one in signed_in} == {user_id}
        assert len(await both[0].database.run(rows, Identity)) == 1


@pytest.mark.gen_test
async def test_of_two_concurrent_links_to_one_account_one_succeeds(database_url: str) -> None:
    async with two_nodes(database_url) as both:
        user_id = await account(both[0])
        outcomes = await asyncio.gather(
            *(sign_in(both[n % 2], profile(("ada", "eve")[n % 2])) for n in range(10)),
            return_exceptions=True,
        )
        assert len(await both[0].database.run(rows, Identity)) == 1
        let_in = [one for one in outcomes if isinstance(one, SignedIn)]
        kept_out = [one for one in outcomes if isinstance(one, SignInRefused)]
        assert {one.user.id for one in let_in} == {user_id}
        assert (len(let_in), len(kept_out)) == (5, 5)


@pytest.mark.gen_test
async def test_an_address_becomes_verified_when_the_provider_verified_it(
    database_url: str,
) -> None:
    async with node(database_url) as parts:
        await sign_in(parts, profile(verified=False))
        assert (await users(parts))[0]["email_verified"] is False
        await refused(parts, Reason.NO_ACCOUNT, provider=settings("second"))
        await sign_in(parts, profile(email="other@example.org"))
        assert await emails(parts) == {(await users(parts))[0]["id"]: ("other@example.org", True)}
        await sign_in(parts, profile(email="Ada@Example.org"))
        assert (await users(parts))[0]["email_verified"] is True
        await sign_in(parts, provider=settings("second"))
        assert len(await users(parts)) == 1


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "email", ["ada@straße.example", "ada@\u017ftrasse.example", "\uff41da@strasse.example"]
)
async def test_an_address_that_only_looks_like_another_opens_nothing(
    database_url: str, email: str
) -> None:
    async with node(database_url) as parts:
        user_id = await account(parts, "ada@strasse.example")
        await refused(parts, Reason.NO_ACCOUNT, profile(email=email))
        await parts.database.run(set_user, user_id, {"email": "ada@elsewhere.example"})
        mallory = await sign_in(parts, profile("mallory", email))
        verified = {row["id"]: row["email_verified"] for row in await users(parts)}
        assert verified == {user_id: True, mallory.user.id: False}


# ---- an address that changes -----------------------------------------------------------------


@pytest.mark.gen_test
async def test_an_address_follows_the_provider_and_the_old_one_is_another_users(
    database_url: str,
) -> None:
    async with node(database_url) as parts:
        ada = (await sign_in(parts, profile(email="old@example.org"))).user
        assert (await sign_in(parts, profile(email="new@example.org"))).user.id == ada.id
        assert await emails(parts) == {ada.id: ("new@example.org", True)}
        bob = (await sign_in(parts, profile("bob", "old@example.org"))).user
        assert bob.id != ada.id
        # Nor does the old address open hers by another provider.
        other = (await sign_in(parts, profile("b", "old@example.org"), settings("other"))).user
        assert other.id == bob.id
        assert (await sign_in(parts, profile(email="new@example.org"))).user.id == ada.id


@pytest.mark.gen_test
@pytest.mark.parametrize("email", ["straße@example.org", "new@example.org"])
async def test_an_unverified_new_address_makes_the_old_one_unverified(
    database_url: str, email: str
) -> None:
    async with node(database_url) as parts:
        ada = (await sign_in(parts, profile(email="old@example.org"))).user
        spelt_as_ours = email == "new@example.org"
        again = await sign_in(parts, profile(email=email, verified=not spelt_as_ours))
        assert again.user.id == ada.id
        assert await emails(parts) == {ada.id: ("old@example.org", False)}
        other_profile = profile("b", "old@example.org")
        await refused(parts, Reason.NO_ACCOUNT, other_profile, settings("other"))
        await sign_in(parts, profile(email="old@example.org"))
        assert await emails(parts) == {ada.id: ("old@example.org", True)}


@pytest.mark.gen_test
async def test_an_address_that_may_be_brought_back_opens_no_account_and_is_not_followed(
    database_url: str,
) -> None:
    async with node(database_url) as parts:
        ada = (await sign_in(parts, profile(email="ada@example.org"))).user

        def change(db: peewee.Database) -> None:
            user = User.select().where(User.id == ada.id).get(db)
            until = 7 * 86_400.0
            former = "before@example.org"
            link_rows.insert(db, "undo", user, "undo", parts.clock(), until, former)

        await parts.database.run(change)
        for verified in (True, False):
            taking = profile("thief", "before@example.org", verified=verified)
            await refused(parts, Reason.NO_ACCOUNT, taking)
        bob = (await sign_in(parts, profile("bob", "bob@example.org"))).user
        await sign_in(parts, profile("bob", "before@example.org"))
        assert (await emails(parts))[bob.id] == ("bob@example.org", False)
        await sign_in(parts, profile(email="before@example.org"))
        assert (await emails(parts))[ada.id] == ("before@example.org", True)


@pytest.mark.gen_test
async def test_so_does_one_that_another_account_has(database_url: str) -> None:
    async with node(database_url) as parts:
        bob = (await sign_in(parts, profile("bob", "bob@example.org"))).user
        ada = (await sign_in(parts, profile(email="old@example.org"))).user
        await sign_in(parts, profile(email="bob@example.org"))
        assert await emails(parts) == {
            bob.id: ("bob@example.org", True),
            ada.id: ("old@example.org", False),
        }
        await refused(parts, Reason.NO_ACCOUNT, profile("x", "old@example.org"), settings("other"))


@pytest.mark.gen_test
async def test_an_address_that_is_not_the_providers_does_not_follow(database_url: str) -> None:
    async with node(database_url) as parts:
        ada = (await sign_in(parts, profile(email="ada@example.org"))).user
        link = Link(ada.id, (await session_of(parts, ada.id)))
        work = profile("w", "ada@work.example")
        await parts.oauth.linked_accounts.link(settings("work"), work, GRANT, link)
        moved = profile("w", "lovelace@work.example")
        assert (await sign_in(parts, moved, settings("work"))).user.id == ada.id
        assert await emails(parts) == {ada.id: ("ada@example.org", True)}


@pytest.mark.gen_test
@pytest.mark.parametrize("verified", [True, False])
async def test_a_linked_identity_that_only_claims_the_address_does_not_move_the_account(
    database_url: str, verified: bool
) -> None:
    """Else a thief who links one changes the address without its owner knowing."""
    async with node(database_url) as parts:
        ada = (await sign_in(parts, profile(email="ada@example.org"))).user
        link, free = Link(ada.id, (await session_of(parts, ada.id))), settings("free")
        claiming = profile("thief", "ada@example.org", verified=False)
        await parts.oauth.linked_accounts.link(free, claiming, GRANT, link)
        await sign_in(parts, claiming, free)
        moved = profile("thief", "thief@example.net", verified=verified)
        assert (await sign_in(parts, moved, free)).user.id == ada.id
        assert await emails(parts) == {ada.id: ("ada@example.org", True)}


@pytest.mark.gen_test
async def test_an_address_that_another_user_has_there_now_is_verified_no_longer(
    database_url: str,
) -> None:
    async with node(database_url) as parts:
        first = await parts.user("First", "admin")
        ada = (await sign_in(parts, profile(email="old@example.org"))).user
        with pytest.raises(SignInRefused) as caught:
            await sign_in(parts, profile("bob", "old@example.org"))
        assert caught.value.reason is Reason.NO_ACCOUNT
        assert (await emails(parts))[ada.id] == ("old@example.org", False)
        assert first != ada.id, "an administrator's account is given to nobody anyway"
        await refused(parts, Reason.NO_ACCOUNT, profile("bob", "old@example.org"))
        await refused(parts, Reason.NO_ACCOUNT, profile("b", "old@example.org"), settings("other"))
        # She comes back with her new address, and the old one is free.
        await sign_in(parts, profile(email="new@example.org"))
        assert (await sign_in(parts, profile("bob", "old@example.org"))).user.id != ada.id


@pytest.mark.gen_test
async def test_an_unverified_address_changes_no_other_account(database_url: str) -> None:
    async with node(database_url) as parts:
        await sign_in(parts, profile(email="old@example.org"))
        claimed = profile("eve", "old@example.org", verified=False)
        await refused(parts, Reason.NO_ACCOUNT, claimed)
