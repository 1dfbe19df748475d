from __future__ import annotations

import pytest

from services.keyed_tokens import MAX_LENGTH, Checksums, KeyedTokens, Keyring, Ours
from services.secret import Secret

OLD, NEW = (
    Secret("an old secret of the tests, 32 bytes"),
    Secret("a new secret of the tests, 32 bytes"),
)


def tokens(*secrets: Secret, purpose: str = "refresh") -> KeyedTokens:
    return KeyedTokens(Keyring(secrets, purpose), "usher_rt")


def test_a_token_is_recognised_with_the_user_it_was_issued_for() -> None:
    mine = tokens(NEW, OLD)
    token = mine.make("ada").reveal()
    assert token.startswith("usher_rt.")
    assert mine.read(token) == Ours("ada", mine.keyring.signing_id) == mine.outline(token)
    assert len({mine.make("ada").reveal() for _ in range(100)}) == 100


def test_after_a_rotation_older_tokens_verify_until_their_secret_is_removed() -> None:
    token = tokens(OLD).make("ada").reveal()
    assert tokens(NEW, OLD).read(token) is not None
    assert tokens(NEW).read(token) is None
    assert tokens(NEW).outline(token) == Ours("ada", tokens(OLD).keyring.signing_id)


def test_no_part_of_a_token_can_be_changed() -> None:
    mine = tokens(NEW)
    token = mine.make("ada").reveal()
    for place in range(len(token)):
        other = "A" if token[place] != "A" else "B"
        assert mine.read(token[:place] + other + token[place + 1 :]) is None


@pytest.mark.parametrize(
    "junk",
    ["", ".", "....", "usher_rt....", "ü" * 99, "\ud800", "a.b.c.d.e", "x" * (MAX_LENGTH + 1)],
)
def test_junk_is_none_of_ours(junk: str) -> None:
    assert tokens(NEW).read(junk) is None


def test_a_checksum_is_valid_for_one_purpose_only() -> None:
    assert tokens(NEW).read(tokens(NEW, purpose="other").make("ada").reveal()) is None
    signed = Checksums(Keyring([NEW], "one")).sign("text")
    assert Checksums(Keyring([OLD, NEW], "one")).verify("text", signed)
    assert not Checksums(Keyring([NEW], "two")).verify("text", signed)
    assert not Checksums(Keyring([OLD], "one")).verify("text", signed)
    assert not Checksums(Keyring([NEW], "one")).verify("text\ud800", "\ud800")


def test_a_new_secret_verifies_at_once_and_signs_when_other_nodes_know_it() -> None:
    mine, newest = tokens(OLD), tokens(NEW)
    mine.keyring.replace([NEW, OLD], settle=3600)
    assert newest.read(mine.make("ada").reveal()) is None
    assert mine.read(newest.make("ada").reveal()) is not None
    mine.keyring.replace([NEW, OLD])
    assert newest.read(mine.make("ada").reveal()) is not None
    mine.keyring.replace([OLD], settle=3600)  # what signed is gone: there is nothing to wait for
    assert tokens(OLD).read(mine.make("ada").reveal()) is not None
