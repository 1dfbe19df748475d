"""The account of a user of a provider: found, linked, created, or refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import peewee
import pytest

from models.identity import Identity
from models.login_session import LoginSession
from models.oauth_token import OAuthToken
from models.user import User
from services.accounts import link_rows
from services.accounts.display_names import MAX_NAME_LENGTH
from services.errors import NotFound
from services.oauth.errors import Reason, SignInRefused
from services.oauth.token_endpoint import Grant
from services.oauth.userinfo import ProviderProfile
from services.providers.authorization_requests import Link
from services.providers.identities import NAMELESS, Identities
from services.providers.role_claims import SIGN_INS, RoleClaims
from services.secret import Secret
from services.sessions.session_views import SignedIn
from services.settings.providers import OAuthProvider
from services.websocket.protocol import CloseCode
from tests.support.parts import (
    DEVICE,
    Parts,
    node,
    open_socket,
    session_row,
    settings_of_tests,
)
from tests.support.redis import within

IDP = "https://idp.example"
PASSWORD = "a quiet heron at dusk 7"
GRANT = Grant(Secret("the access token"), Secret("the refresh token"), None, "openid", None)


def settings(name: str = "idp", **more: Any) -> OAuthProvider:
    return OAuthProvider(name, IDP, "client", Secret("secret"), **more)


def with_roles() -> OAuthProvider:
    return settings(role_claim="groups", roles=(("staff", "user"), ("ops", "admin")))


def profile(
    subject: str = "ada",
    email: str = "ada@example.org",
    verified: bool = True,
    name: str = "Ada",
    issuer: str = IDP,
    sid: str | None = None,
    **claims: Any,
) -> ProviderProfile:
    return ProviderProfile(issuer, subject, sid, email, verified, name, claims)


def identities(parts: Parts) -> Identities:
    return Identities(
        parts.database,
        parts.login_sessions,
        parts.revocations,
        parts.oauth.tokens,
        parts.registration.rules,
        parts.registration.handovers,
        parts.clock,
    )


async def sign_in(
    parts: Parts, who: ProviderProfile | None = None, provider: OAuthProvider | None = None
) -> SignedIn:
    return await identities(parts).sign_in(provider or settings(), who or profile(), GRANT, DEVICE)


async def refused(
    parts: Parts,
    reason: Reason,
    who: ProviderProfile | None = None,
    provider: OAuthProvider | None = None,
) -> str:
    """A sign-in that is refused and leaves everything as it was. Returns its evidence."""
    before = await parts.database.run(everything)
    with pytest.raises(SignInRefused) as caught:
        await sign_in(parts, who, provider)
    assert caught.value.reason is reason
    assert "@" not in caught.value.evidence
    assert await parts.database.run(everything) == before
    return caught.value.evidence


@asynccontextmanager
async def two_nodes(database_url: str) -> AsyncIterator[tuple[Parts, Parts]]:
    shared = settings_of_tests()
    async with (
        node(database_url, settings=shared) as here,
        node(database_url, clock=here.clock, settings=shared) as there,
    ):
        yield here, there


def everything(db: peewee.Database) -> list[list[Any]]:
    tables: tuple[type[peewee.Model], ...] = (User, Identity, LoginSession, OAuthToken)
    return [sorted(map(repr, table.select().tuples().execute(db))) for table in tables]


async def session_of(parts: Parts, user_id: str) -> str:
    found = await parts.database.run(rows, LoginSession)
    return next(str(row["id"]) for row in found if row["user"] == user_id)


def rows(db: peewee.Database, table: type[peewee.Model]) -> list[dict[str, Any]]:
    query: Any = table.select().dicts()
    return list(query.execute(db))


async def users(parts: Parts) -> list[dict[str, Any]]:
    return await parts.database.run(rows, User)


def set_user(db: peewee.Database, user_id: str, values: dict[str, Any]) -> None:
    User.update(values).where(User.id == user_id).execute(db)


async def account(
    parts: Parts, email: str = "ada@example.org", verified: bool = True, **values: Any
) -> str:
    """An account with a password, as far as a sign-in at a provider goes. Returns its id."""
    user_id = await parts.user()
    values = {"email": email, "email_verified": verified, "password_hash": "a hash", **values}
    await parts.database.run(set_user, user_id, values)
    return user_id


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


async def emails(parts: Parts) -> dict[str, tuple[str, bool]]:
    return {u["id"]: (u["email"], bool(u["email_verified"])) for u in await users(parts)}


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


# ---- roles ---------------------------------------------------------------------------------


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
