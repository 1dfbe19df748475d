"""Accounts on SQLite and on PostgreSQL: addresses, the first admin, passwords, administration."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import peewee
import pytest
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from models.login_session import LoginSession, RefreshToken
from models.user import User
from services.accounts.passwords import PHC_PREFIX
from services.composition.upkeep import Upkeep
from services.errors import (
    RateLimited,
    SignupRefused,
    Unauthenticated,
    UsherError,
    WeakPassword,
    WrongPassword,
)
from services.sessions.session_views import Device, SignedIn
from services.storage.database import Database
from tests.support.parts import (
    DEVICE,
    Parts,
    node,
    open_socket,
    session_row,
    settings_of_tests,
)

PASSWORD, OTHER, THIRD = "a quiet heron at dusk 7", "brass lantern under 9 oaks", "tin 4 moss ruin"


@asynccontextmanager
async def two_nodes(database_url: str) -> AsyncIterator[tuple[Parts, Parts]]:
    async with node(database_url) as here, node(database_url, clock=here.clock) as there:
        yield here, there


async def sign_up(parts: Parts, email: str = "ada@example.org", name: str = "Ada") -> SignedIn:
    return await parts.accounts.sign_up(email, PASSWORD, name, DEVICE)


async def log_in(parts: Parts, email: str, password: str = PASSWORD) -> SignedIn:
    return await parts.accounts.log_in(email, password, DEVICE)


def users(db: peewee.Database) -> list[dict[str, Any]]:
    query: Any = User.select().order_by(User.id).dicts()
    return list(query.execute(db))


def set_user(db: peewee.Database, user_id: str, values: dict[str, Any]) -> None:
    User.update(values).where(User.id == user_id).execute(db)


def counted(db: peewee.Database) -> tuple[int, int, int]:
    sessions = LoginSession.select(LoginSession.id).execute(db)
    tokens = RefreshToken.select(RefreshToken.hash).execute(db)
    return len(users(db)), len(list(sessions)), len(list(tokens))


async def admins(parts: Parts) -> list[str]:
    found = await parts.database.run(users)
    return [u["id"] for u in found if u["role"] == "admin" and u["disabled_at"] is None]


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


# ---- signing in ----------------------------------------------------------------------------


@pytest.mark.gen_test
async def test_every_refusal_of_a_sign_in_looks_the_same(database_url: str) -> None:
    async with node(database_url) as parts:
        off, without = await sign_up(parts, "off@example.org"), await parts.user()
        await sign_up(parts)
        await parts.database.run(set_user, off.user.id, {"disabled_at": 1.0})
        refusals = []
        for email, password in (
            ("ada@example.org", OTHER),
            ("ada@example.org", ""),
            ("ada@example.org", "x" * 100_000),
            ("nobody@example.org", PASSWORD),
            ("off@example.org", PASSWORD),
            (f"{without.lower()}@example.org", PASSWORD),
            ("not an address", PASSWORD),
            ("\ud800@\x00", PASSWORD),
            ("", ""),
        ):
            with pytest.raises(Unauthenticated) as caught:
                await log_in(parts, email, password)
            error = caught.value
            refusals.append((type(error), error.status, error.code, error.title, error.public))
            assert "example.org" not in str(error)
        assert all(refusal == refusals[0] for refusal in refusals)
        assert parts.count("usher_sign_ins_total", outcome="refused") == len(refusals)


@pytest.mark.gen_test(timeout=60)
async def test_an_unknown_account_takes_as_long_as_a_wrong_password(database_url: str) -> None:
    async with node(database_url) as parts:
        await sign_up(parts)
        taken: dict[str, list[float]] = {"ada@example.org": [], "nobody@example.org": [], "?": []}
        for _ in range(9):
            for email, times in taken.items():
                start = time.process_time()  # of all threads, and of no other process
                with pytest.raises(Unauthenticated):
                    await log_in(parts, email, OTHER)
                times.append(time.process_time() - start)
        known, unknown, none = (statistics.median(times) for times in taken.values())
        assert known / 3 < unknown < known * 3
        assert known / 3 < none < known * 3


@pytest.mark.gen_test
async def test_a_hash_of_older_parameters_is_renewed_at_the_next_sign_in(database_url: str) -> None:
    async with node(database_url) as parts:
        login = await sign_up(parts)
        await parts.database.run(set_user, login.user.id, {"password_hash": old_hash()})
        with pytest.raises(Unauthenticated):
            await log_in(parts, "ada@example.org", OTHER)
        (user,) = await parts.database.run(users)
        assert user["password_hash"] == old_hash(), "a wrong password renews nothing"
        await log_in(parts, "ada@example.org")
        (user,) = await parts.database.run(users)
        assert user["password_hash"].startswith(PHC_PREFIX)
        await log_in(parts, "ada@example.org")
        (after,) = await parts.database.run(users)
        assert after == user, "today's hash stays"


def old_hash() -> str:
    kdf = Argon2id(salt=b"s" * 16, length=32, iterations=1, lanes=1, memory_cost=8192)
    return kdf.derive_phc_encoded(PASSWORD.encode())


@pytest.mark.gen_test
async def test_parallel_sign_ins_that_renew_the_same_hash_all_succeed(database_url: str) -> None:
    async with two_nodes(database_url) as (here, there):
        login = await sign_up(here)
        await here.database.run(set_user, login.user.id, {"password_hash": old_hash()})
        outcomes = await asyncio.gather(
            *(log_in(parts, "ada@example.org") for parts in (here, there) for _ in range(5))
        )
        assert {one.user.id for one in outcomes} == {login.user.id}


async def guess(parts: Parts, times: int, ip: str, email: str = "ada@example.org") -> list[str]:
    """Wrong passwords, all at once; returns the codes of their refusals."""

    async def one() -> str:
        try:
            await parts.accounts.log_in(email, OTHER, Device("Other", ip))
        except UsherError as error:
            return error.code
        return "signed in"

    return list(await asyncio.gather(*(one() for _ in range(times))))


FEW = msgspec.structs.replace(settings_of_tests(), limit_wrong_signins=5)
ATTACKER = "2001:db8:bad::"


@pytest.mark.gen_test
async def test_of_parallel_wrong_passwords_exactly_so_many_are_looked_at(database_url: str) -> None:
    async with node(database_url, settings=FEW) as parts:
        await sign_up(parts)
        codes = await guess(parts, 12, ATTACKER)
        assert sorted(codes) == ["rate_limited"] * 7 + ["unauthenticated"] * 5
        # The whole /64 is one address, and whichever account it tries next.
        assert await guess(parts, 1, f"{ATTACKER}7", "eve@example.org") == ["rate_limited"]
        assert await guess(parts, 1, "2001:db8:bad:1::") == ["unauthenticated"]


@pytest.mark.gen_test
async def test_unauthenticated_clients_do_not_lock_out_the_owner_on_a_known_device_or_address(
    database_url: str,
) -> None:
    async with node(database_url, settings=FEW) as parts:
        await sign_up(parts)
        kept = parts.accounts.devices.token("ada@example.org")
        for number in range(15):  # from many addresses, until the account's share is used up
            await guess(parts, 4, f"198.51.100.{number}")
        assert await guess(parts, 1, "198.51.100.99") == ["rate_limited"]
        with pytest.raises(RateLimited):
            await parts.accounts.log_in("ada@example.org", PASSWORD, Device("New", "203.0.113.1"))
        known = Device("Known", "203.0.113.1", kept)
        await parts.accounts.log_in("ada@example.org", PASSWORD, known)
        await log_in(parts, "ada@example.org")


@pytest.mark.gen_test
async def test_an_owner_signs_in_from_an_address_that_unauthenticated_clients_have_used_up(
    database_url: str,
) -> None:
    async with node(database_url, settings=FEW) as parts:
        await sign_up(parts)
        await guess(parts, 5, DEVICE.ip, "eve@example.org")
        assert await guess(parts, 1, DEVICE.ip, "eve@example.org") == ["rate_limited"]
        await log_in(parts, "ada@example.org")


@pytest.mark.gen_test
async def test_a_known_device_may_not_guess_for_ever_either(database_url: str) -> None:
    async with node(database_url, settings=FEW) as parts:
        await sign_up(parts)
        kept = parts.accounts.devices.token("ada@example.org")

        async def wrong() -> str:
            with pytest.raises(UsherError) as refused:
                await parts.accounts.log_in(
                    "ada@example.org", OTHER, Device("Known", "203.0.113.1", kept)
                )
            return refused.value.code

        codes = await asyncio.gather(*(wrong() for _ in range(8)))
        assert sorted(codes) == ["rate_limited"] * 3 + ["unauthenticated"] * 5


@pytest.mark.gen_test
async def test_valid_ones_are_never_counted(database_url: str) -> None:
    async with node(database_url, settings=FEW) as parts:
        for number in range(3):
            await parts.accounts.sign_up(f"u{number}@example.org", PASSWORD, "U", DEVICE)
        for number in range(12):
            await log_in(parts, f"u{number % 3}@example.org")
        assert await guess(parts, 1, DEVICE.ip) == ["unauthenticated"]


@pytest.mark.gen_test
async def test_sign_ins_of_one_user_are_limited(database_url: str) -> None:
    settings = msgspec.structs.replace(settings_of_tests(), limit_signins=2)
    async with node(database_url, settings=settings) as parts:
        await sign_up(parts)
        await log_in(parts, "ada@example.org")
        await log_in(parts, "ada@example.org")
        with pytest.raises(RateLimited) as refused:
            await log_in(parts, "ada@example.org")
        assert 3590 < refused.value.retry_after <= 3600


@pytest.mark.gen_test
async def test_sign_ups_of_one_address_are_limited(database_url: str) -> None:
    settings = msgspec.structs.replace(settings_of_tests(), limit_signups=2)
    async with node(database_url, settings=settings) as parts:
        with pytest.raises(WeakPassword):  # no account came of it
            await parts.accounts.sign_up("u@example.org", "password", "U", DEVICE)
        await sign_up(parts)
        with pytest.raises(SignupRefused):
            await sign_up(parts)
        with pytest.raises(RateLimited):
            await parts.accounts.sign_up("u@example.org", PASSWORD, "U", DEVICE)
        elsewhere = Device("Phone", "198.51.100.9")
        await parts.accounts.sign_up("u@example.org", PASSWORD, "U", elsewhere)


@pytest.mark.gen_test
async def test_guessing_in_a_session_is_limited_and_other_sessions_are_not(
    database_url: str,
) -> None:
    async with node(database_url, settings=FEW) as parts:
        mine = await sign_up(parts)
        stolen = await log_in(parts, "ada@example.org")

        async def change(sid: str, current: str) -> str:
            try:
                await parts.accounts.change_password(mine.user.id, sid, current, OTHER)
            except UsherError as error:
                return error.code
            return "changed"

        codes = await asyncio.gather(*(change(stolen.claims.sid, THIRD) for _ in range(8)))
        assert sorted(codes) == ["rate_limited"] * 3 + ["wrong_password"] * 5
        assert await change(stolen.claims.sid, PASSWORD) == "rate_limited"
        await log_in(parts, "ada@example.org")
        assert await change(mine.claims.sid, PASSWORD) == "changed"


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
