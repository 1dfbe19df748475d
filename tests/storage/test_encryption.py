from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.installation import Installation
from services.errors import SettingError
from services.secret import Secret
from services.storage.encryption import (
    DecryptionFailed,
    Encryption,
    check_canary,
    generate_key,
    rotate_canary,
)
from tests.support.databases import opened


@given(plain=st.binary(max_size=500))
@settings(deadline=None, max_examples=30)
def test_what_is_encrypted_is_decrypted(plain: bytes) -> None:
    encryption = Encryption([generate_key()])
    assert encryption.decrypt(encryption.encrypt(plain)) == plain


def test_text_is_encrypted_as_utf_8_and_each_time_differently() -> None:
    encryption = Encryption([generate_key()])
    one, other = encryption.encrypt("grüße"), encryption.encrypt("grüße")
    assert one != other
    assert encryption.decrypt(one) == encryption.decrypt(other) == "grüße".encode()


def test_an_old_key_decrypts_and_rotation_puts_the_new_one_in_its_place() -> None:
    old, new = generate_key(), generate_key()
    ciphertext = Encryption([old]).encrypt("x")
    both = Encryption([new, old])
    assert both.decrypt(ciphertext) == b"x"
    assert Encryption([new]).decrypt(both.rotate(ciphertext)) == b"x"


@pytest.mark.parametrize("ciphertext", ["", "nonsense", "gAAAAA==", "ü", "\ud800"])
def test_what_is_no_ciphertext_fails_by_name(ciphertext: str) -> None:
    encryption = Encryption([generate_key()])
    with pytest.raises(DecryptionFailed):
        encryption.decrypt(ciphertext)
    with pytest.raises(DecryptionFailed):
        encryption.rotate(ciphertext)


def test_a_changed_ciphertext_or_another_key_fails_by_name() -> None:
    encryption = Encryption([generate_key()])
    ciphertext = encryption.encrypt("x" * 50)
    changed = ciphertext[:60] + ("A" if ciphertext[60] != "A" else "B") + ciphertext[61:]
    for key_ring, text in ((encryption, changed), (Encryption([generate_key()]), ciphertext)):
        with pytest.raises(DecryptionFailed):
            key_ring.decrypt(text)


@pytest.mark.parametrize("keys", [[], ["short"], ["not base64 \u00fc!"], ["\ud800"]])
def test_keys_that_are_invalid_are_refused_unseen(keys: list[str]) -> None:
    with pytest.raises(SettingError) as caught:
        Encryption([Secret(key) for key in keys])
    assert caught.value.name == "USHER_ENCRYPTION_KEYS"
    assert not any(key in str(caught.value) for key in keys)


def test_the_canary_knows_the_right_keys_from_wrong_ones_and_is_left_alone(
    database_url: str,
) -> None:
    right, wrong = Encryption([generate_key()]), Encryption([generate_key()])

    async def check() -> None:
        async with opened(database_url) as database:
            assert await check_canary(database, right)
            stored = await database.run(lambda db: Installation.select().get(db).value)
            assert not await check_canary(database, wrong)
            assert await database.run(lambda db: Installation.select().get(db).value) == stored
            assert await check_canary(database, right)

    asyncio.run(check())


def test_of_several_first_starts_at_once_one_canary_stays(database_url: str) -> None:
    async def check() -> None:
        rings = [Encryption([generate_key()]) for _ in range(4)]
        async with opened(database_url) as one, opened(database_url) as other:
            nodes = zip([one, other] * 2, rings, strict=True)
            results = await asyncio.gather(*(check_canary(*node) for node in nodes))
        assert sorted(results) == [False, False, False, True]

    asyncio.run(check())


def test_a_dropped_key_is_noticed_until_the_canary_was_rotated_too(database_url: str) -> None:
    old, new = generate_key(), generate_key()

    async def check() -> None:
        async with opened(database_url) as database:
            assert await check_canary(database, Encryption([old]))
            assert await check_canary(database, Encryption([new, old]))
            assert not await check_canary(database, Encryption([new]))
            with pytest.raises(DecryptionFailed):
                await rotate_canary(database, Encryption([new]))
            await rotate_canary(database, Encryption([new, old]))
            assert await check_canary(database, Encryption([new]))

    asyncio.run(check())
