from __future__ import annotations

import pytest

from services.keyed_tokens import MAX_LENGTH, Checksums, KeyedTokens, Ours
from services.secret import Secret

OLD, NEW = (
    Secret("an old secret of the tests, 32 bytes"),
    Secret("a new secret of the tests, 32 bytes"),
)


def tokens(*secrets: Secret, purpose: str = "refresh") -> KeyedTokens:
    return KeyedTokens(secrets, purpose, "usher_rt")


def test_a_token_is_known_again_with_whom_it_was_made_for() -> None:
    mine = tokens(NEW, OLD)
    token = mine.make("ada").reveal()
    assert token.startswith("usher_rt.")
    assert mine.read(token) == Ours("ada", mine.key_id) == mine.outline(token)
    assert len({mine.make("ada").reveal() for _ in range(100)}) == 100


def test_after_a_rotation_older_tokens_are_known_until_their_secret_goes() -> None:
    token = tokens(OLD).make("ada").reveal()
    assert tokens(NEW, OLD).read(token) is not None
    assert tokens(NEW).read(token) is None
    assert tokens(NEW).outline(token) == Ours("ada", tokens(OLD).key_id)
    assert tokens(NEW, OLD).key_ids == {tokens(NEW).key_id, tokens(OLD).key_id}


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


def test_a_checksum_is_good_for_one_purpose_only() -> None:
    assert tokens(NEW).read(tokens(NEW, purpose="other").make("ada").reveal()) is None
    signed = Checksums([NEW], "one").sign("text")
    assert Checksums([OLD, NEW], "one").verify("text", signed)
    assert not Checksums([NEW], "two").verify("text", signed)
    assert not Checksums([OLD], "one").verify("text", signed)
    assert not Checksums([NEW], "one").verify("text\ud800", "\ud800")
