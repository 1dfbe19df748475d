from __future__ import annotations

import asyncio
import statistics
import threading
import time
from collections.abc import Awaitable, Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from zxcvbn import matching

from services.accounts.passwords import PHC_PREFIX, Passwords, Verdict
from services.errors import Busy, WeakPassword

GOOD = "violet-kettle-87-orbit"


@pytest.fixture
def passwords() -> Iterator[Passwords]:
    pool = Passwords()
    yield pool
    pool.close()


def run(work: Awaitable[Any]) -> Any:
    async def main() -> Any:
        return await work

    return asyncio.run(main())


def advice(passwords: Passwords, password: str, *hints: str) -> WeakPassword | None:
    try:
        run(passwords.check_strength(password, hints))
    except WeakPassword as error:
        return error
    return None


def test_the_right_password_is_distinguished_from_a_wrong_one(passwords: Passwords) -> None:
    phc = run(passwords.hash(GOOD))
    assert phc.startswith(PHC_PREFIX)
    assert run(passwords.verify(GOOD, phc)) == Verdict(ok=True)
    assert run(passwords.verify(GOOD + " ", phc)) == Verdict(ok=False)
    assert run(passwords.verify("", phc)) == Verdict(ok=False)


def test_two_hashes_of_one_password_differ(passwords: Passwords) -> None:
    assert run(passwords.hash(GOOD)) != run(passwords.hash(GOOD))


def test_no_account_is_never_ok(passwords: Passwords) -> None:
    assert run(passwords.verify(GOOD, None)) == Verdict(ok=False)


@pytest.mark.parametrize(
    "password",
    ["\U0001f511" * 20, "  leading and trailing  ", "x\0y" * 5, "\ud800" * 8, "a" * 1024],
)
def test_every_character_counts_and_none_is_cut_off(passwords: Passwords, password: str) -> None:
    phc = run(passwords.hash(password))
    assert run(passwords.verify(password, phc)).ok
    assert not run(passwords.verify(password[:-1], phc)).ok
    assert not run(passwords.verify(password + "a", phc)).ok


def test_one_password_typed_on_two_systems_is_the_same(passwords: Passwords) -> None:
    composed, decomposed, wide = "caf\u00e9 \u2460", "cafe\u0301 \u2460", "cafe\u0301 1"
    phc = run(passwords.hash(composed))
    assert run(passwords.verify(decomposed, phc)).ok
    assert run(passwords.verify(wide, phc)).ok
    assert not run(passwords.verify("cafe 1", phc)).ok


def test_other_parameters_ask_for_a_new_hash_when_the_password_is_right(
    passwords: Passwords,
) -> None:
    kdf = Argon2id(salt=b"s" * 16, length=32, iterations=1, lanes=1, memory_cost=8192)
    phc = kdf.derive_phc_encoded(GOOD.encode())
    assert run(passwords.verify(GOOD, phc)) == Verdict(ok=True, needs_rehash=True)
    assert run(passwords.verify("wrong", phc)) == Verdict(ok=False, needs_rehash=False)


@pytest.mark.parametrize(
    "phc",
    [
        "",
        "nonsense",
        "$2b$12$abcdefghijklmnopqrstuv",
        "$argon2i$v=19$m=19456,t=2,p=1$wAYWgcXVRocCyXgz5cch5A$AWXQgoxLARWJIKGqxs1co1Y",
        "$argon2id$v=19$m=1,t=2,p=1$wAYWgcXVRocCyXgz5cch5A$AWXQgoxLARWJIKGqxs1co1Y",
        "$argon2id$v=19$m=99999999999,t=2,p=1$wAYWgcXVRocCyXgz5cch5A$AWXQgoxLARWJIKGqxs1co1Y",
        "$argon2id$v=19$m=19456,t=2,p=1$!!!!$????",
        "$argon2id$v=19$m=19456,t=2,p=1$\u20ac\u20ac\u20ac$\u20ac",
    ],
)
def test_a_hash_that_cannot_be_read_is_not_ok_and_is_logged(
    passwords: Passwords, phc: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert run(passwords.verify(GOOD, phc)) == Verdict(ok=False)
    assert "cannot be read" in caplog.text
    assert GOOD not in caplog.text


def test_an_unknown_account_takes_the_time_of_a_known_one(passwords: Passwords) -> None:
    phc = run(passwords.hash(GOOD))

    async def timed(stored: str | None) -> float:
        before = time.perf_counter()
        await passwords.verify("wrong", stored)
        return time.perf_counter() - before

    async def measure() -> dict[str | None, float]:
        times: dict[str | None, list[float]] = {phc: [], None: []}
        for _ in range(9):
            for stored, list_ in times.items():
                list_.append(await timed(stored))
        return {stored: statistics.median(list_) for stored, list_ in times.items()}

    medians = asyncio.run(measure())
    # An early return would be a factor of a thousand.
    assert 0.4 < medians[None] / medians[phc] < 2.5


def test_the_first_unknown_account_does_not_pay_for_the_dummy_hash() -> None:
    async def measure() -> None:
        pool = Passwords(workers=1)
        await pool.hash(GOOD)  # what was queued before it is done as well
        assert pool._dummy.done()
        pool.close()

    asyncio.run(measure())


def test_more_than_may_wait_are_refused_and_the_place_comes_back() -> None:
    async def check() -> None:
        pool = Passwords(workers=1, max_waiting=2)
        tasks = [asyncio.ensure_future(pool.verify(GOOD, None)) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            await pool.verify(GOOD, None)
        await asyncio.gather(*tasks)
        assert not (await pool.verify(GOOD, None)).ok
        pool.close()

    asyncio.run(check())


def test_cancelled_callers_release_their_slots() -> None:
    async def check() -> None:
        pool = Passwords(workers=1, max_waiting=2)
        for _ in range(5):
            tasks = [asyncio.ensure_future(pool.verify(GOOD, None)) for _ in range(3)]
            await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            while True:
                try:
                    await pool.hash(GOOD)
                    break
                except Busy:
                    await asyncio.sleep(0.01)
        pool.close()

    asyncio.run(asyncio.wait_for(check(), 30))


def test_a_closed_pool_is_busy_and_its_threads_end() -> None:
    before = threading.active_count()

    async def check() -> None:
        pool = Passwords()
        await pool.hash(GOOD)
        pool.close()
        with pytest.raises(Busy):
            await pool.hash(GOOD)

    asyncio.run(check())
    deadline = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before


def test_the_loop_continues_while_passwords_are_hashed(passwords: Passwords) -> None:
    async def turns_of_the_loop() -> int:
        turns = 0
        hashing = asyncio.ensure_future(passwords.hash(GOOD))
        while not hashing.done():
            turns += 1
            await asyncio.sleep(0)
        return turns

    async def counted() -> list[int]:
        return [await turns_of_the_loop() for _ in range(7)]

    # Thousands. In the loop itself, or with the interpreter held, a hash takes three to five turns.
    assert statistics.median(asyncio.run(counted())) > 50


# -- strength -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "password", [GOOD, "correct horse battery staple", "ohdi7Aigh", GOOD + "." * 1000]
)
def test_a_password_that_is_hard_to_guess_passes(passwords: Passwords, password: str) -> None:
    assert advice(passwords, password, "ann@example.test", "Ann Example") is None


@pytest.mark.parametrize(
    "password", ["password1", "12345678", "qwertyuiop", "aaaaaaaaaaaa", "usher123"]
)
def test_what_is_guessed_first_is_refused_with_advice(passwords: Passwords, password: str) -> None:
    error = advice(passwords, password)
    assert error is not None
    assert error.code == "weak_password"
    assert all(isinstance(text, str) and text for text in _suggestions(error))
    assert _suggestions(error)
    assert isinstance(error.public["warning"], str)
    assert password not in str(error)


def _suggestions(error: WeakPassword) -> list[Any]:
    suggestions = error.public["suggestions"]
    assert isinstance(suggestions, list)
    return suggestions


@pytest.mark.parametrize(
    ("password", "says"),
    [("Xk3#vP9", "8"), ("", "8"), ("x" * 1025, "1,024"), ("e\u0301" * 7, "8")],
)
def test_the_refusal_of_a_password_names_the_allowed_length(
    passwords: Passwords, password: str, says: str
) -> None:
    error = advice(passwords, password)
    assert error is not None
    assert any(says in text for text in _suggestions(error))


def test_a_password_too_long_is_neither_hashed_nor_right(passwords: Passwords) -> None:
    with pytest.raises(WeakPassword):
        run(passwords.hash("x" * 1025))
    phc = run(passwords.hash("x" * 1024))
    assert not run(passwords.verify("x" * 1025, phc)).ok
    assert not run(passwords.verify("x" * 1_000_000, phc)).ok


def test_what_is_known_of_the_user_counts_as_guessed(passwords: Passwords) -> None:
    password = "wolfeschlegel42"
    assert advice(passwords, password) is None
    assert advice(passwords, password, "j.wolfeschlegel@example.test", "Jo") is not None
    assert advice(passwords, password) is None


def test_hints_of_one_call_are_gone_after_it(passwords: Passwords) -> None:
    advice(passwords, GOOD, "wolfeschlegel@example.test")
    assert matching.RANKED_DICTIONARIES["user_inputs"] == {}


LEET = "4@8({[<3694@1!|0$5+7%2"


@pytest.mark.parametrize("password", [LEET * 40, LEET * 3, "a" * 1024, "19" * 36, "p4$5w0rd" * 9])
def test_no_password_takes_long_to_score(passwords: Passwords, password: str) -> None:
    before = time.process_time()
    advice(passwords, password, *["a-b-c-d-e-f" * 1000] * 1000)
    # zxcvbn alone takes 3.4 s for LEET here, and stops the whole interpreter meanwhile.
    assert time.process_time() - before < 1.5


def test_leet_signs_do_not_make_a_common_password_strong(passwords: Passwords) -> None:
    assert advice(passwords, "p@$$w0rd1") is not None
