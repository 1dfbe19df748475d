"""Administration of accounts: the last administrator, disabling, deleting, signing out."""

from __future__ import annotations

import asyncio

import pytest

from services.errors import (
    LastAdmin,
    NotFound,
    Unauthenticated,
)
from tests.accounts.users import admins, counted, log_in, set_user, sign_up, two_nodes
from tests.support.parts import (
    node,
    open_socket,
)


@pytest.mark.gen_test
async def test_the_last_admin_has_to_stay(database_url: str) -> None:
    async with node(database_url) as parts:
        root, user = await sign_up(parts), await sign_up(parts, "bob@example.org")
        retired = await parts.user("Retired", "admin")
        await parts.database.run(set_user, retired, {"disabled_at": 1.0})
        peer = await open_socket(parts, root)
        for taking_away in (
            parts.administration.update(root.user.id, "user", None),
            parts.administration.update(root.user.id, None, True),
            parts.administration.update(root.user.id, "user", True),
            parts.administration.delete(root.user.id),
        ):
            with pytest.raises(LastAdmin):
                await taking_away
        assert await admins(parts) == [root.user.id]
        assert peer.client.connection.is_open
        assert (await parts.administration.update(root.user.id, "admin", False)).role == "admin"
        await parts.administration.update(user.user.id, "admin", None)
        await parts.administration.delete(root.user.id)
        assert await admins(parts) == [user.user.id]


@pytest.mark.gen_test
async def test_a_disabled_admin_may_be_taken_away(database_url: str) -> None:
    async with node(database_url) as parts:
        await sign_up(parts)
        retired = await parts.user("Retired", "admin")
        await parts.database.run(set_user, retired, {"disabled_at": 1.0})
        await parts.administration.update(retired, "user", None)
        await parts.administration.delete(retired)


@pytest.mark.gen_test(timeout=60)
async def test_administrators_who_remove_each_other_leave_one(database_url: str) -> None:
    async with two_nodes(database_url) as (here, there):
        pair = [await here.user("One", "admin"), await here.user("Two", "admin")]
        for _ in range(5):
            outcomes = await asyncio.gather(
                here.administration.update(pair[0], "user", None),
                there.administration.update(pair[1], None, True),
                return_exceptions=True,
            )
            assert [type(outcome) for outcome in outcomes].count(LastAdmin) == 1
            assert len(await admins(here)) == 1
            for user_id in pair:
                await here.administration.update(user_id, "admin", False)


@pytest.mark.gen_test
async def test_a_disabled_user_is_cut_off_and_may_come_back_when_enabled(database_url: str) -> None:
    async with node(database_url) as parts:
        root, user = await sign_up(parts), await sign_up(parts, "bob@example.org")
        peer, kept = await open_socket(parts, user), await open_socket(parts, root)
        row = await parts.administration.update(user.user.id, None, True)
        assert (row.disabled, row.role, row.email) == (True, "user", "bob@example.org")
        assert await peer.close_code() == 4410
        assert kept.client.connection.is_open
        assert await parts.admission.login_states.of(user.claims) is None
        for refused in (
            log_in(parts, "bob@example.org"),
            parts.refresh.rotation.refresh(user.refresh_token.reveal()),
        ):
            with pytest.raises(Unauthenticated):
                await refused
        assert not (await parts.administration.update(user.user.id, None, False)).disabled
        assert (await log_in(parts, "bob@example.org")).user == user.user
        assert await parts.admission.login_states.of(user.claims) is None, "what was ended stays so"


@pytest.mark.gen_test
async def test_a_deleted_user_leaves_nothing_behind_but_the_revocation(database_url: str) -> None:
    async with node(database_url) as parts:
        await sign_up(parts)
        user = await sign_up(parts, "bob@example.org")
        peer = await open_socket(parts, user)
        await parts.administration.delete(user.user.id)
        assert await peer.close_code() == 4410
        assert parts.revocations.ends(user.claims, user.generation)
        assert await parts.database.run(counted) == (1, 1, 1)
        with pytest.raises(Unauthenticated):
            await log_in(parts, "bob@example.org")
        with pytest.raises(Unauthenticated):
            await parts.accounts.profile(user.user.id)
        again = await sign_up(parts, "bob@example.org")
        assert again.user.id != user.user.id
        assert again.user.role == "user"


@pytest.mark.gen_test
async def test_a_change_of_role_closes_sockets_and_a_refresh_has_the_new_role(
    database_url: str,
) -> None:
    async with node(database_url) as parts:
        await sign_up(parts)
        user = await sign_up(parts, "bob@example.org")
        peer = await open_socket(parts, user)
        assert (await parts.administration.update(user.user.id, "admin", None)).role == "admin"
        assert await peer.close_code() == 4419
        parts.clock.forward(1)
        newer = await parts.refresh.rotation.refresh(user.refresh_token.reveal())
        assert newer.claims.role == "admin"
        kept = await open_socket(parts, newer)
        await parts.administration.update(user.user.id, "admin", None)
        assert kept.client.connection.is_open, "the same role again is no change"


@pytest.mark.parametrize("user_id", ["nobody", "", "x" * 5000, "a/b'\"%"])
@pytest.mark.gen_test
async def test_a_user_who_is_not_present_is_not_found(database_url: str, user_id: str) -> None:
    async with node(database_url) as parts:
        for asking in (
            parts.administration.update(user_id, "admin", None),
            parts.administration.update(user_id, None, None),
            parts.administration.delete(user_id),
            parts.administration.disconnect(user_id),
        ):
            with pytest.raises(NotFound):
                await asking


@pytest.mark.gen_test
async def test_a_user_is_signed_out_everywhere_by_an_admin(database_url: str) -> None:
    async with node(database_url) as parts:
        user = await sign_up(parts)
        logins = [user, await log_in(parts, "ada@example.org")]
        peers = [await open_socket(parts, login) for login in logins]
        assert await parts.administration.disconnect(user.user.id) == 2
        assert [await peer.close_code() for peer in peers] == [4410, 4410]
        assert await parts.administration.disconnect(user.user.id) == 0
        assert (await log_in(parts, "ada@example.org")).user == user.user


@pytest.mark.gen_test
async def test_accounts_are_listed_page_by_page(database_url: str) -> None:
    async with node(database_url) as parts:
        ids = sorted([await parts.user() for _ in range(7)])
        seen: list[str] = []
        while page := await parts.administration.page(seen[-1] if seen else "", 3):
            assert len(page) <= 3
            seen += [row.id for row in page]
        assert seen == ids


@pytest.mark.gen_test
async def test_a_profile_is_what_the_user_may_see(database_url: str) -> None:
    async with node(database_url) as parts:
        user = await sign_up(parts)
        assert await parts.accounts.profile(user.user.id) == user.user
