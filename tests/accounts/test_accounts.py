"""Accounts on SQLite and on PostgreSQL: signing up, the first admin, changing the password."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from services.accounts.passwords import PHC_PREFIX
from services.composition.upkeep import Upkeep
from services.errors import SignupRefused, Unauthenticated, UsherError, WeakPassword, WrongPassword
from services.sessions.session_views import SignedIn
from services.storage.database import Database
from tests.accounts.users import (
    OTHER,
    PASSWORD,
    THIRD,
    admins,
    counted,
    log_in,
    sign_up,
    two_nodes,
    users,
)
from tests.support.parts import DEVICE, node, open_socket, session_row

# ---- signing up ----------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_the_first_account_is_admin_and_the_next_is_not(database_url: str) -> None:
    async with node(database_url) as parts:
        first, second = await sign_up(parts), await sign_up(parts, "bob@example.org", " Bob ")
        assert (first.user.role, first.claims.role) == ("admin", "admin")
        assert (second.user.role, second.claims.role) == ("user", "user")
        assert second.user.name == "Bob"
        assert second.user.email == "bob@example.org"
        assert await parts.admission.login_states.of(second.claims) is not None


@pytest.mark.gen_test
async def test_an_address_that_two_race_for_is_one_account(database_url: str) -> None:
    async with two_nodes(database_url) as (here, there):
        racing = [sign_up(parts, f"u{n}@example.org") for n in range(5) for parts in (here, there)]
        outcomes = await asyncio.gather(*racing, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes].count(SignedIn) == 5
        assert [type(outcome) for outcome in outcomes].count(SignupRefused) == 5
        assert len(await admins(here)) == 1
        assert await here.database.run(counted) == (5, 5, 5)


class StartingLine:
    """Where sign-ups wait, their passwords hashed, until all of them can write at once."""

    def __init__(self, count: int) -> None:
        self.missing, self.start = count, asyncio.Event()

    def before(self, database: Database) -> Held:
        return Held(self, database)


class Held:
    """A real database, behind a starting line."""

    def __init__(self, line: StartingLine, database: Database) -> None:
        self.line, self.database = line, database

    async def run(self, work: Callable[..., Any], *args: Any) -> Any:
        self.line.missing -= 1
        if self.line.missing <= 0:
            self.line.start.set()
        await self.line.start.wait()
        return await self.database.run(work, *args)


@pytest.mark.slow
@pytest.mark.gen_test(timeout=100)
async def test_of_a_hundred_concurrent_sign_ups_exactly_one_is_admin(database_url: str) -> None:
    async with two_nodes(database_url) as (here, there):
        line = StartingLine(100)
        for parts in (here, there):
            parts.accounts._database = line.before(parts.database)  # type: ignore[assignment]
        outcomes = await asyncio.gather(
            *(sign_up((here, there)[n % 2], f"u{n}@example.org") for n in range(100))
        )
        assert [one.user.role for one in outcomes].count("admin") == 1
        assert len(await admins(here)) == 1
        assert await here.database.run(counted) == (100, 100, 100)


@pytest.mark.gen_test
async def test_two_spellings_of_an_address_are_one_account(database_url: str) -> None:
    async with node(database_url) as parts:
        login = await sign_up(parts, "Zoë@BÜCHER.example")
        with pytest.raises(SignupRefused) as caught:
            await sign_up(parts, " zoe\u0308@xn--bcher-kva.EXAMPLE")
        assert "zo" not in str(caught.value).lower()
        for spelling in ("ZOË@bücher.example", "zoë@xn--bcher-kva.example"):
            assert (await log_in(parts, spelling)).user.id == login.user.id
        assert parts.count("usher_sign_ins_total", outcome="signup_refused") == 1
        assert len(await parts.database.run(users)) == 1


@pytest.mark.parametrize(
    "password", ["short", "password123", "lovelace1815", "lovelace1815@example.org", "12345678"]
)
@pytest.mark.gen_test
async def test_a_weak_password_is_refused_with_advice_and_opens_nothing(
    database_url: str, password: str
) -> None:
    async with node(database_url) as parts:
        with pytest.raises(WeakPassword) as caught:
            await parts.accounts.sign_up(
                "lovelace1815@example.org", password, "Ada Lovelace", DEVICE
            )
        assert caught.value.public["suggestions"] or caught.value.public["warning"]
        assert await parts.database.run(users) == []


@pytest.mark.gen_test
async def test_the_database_holds_a_hash_and_no_password(database_url: str) -> None:
    async with node(database_url) as parts:
        await sign_up(parts)
        (user,) = await parts.database.run(users)
        assert user["password_hash"].startswith(PHC_PREFIX)
        assert PASSWORD not in repr(user)


# ---- changing the password -----------------------------------------------------------------


@pytest.mark.gen_test
async def test_a_new_password_ends_every_other_session_and_keeps_their_own(
    database_url: str,
) -> None:
    async with node(database_url) as parts:
        mine, other_user = await sign_up(parts), await sign_up(parts, "bob@example.org")
        other = await log_in(parts, "ada@example.org")
        peers = [await open_socket(parts, one) for one in (mine, other_user, other)]
        await parts.accounts.change_password(mine.user.id, mine.claims.sid, PASSWORD, OTHER)
        assert await peers[2].close_code() == 4410
        assert [peer.client.connection.is_open for peer in peers] == [True, True, False]
        await Upkeep(parts.database, parts.clock).purge()
        ended = await parts.database.run(session_row, other.claims.sid)
        assert (ended["end_reason"], ended["ended_at"]) == ("password_changed", parts.clock())
        with pytest.raises(Unauthenticated):
            await parts.refresh.rotation.refresh(other.refresh_token.reveal())
        await parts.refresh.rotation.refresh(mine.refresh_token.reveal())
        with pytest.raises(Unauthenticated):
            await log_in(parts, "ada@example.org")
        assert (await log_in(parts, "ada@example.org", OTHER)).user.id == mine.user.id


@pytest.mark.parametrize(
    ("current", "new", "error"),
    [
        (OTHER, THIRD, WrongPassword),
        ("", THIRD, WrongPassword),
        (PASSWORD, "short", WeakPassword),
        (PASSWORD, "ada@example.org", WeakPassword),
    ],
)
@pytest.mark.gen_test
async def test_a_refused_change_of_the_password_changes_nothing(
    database_url: str, current: str, new: str, error: type[UsherError]
) -> None:
    async with node(database_url) as parts:
        mine = await sign_up(parts)
        other = await log_in(parts, "ada@example.org")
        with pytest.raises(error):
            await parts.accounts.change_password(mine.user.id, mine.claims.sid, current, new)
        assert (await log_in(parts, "ada@example.org")).user == mine.user
        assert await parts.admission.login_states.of(other.claims) is not None


@pytest.mark.gen_test
async def test_without_a_password_there_is_nothing_to_change(database_url: str) -> None:
    async with node(database_url) as parts:
        for user_id in ("nobody", await parts.user()):
            with pytest.raises(WrongPassword):
                await parts.accounts.change_password(user_id, "sid", PASSWORD, OTHER)


@pytest.mark.gen_test
async def test_of_two_parallel_changes_one_wins(database_url: str) -> None:
    async with two_nodes(database_url) as (here, there):
        mine = await sign_up(here)
        ids = (mine.user.id, mine.claims.sid)
        outcomes = await asyncio.gather(
            here.accounts.change_password(*ids, PASSWORD, OTHER),
            there.accounts.change_password(*ids, PASSWORD, THIRD),
            return_exceptions=True,
        )
        assert [type(outcome) for outcome in outcomes].count(WrongPassword) == 1
        assert outcomes.count(None) == 1
        winner = (OTHER, THIRD)[outcomes.index(None)]
        assert (await log_in(here, "ada@example.org", winner)).user == mine.user


@pytest.mark.gen_test(timeout=60)
async def test_a_sign_in_that_races_with_a_password_change_leaves_no_session_of_the_old_one(
    database_url: str,
) -> None:
    async with two_nodes(database_url) as (here, there):
        mine = await sign_up(here)
        passwords = [PASSWORD, OTHER]
        for _ in range(5):
            old, new = passwords
            attempts = [log_in(there, "ada@example.org", old) for _ in range(4)]
            change = here.accounts.change_password(mine.user.id, mine.claims.sid, old, new)
            _, *outcomes = await asyncio.gather(change, *attempts, return_exceptions=True)
            for outcome in outcomes:
                assert isinstance(outcome, SignedIn | Unauthenticated)
            active = await here.login_sessions.active(mine.user.id)
            assert [row.id for row in active] == [mine.claims.sid]
            passwords.reverse()
