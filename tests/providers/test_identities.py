"""The account of a user of a provider: found, linked, created, or refused."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from models.identity import Identity
from models.oauth_token import OAuthToken
from services.accounts.display_names import MAX_NAME_LENGTH
from services.errors import NotFound
from services.oauth.errors import Reason, SignInRefused
from services.providers.identities import NAMELESS
from services.sessions.session_views import SignedIn
from tests.providers.sign_ins import (
    GRANT,
    IDP,
    account,
    identities,
    profile,
    refused,
    rows,
    settings,
    sign_in,
    two_nodes,
    users,
)
from tests.support.parts import DEVICE, node, session_row
from tests.support.redis import within

# ---- new people ----------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_user_new_gets_an_account_without_a_password(database_url: str) -> None:
    async with node(database_url) as parts:
        signed_in = await sign_in(parts, profile(sid="s-1"))
        assert parts.tokens.verify(signed_in.access_token.reveal()) == signed_in.claims
        (user,) = await users(parts)
        assert (user["id"], user["email"], user["name"]) == (
            signed_in.user.id,
            "ada@example.org",
            "Ada",
        )
        assert user["email_verified"] is True
        assert user["password_hash"] is None
        (identity,) = await parts.database.run(rows, Identity)
        assert (identity["provider"], identity["subject"], identity["issuer"]) == (
            "idp",
            "ada",
            IDP,
        )
        session = await parts.database.run(session_row, signed_in.claims.sid)
        assert session["method"] == "oauth:idp"
        assert (session["provider"], session["provider_subject"], session["provider_sid"]) == (
            "idp",
            "ada",
            "s-1",
        )
        (tokens,) = await parts.database.run(rows, OAuthToken)
        assert tokens["login_session"] == signed_in.claims.sid


@pytest.mark.gen_test
async def test_the_first_account_of_all_is_administrator_and_no_other(database_url: str) -> None:
    async with node(database_url) as parts:
        first = await sign_in(parts)
        second = await sign_in(parts, profile("grace", "grace@example.org"))
        assert (first.user.role, first.claims.role) == ("admin", "admin")
        assert (second.user.role, second.claims.role) == ("user", "user")


@pytest.mark.gen_test
async def test_of_concurrent_first_sign_ups_on_two_nodes_one_is_first(database_url: str) -> None:
    async with two_nodes(database_url) as both:
        signed_in = await asyncio.gather(
            *(
                sign_in(both[number % 2], profile(f"s-{number}", f"p{number}@example.org"))
                for number in range(20)
            )
        )
        assert sorted(one.user.role for one in signed_in) == ["admin"] + ["user"] * 19
        assert len({one.user.id for one in signed_in}) == 20
        assert sum(user["founder"] or 0 for user in await users(both[0])) == 1


@pytest.mark.gen_test
async def test_concurrent_sign_ins_of_a_new_user_create_one_account(database_url: str) -> None:
    async with two_nodes(database_url) as both:
        # Others race for the first place meanwhile: who loses that may lose another one.
        crowd = [
            profile(),
            profile("grace", "grace@example.org"),
            profile("eve", "eve@example.org"),
        ]
        signed_in = await asyncio.gather(
            *(sign_in(both[number % 2], crowd[number % 3]) for number in range(30))
        )
        assert len({one.user.id for one in signed_in}) == 3
        assert len({one.claims.sid for one in signed_in}) == 30
        assert len(await users(both[0])) == 3
        assert len(await both[0].database.run(rows, Identity)) == 3


@pytest.mark.gen_test
async def test_if_sign_up_is_off_only_existing_users_sign_in(
    database_url: str,
) -> None:
    closed = settings(signup=False)
    async with node(database_url) as parts:
        assert "disabled" in await refused(parts, Reason.NO_ACCOUNT, provider=closed)
        known = await sign_in(parts)
        assert (await sign_in(parts, provider=closed)).user.id == known.user.id
        joins = await account(parts, "grace@example.org")
        grace = profile("grace", "grace@example.org")
        assert (await sign_in(parts, grace, closed)).user.id == joins


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "email", ["", "ada", "ada@", "ada\x00@example.org", "\ud800@example.org", "a" * 1000]
)
async def test_a_new_user_needs_an_address(database_url: str, email: str) -> None:
    async with node(database_url) as parts:
        await refused(parts, Reason.NO_EMAIL, profile(email=email))
        known = await sign_in(parts)
        again = await sign_in(parts, profile(email=email))
        assert again.user.id == known.user.id, "whoever is known needs none"


@pytest.mark.gen_test
async def test_an_allowed_domain_is_asked_for_at_every_sign_in(database_url: str) -> None:
    async with node(database_url) as parts:
        known = await sign_in(parts)
        chosen = settings(email_domains=("example.org",))
        assert (await sign_in(parts, provider=chosen)).user.id == known.user.id
        for other in (profile(email="ada@example.com"), profile(verified=False), profile(email="")):
            await refused(parts, Reason.NOT_ALLOWED, other, chosen)


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Ada Lovelace", "Ada Lovelace"),
        ("  Ada  ", "Ada"),
        ("Zoë 🦉", "Zoë 🦉"),
        ("ada@example.org", "ada"),
        ("ada＠example.org", "ada"),  # noqa: RUF001 - full width, which reads the same
        ("ada﹫example.org", "ada"),
        ("Ada <ada@example.org>", "Ada <ada"),
        ("@ada", NAMELESS),
        ("", NAMELESS),
        ("   ", NAMELESS),
        ("A" * 1000, "A" * MAX_NAME_LENGTH),
        ("A" * (MAX_NAME_LENGTH - 1) + " B", "A" * (MAX_NAME_LENGTH - 1)),
        ("Ada\x00", NAMELESS),
        ("Ada\u202egnp.exe", NAMELESS),
        ("\ud800", NAMELESS),
        ("\u200d", NAMELESS),
    ],
)
async def test_a_name_can_be_shown_and_is_never_an_address(
    database_url: str, name: str, shown: str
) -> None:
    async with node(database_url) as parts:
        assert (await sign_in(parts, profile(name=name))).user.name == shown


# ---- known people --------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_known_user_comes_back_to_the_same_account_whatever_changed_there(
    database_url: str,
) -> None:
    async with node(database_url) as parts:
        first = await sign_in(parts)
        parts.clock.forward(60.0)
        again = await sign_in(parts, profile(email="New@Example.org", name="Countess"))
        assert again.user.id == first.user.id
        assert (again.user.email, again.user.name) == ("new@example.org", "Ada")
        (identity,) = await parts.database.run(rows, Identity)
        assert identity["email"] == "new@example.org"
        assert identity["last_used_at"] == parts.clock()
        assert identity["linked_at"] == parts.clock() - 60.0
        await sign_in(parts, profile(email=""))
        (identity,) = await parts.database.run(rows, Identity)
        assert identity["email"] == "new@example.org", "as it was last given"


@pytest.mark.gen_test
async def test_an_address_opens_nothing_that_is_another_users_now(database_url: str) -> None:
    async with node(database_url) as parts:
        ada = await sign_in(parts)
        await sign_in(parts, profile("grace", "grace@example.org"))
        found = await sign_in(parts, profile(email="grace@example.org"))
        assert found.user.id == ada.user.id


@pytest.mark.gen_test
async def test_subjects_are_compared_exactly_and_may_be_long(database_url: str) -> None:
    async with node(database_url) as parts:
        subjects = ["ada", "Ada", "ada ", "s" * 255, "zoë", "7"]
        found = [
            await sign_in(parts, profile(subject, f"p{number}@example.org"))
            for number, subject in enumerate(subjects)
        ]
        assert len({one.user.id for one in found}) == len(subjects)


@pytest.mark.gen_test
async def test_the_same_subject_of_another_issuer_is_another_user(database_url: str) -> None:
    async with node(database_url) as parts:
        await sign_in(parts)
        for other in ("https://other.example", IDP + "/", ""):
            said = await refused(parts, Reason.NO_ACCOUNT, profile(issuer=other))
            assert "another issuer" in said
        second = settings("second")
        elsewhere = profile(email="other@example.org", issuer="https://other.example")
        assert (await sign_in(parts, elsewhere, second)).user.email == "other@example.org"


@pytest.mark.gen_test
async def test_a_disabled_account_stays_out_by_every_door(database_url: str) -> None:
    async with node(database_url) as parts:
        await sign_in(parts, profile("root", "root@example.org"))
        ada = await sign_in(parts)
        await parts.administration.update(ada.user.id, None, True)
        await refused(parts, Reason.NOT_ALLOWED)
        await refused(parts, Reason.NOT_ALLOWED, provider=settings("second"))
        await parts.administration.update(ada.user.id, None, False)
        assert (await sign_in(parts)).user.id == ada.user.id


@pytest.mark.gen_test
async def test_a_user_may_sign_up_again_after_deleting_the_account(database_url: str) -> None:
    async with node(database_url) as parts:
        await sign_in(parts, profile("root", "root@example.org"))
        first = await sign_in(parts)
        await parts.administration.delete(first.user.id)
        again = await sign_in(parts)
        assert again.user.id != first.user.id


# ---- a provider that moves -----------------------------------------------------------------


@pytest.mark.gen_test
async def test_users_of_a_provider_with_a_new_issuer_keep_their_accounts(database_url: str) -> None:
    new = "https://new.example"
    async with node(database_url) as parts:
        ada = (await sign_in(parts)).user
        await refused(parts, Reason.NO_ACCOUNT, profile(issuer=new))
        await refused(parts, Reason.NO_ACCOUNT, profile(issuer=new), settings(former_issuer=new))
        moved = settings(former_issuer=IDP)
        assert (await sign_in(parts, profile(issuer=new), moved)).user.id == ada.id
        # From then on they are the new one's, also without the setting.
        assert (await sign_in(parts, profile(issuer=new))).user.id == ada.id
        await refused(parts, Reason.NO_ACCOUNT, profile(), settings())


# ---- meanwhile -----------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_signing_in_and_unlinking_at_once_do_not_wait_for_each_other(
    database_url: str,
) -> None:
    async with two_nodes(database_url) as both:
        for number in range(5):
            who = profile(f"s-{number}", f"p{number}@example.org")
            ada = await account(both[0], who.email)
            await sign_in(both[0], who)
            calls: list[Any] = [sign_in(both[n % 2], who) for n in range(6)]
            calls.insert(3, both[1].oauth.linked_accounts.unlink(ada, "idp", frozenset()))
            outcomes = await within(asyncio.gather(*calls, return_exceptions=True))
            assert isinstance(outcomes.pop(3), list)
            assert all(isinstance(one, (SignedIn, SignInRefused)) for one in outcomes), outcomes
            assert await both[0].login_sessions.active(ada) == [], "those that came before it"
            assert await both[0].database.run(rows, Identity) == []


@pytest.mark.gen_test
async def test_signing_in_while_the_account_is_deleted_leaves_nothing_half_done(
    database_url: str,
) -> None:
    async with two_nodes(database_url) as both:
        await sign_in(both[0], profile("root", "root@example.org"))
        for _ in range(5):
            ada = (await sign_in(both[0])).user.id
            calls: list[Any] = [sign_in(both[number % 2]) for number in range(4)]
            calls.insert(2, both[1].administration.delete(ada))
            outcomes = await within(asyncio.gather(*calls, return_exceptions=True))
            assert outcomes.pop(2) is None
            assert all(isinstance(one, (SignedIn, SignInRefused)) for one in outcomes), outcomes
            assert len(await users(both[0])) <= 2
            with pytest.raises(NotFound):
                await both[0].administration.delete(ada)


# ---- how fresh a sign-in is ------------------------------------------------------------------


@pytest.mark.gen_test
@pytest.mark.parametrize(("said", "counts"), [(None, 0.0), (-5000.0, -5000.0), (60.0, 0.0)])
async def test_a_sign_in_is_a_proof_of_when_the_provider_authenticated(
    database_url: str, said: float | None, counts: float
) -> None:
    async with node(database_url) as parts:
        now = parts.clock()
        earlier = msgspec.structs.replace(profile(), auth_time=None if said is None else now + said)
        signed_in = await identities(parts).sign_in(settings(), earlier, GRANT, DEVICE)
        assert signed_in.claims.auth_time == now + counts
        is_fresh = parts.freshness.is_fresh(signed_in.claims, signed_in.proof_epoch)
        assert is_fresh is (counts > -900)
