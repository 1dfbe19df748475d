"""Signing in on SQLite and on PostgreSQL: refusals, hashes, and wrong passwords."""

from __future__ import annotations

import asyncio
import statistics
import time

import msgspec
import pytest
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from services.accounts.passwords import PHC_PREFIX
from services.errors import RateLimited, SignupRefused, Unauthenticated, UsherError, WeakPassword
from services.sessions.session_views import Device
from tests.accounts.users import OTHER, PASSWORD, THIRD, log_in, set_user, sign_up, two_nodes, users
from tests.support.parts import DEVICE, Parts, node, settings_of_tests


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
